"""Intervals of accuracy: against plain computations, and their coverage by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest

from evalkit.analysis.stats import accuracy_interval

# Two-sided 95 % quantiles of Student's t from printed tables.
T = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776}


def plain(videos: list[list[int]]) -> tuple[float, float]:
    """Percent and half-width by the textbook formula, one video after the other."""
    n = sum(len(v) for v in videos)
    share = sum(sum(v) for v in videos) / n
    squares = 0.0
    for video in videos:
        squares += sum(right - share for right in video) ** 2
    count = len(videos)
    return 100 * share, 100 * T[count - 1] * math.sqrt(count / (count - 1) * squares) / n


def interval(videos: list[list[int]]) -> accuracy_interval.Interval:
    return accuracy_interval.accuracy(
        [bool(right) for video in videos for right in video],
        [f"video {number}" for number, video in enumerate(videos) for _ in video],
    )


@pytest.mark.parametrize(
    "videos",
    [
        [[1, 1, 0], [0, 0, 1], [1, 0, 1], [1, 1, 1]],
        [[1], [0, 0, 0, 0, 1], [1, 1]],
        [[1, 1, 1], [0, 0, 0]],
        [[0, 1], [1, 1], [0, 0], [1, 0, 1, 1], [1]],
        [[0, 1, 1, 0, 1], [1, 1, 0, 0, 1, 0], [0, 1, 0, 1], [1, 0, 1, 1], [0, 1, 1, 0, 0, 1]],
    ],
)
def test_equals_the_plain_formula(videos: list[list[int]]) -> None:
    percent, half_width = plain(videos)
    ours = interval(videos)
    assert (ours.n, ours.clusters) == (sum(map(len, videos)), len(videos))
    assert ours.percent == pytest.approx(percent)
    low, high = max(0, percent - half_width), min(100, percent + half_width)
    assert ours.low == pytest.approx(low, rel=1e-3)
    assert ours.high == pytest.approx(high, rel=1e-3)
    assert ours.half_width == pytest.approx(max(percent - low, high - percent), rel=1e-3)


def test_hand_computed() -> None:
    """Videos 3 of 4, 2 of 4, 2 of 4, 1 of 4: residuals 1, 0, 0, -1; SE = sqrt(4/3 · 2) / 16 = 0.102062."""
    ours = interval([[1, 1, 1, 0], [1, 1, 0, 0], [0, 0, 1, 1], [1, 0, 0, 0]])
    assert ours.percent == 50
    assert ours.half_width == pytest.approx(100 * 3.182 * 0.102062, rel=1e-3)
    assert (ours.low, ours.high) == (pytest.approx(50 - ours.half_width), pytest.approx(50 + ours.half_width))


def test_an_interval_ends_at_0_and_100() -> None:
    ours = interval([[1, 1], [0, 0], [1, 0]])
    assert (ours.low, ours.high, ours.half_width) == (0, 100, 50)


def test_order_and_names_do_not_matter() -> None:
    correct = [True, False, True, True, False, True]
    videos = ["a", "a", "b", "b", "c", "c"]
    order = [3, 0, 5, 1, 4, 2]
    shuffled = accuracy_interval.accuracy(
        [correct[i] for i in order], [{"a": 9, "b": 2, "c": 5}[videos[i]] for i in order]
    )
    assert shuffled == accuracy_interval.accuracy(correct, videos)


def test_one_video_has_no_interval() -> None:
    ours = interval([[1, 0, 1]])
    assert ours.percent == pytest.approx(200 / 3)
    assert all(math.isnan(x) for x in (ours.low, ours.high, ours.half_width))


def test_no_answers() -> None:
    ours = accuracy_interval.accuracy([], [])
    assert (ours.n, ours.clusters) == (0, 0)
    assert math.isnan(ours.percent)
    assert math.isnan(ours.half_width)


@pytest.mark.parametrize("right", [0, 1])
def test_no_spread_is_not_certainty(right: int) -> None:
    """Wilson with 5 videos as trials and t(4): the far end at t² / (5 + t²)."""
    ours = interval([[right] * 7] * 5)
    reach = 100 * T[4] ** 2 / (5 + T[4] ** 2)
    assert ours.percent == 100 * right
    assert ours.half_width == pytest.approx(reach, rel=1e-3)
    expected = (100 - reach, 100) if right else (0, reach)
    assert (ours.low, ours.high) == (pytest.approx(expected[0], abs=0.1), pytest.approx(expected[1], abs=0.1))


@pytest.mark.parametrize("video", [[1, 0, 0], [1] + [0] * 9, [1, 1, 0, 1, 0, 0, 0]])
def test_equal_shares_that_floats_cannot_hold(video: list[int]) -> None:
    """1/3 in every video: rounding must not turn a zero variance into a tiny one."""
    ours = interval([video] * 4)
    assert ours.half_width > 20
    assert ours.low < ours.percent < ours.high


def test_lengths_must_agree() -> None:
    with pytest.raises(ValueError, match="2 answers and 1 clusters"):
        accuracy_interval.accuracy([True, False], ["a"])


def coverage(*, clustered: bool, simulations: int = 1000, videos: int = 50, questions: int = 15) -> float:
    """Share of intervals that hold the truth, 60 %, when videos differ (correlation inside a video 0.2)."""
    rng = np.random.default_rng(20250101)
    strength = 1 / 0.2 - 1  # Beta(p·s, (1-p)·s) has intra-class correlation 1 / (1 + s)
    skill = rng.beta(0.6 * strength, 0.4 * strength, size=(simulations, videos, 1))
    correct = (rng.random((simulations, videos, questions)) < skill).reshape(simulations, -1)
    numbers = np.arange(videos * questions)
    clusters = (numbers // questions if clustered else numbers).tolist()
    ours = [accuracy_interval.accuracy(row.tolist(), clusters) for row in correct]
    return sum(one.low <= 60 <= one.high for one in ours) / simulations


def test_intervals_cover() -> None:
    assert 0.93 <= coverage(clustered=True) <= 0.97


def test_intervals_that_ignore_videos_do_not_cover() -> None:
    assert coverage(clustered=False) < 0.85


def test_few_videos_still_cover() -> None:
    """Ten videos: the t quantile and G/(G-1) carry this; with 1.96 and no factor it would be about 0.90."""
    assert 0.92 <= coverage(clustered=True, videos=10) <= 0.97
