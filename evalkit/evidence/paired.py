"""Differences of two runs on the same questions: bootstrap and permutation over videos, McNemar's exact test."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

LEVEL = 0.95
RESAMPLES = 10_000
FLIPS = 0.1  # share of questions that change in `expected_half_width`


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Ours minus theirs, in points of percent. nan where the data cannot say."""

    n: int  # questions that both answered
    clusters: int  # videos
    points: float
    low: float
    high: float
    gained: int  # right in ours alone
    lost: int  # right in theirs alone
    p: float  # McNemar, two-sided
    expected_half_width: float  # of an interval at 10 % flips: what so many questions can show


def difference(
    ours: Sequence[bool], theirs: Sequence[bool], clusters: Sequence[Hashable], *, seed: int = 0
) -> Difference:
    """Paired difference of accuracy with a 95 % interval clustered by video.

    All three have one entry per question (ValueError otherwise). The interval is the percentile bootstrap over videos
    (scipy.stats.bootstrap, paired per-video sums, 10,000 resamples, seeded); fewer than two videos give none.
    """
    if not len(ours) == len(theirs) == len(clusters):
        raise ValueError(f"expected one entry per question, came {len(ours)}, {len(theirs)} and {len(clusters)}")
    mine, other = np.asarray(ours, dtype=bool), np.asarray(theirs, dtype=bool)
    gained, lost = int((mine & ~other).sum()), int((other & ~mine).sum())
    n = len(mine)
    sums, sizes = _by_cluster(mine.astype(int) - other.astype(int), clusters)
    low, high = _interval(sums, sizes, seed)
    return Difference(
        n=n,
        clusters=len(sizes),
        points=100 * (gained - lost) / n if n else math.nan,
        low=low,
        high=high,
        gained=gained,
        lost=lost,
        p=float(stats.binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0,
        expected_half_width=expected_half_width(n),
    )


def sign_flip(ours: Sequence[bool], theirs: Sequence[bool], clusters: Sequence[Hashable], *, seed: int = 0) -> float:
    """Two-sided p-value of the paired difference under random exchange of the two runs, video by video.

    Arguments as in `difference`. A video's sum of differences keeps or changes its sign (scipy.stats.permutation_test);
    all sign patterns are counted where there are at most 10,000, else as many are drawn, seeded. Unlike McNemar's test
    it lets the questions of a video depend on each other.
    """
    mine, other = np.asarray(ours, dtype=int), np.asarray(theirs, dtype=int)
    sums = _by_cluster(mine - other, clusters)[0]
    if np.count_nonzero(sums) < 2:
        return 1.0  # either sign of a single video is as far from 0
    result = stats.permutation_test(
        (sums[sums != 0],),  # a video without a difference has no sign
        np.sum,
        permutation_type="samples",
        vectorized=True,
        n_resamples=RESAMPLES,
        batch=1000,
        rng=np.random.default_rng(seed),
    )
    return float(result.pvalue)


def expected_half_width(n: int) -> float:
    """Half the interval of a difference, in points, where 10 % of `n` independent questions flip either way."""
    return 100 * float(stats.norm.ppf((1 + LEVEL) / 2)) * math.sqrt(FLIPS / n) if n else math.nan


def holm(values: Sequence[float]) -> list[float]:
    """p-values adjusted for all of a table's rows (Holm 1979, Scand. J. Statistics 6)."""
    adjusted, highest = [0.0] * len(values), 0.0
    for rank, index in enumerate(sorted(range(len(values)), key=lambda i: values[i])):
        highest = max(highest, min(1.0, (len(values) - rank) * values[index]))
        adjusted[index] = highest
    return adjusted


def _by_cluster(change: np.ndarray, clusters: Sequence[Hashable]) -> tuple[np.ndarray, np.ndarray]:
    numbers: dict[Hashable, int] = {}
    index = np.asarray([numbers.setdefault(cluster, len(numbers)) for cluster in clusters], dtype=int)
    return np.bincount(index, weights=change, minlength=len(numbers)), np.bincount(index, minlength=len(numbers))


def _interval(sums: np.ndarray, sizes: np.ndarray, seed: int) -> tuple[float, float]:
    if len(sizes) < 2:
        return math.nan, math.nan

    def points(k: np.ndarray, m: np.ndarray, axis: int = -1) -> np.ndarray:
        share: np.ndarray = 100 * k.sum(axis=axis) / m.sum(axis=axis)
        return share

    result = stats.bootstrap(
        (sums, sizes),
        points,
        paired=True,
        vectorized=True,
        n_resamples=RESAMPLES,
        batch=1000,
        confidence_level=LEVEL,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    return float(result.confidence_interval.low), float(result.confidence_interval.high)
