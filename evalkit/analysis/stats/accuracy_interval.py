"""Statistics of accuracy, clustered by video: questions about one video are not independent of each other."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import stdtrit

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

LEVEL = 0.95


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A mean with its 95 % interval, in percent. nan where the data cannot say."""

    n: int  # questions
    clusters: int  # videos
    percent: float
    low: float  # not below 0
    high: float  # not above 100
    half_width: float  # the larger distance from `percent` to an end


def accuracy(correct: Sequence[bool], clusters: Sequence[Hashable]) -> Interval:
    """Share of right answers with a 95 % interval clustered by video.

    `correct` (n,) says right or wrong, `clusters` (n,) the video of each question; ValueError when lengths differ.

    The share is a ratio of two sums over videos, right answers k_g and questions n_g, so its error is that of a ratio
    estimator (Cochran 1977, Sampling Techniques, ch. 6): residuals e_g = k_g - p·n_g,
    SE² = G/(G-1) · Σ e_g² / n², interval p ± t(G-1)·SE. The factor and the t quantile with G-1 degrees of freedom are
    the usual small-sample corrections (Cameron & Miller 2015, J. Human Resources 50(2), §VI); the estimator allows any
    correlation inside a video (Miller 2024, arXiv 2411.00640, advises it for language models).

    Two cases have no such interval. One video: nothing is known about the spread between videos, nan. All residuals
    zero (all right, all wrong, or the same share in every video): SE = 0 would claim certainty, so Wilson's score
    interval is taken with G trials and the same t quantile. That treats a video as one observation, which is the
    widest that correlation can make it; it is wide on purpose.
    """
    if len(correct) != len(clusters):
        raise ValueError(f"expected one cluster per answer, came {len(correct)} answers and {len(clusters)} clusters")
    numbers: dict[Hashable, int] = {}
    index = [numbers.setdefault(cluster, len(numbers)) for cluster in clusters]
    n, count = len(correct), len(numbers)
    share = sum(map(bool, correct)) / n if n else math.nan
    if count < 2:
        return _interval(n, count, share, math.nan, math.nan)
    quantile = t_quantile(count)
    error = _standard_error(np.asarray(correct, dtype=bool), np.asarray(index))
    if error == 0:
        return _interval(n, count, share, *_wilson(share, count, quantile))
    return _interval(n, count, share, share - quantile * error, share + quantile * error)


def t_quantile(clusters: int) -> float:
    """Of Student's t for the interval of a mean over so many clusters."""
    return float(stdtrit(clusters - 1, (1 + LEVEL) / 2))


def _standard_error(correct: np.ndarray, index: np.ndarray) -> float:
    """Whole numbers as long as possible: equal shares must give exactly zero."""
    size = np.bincount(index)
    right = np.bincount(index[correct], minlength=len(size))
    residuals = (right * size.sum() - size * right.sum()) / size.sum()
    return math.sqrt(len(size) / (len(size) - 1) * float(residuals @ residuals)) / int(size.sum())


def _wilson(share: float, trials: int, quantile: float) -> tuple[float, float]:
    """Wilson's score interval (Wilson 1927, JASA 22)."""
    weight = quantile**2 / trials
    centre = (share + weight / 2) / (1 + weight)
    half = math.sqrt(weight * (share * (1 - share) + weight / 4)) / (1 + weight)
    return centre - half, centre + half


def _interval(n: int, clusters: int, share: float, low: float, high: float) -> Interval:
    if not math.isnan(low):
        low, high = max(0.0, low), min(1.0, high)
    return Interval(
        n=n,
        clusters=clusters,
        percent=100 * share,
        low=100 * low,
        high=100 * high,
        half_width=100 * max(share - low, high - share),
    )
