"""The mean of any numbers with an interval clustered by video: margins, shares, differences of either."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from evalkit.analysis.stats.accuracy_interval import t_quantile

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence


@dataclass(frozen=True, kw_only=True)
class ClusteredMean:
    """A mean with its 95 % interval, in the unit of the numbers. nan where the data cannot say."""

    n: int  # questions
    clusters: int  # videos
    mean: float
    low: float
    high: float
    error: float  # standard error

    @property
    def z(self) -> float:
        """The mean in standard errors: how far from 0 the data see it."""
        return self.mean / self.error if self.error > 0 else math.nan


def clustered_mean(values: Sequence[float], clusters: Sequence[Hashable]) -> ClusteredMean:
    """Mean of `values` (n,) whose `clusters` (n,) are their videos; ValueError where lengths differ.

    The error is that of `accuracy_interval.accuracy`, a ratio estimator: residuals e_g = s_g - m·n_g of a video's sum
    and number, SE² = G/(G-1) · Σ e_g² / n², interval m ± t(G-1)·SE. No interval with fewer than two videos, nor where
    no video differs from the mean: no error would claim certainty.
    """
    if len(values) != len(clusters):
        raise ValueError(f"expected one cluster per value, came {len(values)} values and {len(clusters)} clusters")
    numbers: dict[Hashable, int] = {}
    index = np.asarray([numbers.setdefault(cluster, len(numbers)) for cluster in clusters], dtype=int)
    n, count = len(values), len(numbers)
    mean = math.fsum(values) / n if n else math.nan
    error = _error(np.asarray(values, dtype=float), index, mean) if count > 1 else math.nan
    half = t_quantile(count) * error if error > 0 else math.nan
    return ClusteredMean(n=n, clusters=count, mean=mean, low=mean - half, high=mean + half, error=error)


def _error(values: np.ndarray, index: np.ndarray, mean: float) -> float:
    # 0.1 + 0.2 - 0.3 is not 0 in floats: a video at the mean must have no residual
    residuals = np.bincount(index, weights=values - mean).round(12)
    clusters = len(residuals)
    return math.sqrt(clusters / (clusters - 1) * float(residuals @ residuals)) / len(values)
