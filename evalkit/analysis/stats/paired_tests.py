"""Differences on the same questions: bootstrap and sign flips over videos, McNemar's exact test for right and wrong."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import ndtri

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

LEVEL = 0.95
RESAMPLES = 10_000
FLIPS = 0.1  # share of questions that change in `expected_ci_half_width`


@dataclass(frozen=True, kw_only=True)
class Change:
    """Mean score of ours minus theirs, in percentage points. nan where it cannot be computed."""

    n: int  # questions with a score in both
    videos: int  # the clusters of the interval
    delta_pp: float
    ci_low: float
    ci_high: float
    p_sign_flip: float  # signs exchanged video by video, two-sided
    expected_ci_half_width: float  # of n independent questions of which 10 % flip


@dataclass(frozen=True, kw_only=True)
class Difference(Change):
    """A change between two runs whose scores are right or wrong."""

    gained: int  # right in ours alone
    lost: int  # right in theirs alone
    p_mcnemar: float  # exact, two-sided


def change(ours: Sequence[float], theirs: Sequence[float], clusters: Sequence[Hashable], *, seed: int = 0) -> Change:
    """Paired difference of mean scores, with a 95 % interval clustered by video.

    All three have one entry per question (ValueError otherwise); a score is 1 for right and 0 for wrong. The interval
    is the percentile bootstrap over videos (scipy.stats.bootstrap, paired per-video sums, 10,000 resamples, seeded);
    fewer than two videos give none.
    """
    sums, sizes = _by_cluster(ours, theirs, clusters)
    n = len(clusters)
    low, high = _interval(sums, sizes, seed)
    return Change(
        n=n,
        videos=len(sizes),
        delta_pp=100 * float(sums.sum()) / n if n else math.nan,
        ci_low=low,
        ci_high=high,
        p_sign_flip=_sign_flip(sums, seed),
        expected_ci_half_width=expected_ci_half_width(n),
    )


def difference(
    ours: Sequence[bool], theirs: Sequence[bool], clusters: Sequence[Hashable], *, seed: int = 0
) -> Difference:
    """The change between two runs, and McNemar's exact test of the questions that only one of the two has right.

    Arguments as in `change`. McNemar's test takes all questions as independent, sign flips only the videos: where those
    of a video move together McNemar's rejects far more true nulls than it says, so that nothing is decided by it.
    """
    found = change(ours, theirs, clusters, seed=seed)
    mine, other = np.asarray(ours, dtype=bool), np.asarray(theirs, dtype=bool)
    gained, lost = int((mine & ~other).sum()), int((other & ~mine).sum())
    p = float(_stats().binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0
    return Difference(**vars(found), gained=gained, lost=lost, p_mcnemar=p)


def expected_ci_half_width(n: int) -> float:
    """Half the 95 % interval of a difference, in percentage points, where 10 % of `n` independent questions flip."""
    return 100 * float(ndtri((1 + LEVEL) / 2)) * math.sqrt(FLIPS / n) if n else math.nan


def holm(values: Sequence[float], *, without: Sequence[bool] = ()) -> list[float]:
    """p-values adjusted for all of a table's rows (Holm 1979, Scand. J. Statistics 6).

    Rows listed in `without`, which test nothing, are nan and do not count in the family; so are those that came as nan.
    """
    skipped = {index for index, listed in enumerate(without) if listed}
    tested = sorted((p, index) for index, p in enumerate(values) if index not in skipped and not math.isnan(p))
    adjusted, highest = [math.nan] * len(values), 0.0
    for rank, (value, index) in enumerate(tested):
        highest = max(highest, min(1.0, (len(tested) - rank) * value))
        adjusted[index] = highest
    return adjusted


def _by_cluster(
    ours: Sequence[float], theirs: Sequence[float], clusters: Sequence[Hashable]
) -> tuple[np.ndarray, np.ndarray]:
    """Sum of differences and number of questions of every video."""
    if not len(ours) == len(theirs) == len(clusters):
        raise ValueError(f"expected one entry per question, came {len(ours)}, {len(theirs)} and {len(clusters)}")
    # by name: what is drawn at random must not depend on the order in which videos came
    places = {cluster: place for place, cluster in enumerate(sorted(set(clusters), key=str))}
    index = np.asarray([places[cluster] for cluster in clusters], dtype=int)
    gaps = np.asarray(ours, dtype=float) - np.asarray(theirs, dtype=float)
    sums = np.bincount(index, weights=gaps, minlength=len(places))
    # 0.3 - 0.1 - 0.2 is not 0 in floats: a video without a difference must stay one, and equal sums must stay equal
    return sums.round(12), np.bincount(index, minlength=len(places))


def _interval(sums: np.ndarray, sizes: np.ndarray, seed: int) -> tuple[float, float]:
    if len(sizes) < 2:
        return math.nan, math.nan

    def delta_pp(k: np.ndarray, m: np.ndarray, axis: int = -1) -> np.ndarray:
        share: np.ndarray = 100 * k.sum(axis=axis) / m.sum(axis=axis)
        return share

    result = _stats().bootstrap(
        (sums, sizes),
        delta_pp,
        paired=True,
        vectorized=True,
        n_resamples=RESAMPLES,
        batch=1000,
        confidence_level=LEVEL,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    return float(result.confidence_interval.low), float(result.confidence_interval.high)


def _sign_flip(sums: np.ndarray, seed: int) -> float:
    """Two-sided p-value of the difference under random exchange of the two, video by video.

    A video's sum of differences keeps or changes its sign (scipy.stats.permutation_test); all sign patterns are counted
    where there are at most 10,000, else as many are drawn, seeded. Unlike McNemar's test it lets the questions of a
    video depend on each other.
    """
    if np.count_nonzero(sums) < 2:
        return 1.0  # either sign of a single video is as far from 0
    result = _stats().permutation_test(
        (sums[sums != 0],),  # a video without a difference has no sign
        np.sum,
        permutation_type="samples",
        vectorized=True,
        n_resamples=RESAMPLES,
        batch=1000,
        rng=np.random.default_rng(seed),
    )
    return float(result.pvalue)


def _stats() -> Any:
    """scipy's tests, loaded when the first one is made: seconds that no start has to wait."""
    from scipy import stats

    return stats
