"""Differences on the same questions: bootstrap and sign flips over videos, McNemar's exact test for right and wrong."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import ndtri

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Sequence

LEVEL = 0.95
RESAMPLES = 10_000
BATCH = 1_000  # of them in memory at once
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
    is the percentile bootstrap over videos (paired per-video sums, 10,000 resamples, seeded), the numbers of
    scipy.stats.bootstrap; fewer than two videos give none.
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
    drawn, questions = _resamples(tuple(sizes.tolist()), RESAMPLES, seed)
    totals = np.concatenate([sums[drawn[at : at + BATCH]].sum(axis=-1) for at in range(0, len(drawn), BATCH)])
    tail = (1 - LEVEL) / 2
    low, high = _stats().quantile(100 * totals / questions, [tail, 1 - tail])
    return float(low), float(high)


@lru_cache(maxsize=4)
def _resamples(sizes: tuple[int, ...], count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Videos of every resample (count, videos), and its questions (count,): all differences on the same videos have
    the same, and to draw them takes longer than all that follows.
    """
    videos, rng = len(sizes), np.random.default_rng(seed)
    drawn = np.empty((count, videos), np.min_scalar_type(videos))
    questions = np.empty(count, int)
    for at in range(0, count, BATCH):
        some = rng.integers(0, videos, (min(BATCH, count - at), videos))
        drawn[at : at + BATCH] = some
        questions[at : at + BATCH] = np.array(sizes)[some].sum(axis=-1)
    return drawn, questions


def _sign_flip(sums: np.ndarray, seed: int) -> float:
    """Two-sided p-value of the difference under random exchange of the two, video by video.

    A video's sum of differences keeps or changes its sign; all sign patterns are counted where there are at most
    10,000, else as many are drawn, seeded: the numbers of scipy.stats.permutation_test. Unlike McNemar's test it lets
    the questions of a video depend on each other.
    """
    moved = sums[sums != 0]  # a video without a difference has no sign
    if len(moved) < 2:
        return 1.0  # either sign of a single video is as far from 0
    every = 2 ** len(moved) <= RESAMPLES
    found = np.concatenate([(signs * moved).sum(axis=-1) for signs in _signs(len(moved), seed, every=every)])
    observed = moved.sum()
    close = 100 * np.finfo(float).eps * abs(observed)  # sums of other order that are equal but for rounding
    drawn = 0 if every else 1  # what was observed is one pattern more
    sides = (found <= observed + close).sum(), (found >= observed - close).sum()
    return float(min(1.0, 2 * (min(sides) + drawn) / (len(found) + drawn)))


def _signs(videos: int, seed: int, *, every: bool) -> Iterator[np.ndarray]:
    """Sign patterns (n, videos) of 1 and −1: every one, or RESAMPLES that are drawn."""
    if every:
        yield 1 - 2 * (np.arange(2**videos)[:, None] >> np.arange(videos) & 1)
        return
    rng = np.random.default_rng(seed)
    for at in range(0, RESAMPLES, BATCH):
        # the lowest bits of 32, by which numpy's `permuted` exchanges the two of a pair
        bits = rng.integers(0, 2**32, (min(BATCH, RESAMPLES - at), videos), np.uint32) & 1
        yield 2.0 * bits - 1


def _stats() -> Any:
    """scipy's tests, loaded when the first one is made: seconds that no start has to wait."""
    from scipy import stats

    return stats
