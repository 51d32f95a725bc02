"""Paired differences against values worked out by hand and simulated coverage."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from evalkit.analysis.stats import paired_tests
from evalkit.analysis.stats.paired_tests import change, difference, expected_ci_half_width, holm


def test_by_hand() -> None:
    ours = [True] * 8 + [False] * 2
    theirs = [True] * 4 + [False] * 5 + [True]
    found = difference(ours, theirs, [f"v{i // 2}" for i in range(10)])
    assert (found.n, found.videos, found.gained, found.lost) == (10, 5, 4, 1)
    assert found.delta_pp == pytest.approx(30)
    assert found.p_mcnemar == pytest.approx(2 * (1 + 5) / 32)  # binomial(5, ½): at most 1 or at least 4
    assert found.ci_low < 30 < found.ci_high


def test_direction_and_no_difference() -> None:
    right, wrong = [True] * 6, [False] * 6
    videos = list("aabbcc")
    assert difference(wrong, right, videos).delta_pp == -100
    same = difference(right, right, videos)
    assert (same.delta_pp, same.ci_low, same.ci_high, same.p_mcnemar) == (0, 0, 0, 1)


def test_marks_in_between_by_hand() -> None:
    """Per-video sums 1 - 0.25 + 0 - 0.5 = 0.25, 1 - 0 + 1 - 1 = 1 and 0 - 0.75 = -0.75; 0.5 over 5 questions."""
    found = change([1, 0, 1, 1, 0], [0.25, 0.5, 0, 1, 0.75], list("aabbc"))
    assert (found.n, found.videos, found.delta_pp) == (5, 3, pytest.approx(10))
    assert found.p_sign_flip == pytest.approx(
        6 / 8
    )  # ±0.25 ±1 ±0.75: 2, 1.5, 0.5, 0 and their negatives; 0 alone is nearer
    assert found.ci_low < 10 < found.ci_high


def test_right_and_wrong_are_marks() -> None:
    rng = np.random.default_rng(1)
    ours, theirs = rng.random((2, 60)) < 0.5
    videos = [i // 3 for i in range(60)]
    found = vars(difference(ours, theirs, videos))
    plain = vars(change(ours.astype(float), theirs.astype(float), videos))
    assert {key: found[key] for key in plain} == plain
    assert set(found) - set(plain) == {"gained", "lost", "p_mcnemar"}
    assert plain != vars(change(theirs.astype(float), ours.astype(float), videos))


def test_rounding_makes_no_difference_where_there_is_none() -> None:
    """0.3 - 0.1 - 0.2 is -3e-17 in floats. Five such videos have no sign: of ten others all patterns are counted."""
    assert 0.3 - 0.1 - 0.2 != 0
    ours, theirs = [1.0] * 10 + [0.3, 0, 0] * 5, [0.0] * 10 + [0, 0.1, 0.2] * 5
    videos = [*range(10), *(f"same {i // 3}" for i in range(15))]
    assert change(ours, theirs, videos).p_sign_flip == pytest.approx(2 / 2**10, rel=1e-9)


def scipys(sums: np.ndarray, sizes: np.ndarray, seed: int) -> tuple[float, float, float]:
    """Interval and p-value by scipy's own bootstrap and permutation test."""
    interval = stats.bootstrap(
        (sums, sizes),
        lambda k, m, axis: 100 * k.sum(axis=axis) / m.sum(axis=axis),
        paired=True,
        n_resamples=paired_tests.RESAMPLES,
        batch=700,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    moved, rng = sums[sums != 0], np.random.default_rng(seed)
    test = stats.permutation_test(
        (moved,), np.sum, permutation_type="samples", n_resamples=paired_tests.RESAMPLES, batch=700, rng=rng
    )
    return interval.low, interval.high, test.pvalue


@pytest.mark.parametrize(("videos", "marks"), [(4, False), (13, False), (30, False), (30, True), (120, False)])
def test_numbers_are_scipys(videos: int, marks: bool) -> None:
    """To the bit, as right and wrong add up without rounding; marks in between give the same interval."""
    rng = np.random.default_rng(videos)
    sizes = rng.integers(1, 16, videos)
    clusters = np.repeat([f"{video:03}" for video in range(videos)], sizes).tolist()
    ours, theirs = rng.random((2, len(clusters))).round(2) if marks else rng.random((2, len(clusters))) < 0.5
    found = change(ours.astype(float), theirs.astype(float), clusters, seed=3)
    sums, _ = paired_tests._by_cluster(ours.astype(float), theirs.astype(float), clusters)
    low, high, p = scipys(sums, sizes, seed=3)
    assert (found.ci_low, found.ci_high) == (low, high)
    assert found.p_sign_flip == (pytest.approx(p, abs=1e-3) if marks else p)
    if videos > 4:  # the negative control: other draws
        assert (low, high, p) != scipys(sums, sizes, seed=4)


def test_one_video_gives_no_interval() -> None:
    found = difference([True, False], [False, False], ["v", "v"])
    assert math.isnan(found.ci_low)
    assert found.delta_pp == 50


def test_lengths_must_agree() -> None:
    with pytest.raises(ValueError, match="one entry per question"):
        difference([True], [True, False], ["a", "b"])
    with pytest.raises(ValueError, match="came 2, 2 and 1"):
        change([1, 0], [0, 1], ["a"])


def test_it_is_seeded() -> None:
    rng = np.random.default_rng(0)
    ours, theirs = rng.random((2, 60)) < 0.5
    videos = [i // 3 for i in range(60)]
    assert difference(ours, theirs, videos) == difference(ours, theirs, videos)


def test_the_order_of_questions_changes_nothing() -> None:
    rng = np.random.default_rng(1)
    ours, theirs = (rng.random((2, 60)) < 0.5).tolist()
    videos = [f"v{i // 4}" for i in range(60)]
    order = rng.permutation(60)
    mixed = difference(*([values[i] for i in order] for values in (ours, theirs, videos)))
    assert mixed == difference(ours, theirs, videos)


@pytest.mark.parametrize(("n", "half"), [(2700, 1.2), (1549, 1.6), (100, 6.2)])
def test_expected_half_width(n: int, half: float) -> None:
    assert expected_ci_half_width(n) == pytest.approx(half, abs=0.05)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []


def test_holm_leaves_out_rows_that_test_nothing() -> None:
    assert holm([0.02, 1.0, 0.03, 1.0]) == pytest.approx([0.08, 1, 0.09, 1])
    without = holm([0.02, 1.0, 0.03, 1.0], without=[False, True, False, True])
    assert without[::2] == pytest.approx([0.04, 0.04])
    assert all(map(math.isnan, without[1::2]))
    assert holm([0.02, math.nan, 0.03]) == pytest.approx([0.04, math.nan, 0.04], nan_ok=True)


def test_mcnemar_rejects_too_many_true_nulls_where_questions_share_videos(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fifteen questions a video that move together, no difference on average: why it stands behind the sign flips."""
    monkeypatch.setattr(paired_tests, "RESAMPLES", 300)
    monkeypatch.setattr(paired_tests, "_interval", lambda *_: (math.nan, math.nan))  # of no use here
    rng = np.random.default_rng(5)
    videos = np.repeat(np.arange(40), 15)
    rejected = {"McNemar": 0, "sign flip": 0}
    for _ in range(400):
        shift = rng.normal(0.0, 0.3, (2, 40))[:, videos]
        ours, theirs = rng.random((2, 600)) < np.clip(0.5 + shift, 0, 1)
        found = difference(ours, theirs, videos.tolist())
        rejected["McNemar"] += found.p_mcnemar < 0.05
        rejected["sign flip"] += found.p_sign_flip < 0.05
    assert rejected["McNemar"] / 400 > 0.25
    assert 0.02 <= rejected["sign flip"] / 400 <= 0.08


@pytest.mark.slow
def test_intervals_cover_and_item_level_ones_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the better method depends on the video, questions of a video move together."""
    monkeypatch.setattr(paired_tests, "RESAMPLES", 400)
    monkeypatch.setattr(paired_tests, "_sign_flip", lambda *_: math.nan)  # of no use here
    rng = np.random.default_rng(3)
    videos = np.repeat(np.arange(60), 15)
    hits = {"video": 0, "item": 0}
    for trial in range(1000):
        lift = rng.normal(0.0, 0.3, 60)[videos]
        ours = rng.random(900) < np.clip(0.5 + lift, 0, 1)
        theirs = rng.random(900) < 0.5
        for kind, clusters in (("video", videos), ("item", np.arange(900)))[: 2 if trial < 200 else 1]:
            found = difference(ours, theirs, clusters.tolist())
            hits[kind] += found.ci_low <= 0 <= found.ci_high
    assert 0.93 <= hits["video"] / 1000 <= 0.97
    assert hits["item"] / 200 < 0.80


def test_sign_flips_by_hand() -> None:
    """Three videos of +1: 2 of 8 patterns as far from 0. +2 and +1: 2 of 4. Videos without a change have no sign."""
    assert change([True] * 3, [False] * 3, "abc").p_sign_flip == pytest.approx(2 / 8)
    assert change([True, True, True, True], [False, False, False, True], "aabc").p_sign_flip == pytest.approx(2 / 4)
    assert change([True] * 10, [False] * 10, range(10)).p_sign_flip == pytest.approx(2 / 1024)
    assert change([True, True], [False, True], "ab").p_sign_flip == 1
    assert change([], [], []).p_sign_flip == 1


def test_sign_flips_respect_videos_and_mcnemar_does_not() -> None:
    """Twelve gains and no loss look certain; all from three videos they are not."""
    ours, theirs, videos = [True] * 12, [False] * 12, [i // 4 for i in range(12)]
    assert change(ours, theirs, videos).p_sign_flip == pytest.approx(2 / 8)
    found = difference(ours, theirs, videos)
    assert (found.p_mcnemar, found.p_sign_flip) == (pytest.approx(2 / 2**12), pytest.approx(2 / 8))
    assert change(ours, theirs, range(12)).p_sign_flip == pytest.approx(2 / 2**12)
