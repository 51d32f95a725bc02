"""The sign-flip test of many groups of questions at once, for tables with hundreds of differences."""

from __future__ import annotations

import numpy as np

DRAWS = 20_000
_AT_ONCE = 2_000  # draws in memory


def sign_flips(sums: np.ndarray, *, seed: int = 0) -> np.ndarray:
    """Two-sided p-value of each column's sum under random exchange of the two runs, video by video.

    `sums` (videos, columns): a video's score of ours minus theirs, summed over a group's questions, whole numbers. The
    same 20,000 seeded draws of signs serve all columns; p = (draws at least as far from 0 + 1) / (draws + 1), so that
    the smallest value is 0.00005 before a correction. 1 where fewer than two videos differ. `paired_tests` tests a
    single difference, by all patterns of signs where these are few.
    """
    observed = np.abs(sums.sum(axis=0))
    whole = sums.astype(np.float32)  # sums of whole numbers are exact: the same p-values on every machine
    rng, far = np.random.default_rng(seed), np.zeros(sums.shape[1])
    for _ in range(DRAWS // _AT_ONCE):
        signs = rng.integers(0, 2, size=(_AT_ONCE, len(sums)), dtype=np.int8) * 2 - 1
        far += (np.abs(signs.astype(np.float32) @ whole) >= observed).sum(axis=0)
    p: np.ndarray = np.where((sums != 0).sum(axis=0) < 2, 1.0, (far + 1) / (DRAWS + 1))
    return p
