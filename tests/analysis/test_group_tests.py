"""The sign-flip test of many columns at once against the test of a single difference."""

from __future__ import annotations

import numpy as np
import pytest

from evalkit.analysis.stats.group_tests import sign_flips
from evalkit.analysis.stats.paired_tests import change


def single(sums: np.ndarray) -> float:
    """One video a sum, each as so many questions that moved."""
    ours, theirs, videos = [], [], []
    for video, moved in enumerate(sums.tolist()):
        for _ in range(max(1, abs(int(moved)))):
            ours.append(float(moved > 0))
            theirs.append(float(moved < 0))
            videos.append(video)
    return change(ours, theirs, videos).p_sign_flip


def test_each_column_as_the_single_test() -> None:
    draw = np.random.default_rng(3)
    sums = np.stack([draw.integers(-2, 3, 40) - shift for shift in (0, 0, 1)], axis=1)
    sums = np.concatenate([sums, draw.integers(-1, 2, (40, 1)) * (np.arange(40) < 6)[:, None]], axis=1)
    found = sign_flips(sums)
    assert found == pytest.approx([single(column) for column in sums.T], abs=0.02)
    assert found[2] < 0.001 < 0.05 < found.max()  # the shifted column, and no other


def test_one_video_alone_shows_nothing() -> None:
    sums = np.array([[5, 0], [0, 0], [0, 0]])
    assert sign_flips(sums).tolist() == [1.0, 1.0]


def test_the_smallest_value_bears_a_correction_over_hundreds() -> None:
    assert sign_flips(np.ones((40, 1)))[0] == pytest.approx(1 / 20_001)
