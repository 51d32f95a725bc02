"""Means of any numbers, clustered by video, against numbers made by hand and against the interval of accuracies."""

from __future__ import annotations

import math
import random

import pytest

from evalkit.analysis.stats import accuracy_interval
from evalkit.analysis.stats.clustered_mean import clustered_mean


def test_by_hand() -> None:
    """Sums 3 and -1 of two questions each, mean 1/2: residuals 2, -2; SE² = 2/1 · 8 / 16 = 1; t(1) is 12.706."""
    found = clustered_mean([1.0, 2.0, -1.0, 0.0], ["a", "a", "b", "b"])
    assert (found.n, found.clusters, found.mean, found.error, found.z) == (4, 2, 0.5, 1.0, 0.5)
    assert (found.low, found.high) == pytest.approx((0.5 - 12.7062, 0.5 + 12.7062), abs=1e-4)


def test_right_and_wrong_have_the_accuracys_interval() -> None:
    draw = random.Random(3)
    videos = [n // 4 for n in range(120)]
    right = [draw.random() < 0.5 for _ in videos]
    plain = accuracy_interval.accuracy(right, videos)
    found = clustered_mean([100.0 * one for one in right], videos)
    assert (found.mean, found.low, found.high) == pytest.approx((plain.percent, plain.low, plain.high))
    alone = clustered_mean([100.0 * one for one in right], range(120))
    assert alone.error != pytest.approx(found.error)


def test_no_interval_where_the_data_cannot_say() -> None:
    assert math.isnan(clustered_mean([1.0, 2.0], ["a", "a"]).low)
    same = clustered_mean([0.1, 0.2, 0.3], ["a", "b", "b"])
    assert not math.isnan(same.low)
    equal = clustered_mean([0.3, 0.1, 0.2], ["a", "b", "b"])
    assert equal.error > 0
    constant = clustered_mean([0.1] * 3, ["a", "b", "c"])
    assert (constant.mean, constant.error) == pytest.approx((0.1, 0))
    assert math.isnan(constant.low)
    assert math.isnan(constant.z)
    assert math.isnan(clustered_mean([], []).mean)
    with pytest.raises(ValueError, match="2 values and 1"):
        clustered_mean([1.0, 2.0], ["a"])
