"""Interval and sign-flip test of a paired difference against a plain loop: 900 videos × 3 questions, 10,000 resamples.

python perf/paired.py [--videos 103 900] [--runs 3]     prints a table and puts it into RESULTS.md

The plain form draws one resample after the other from the same random stream and counts its questions anew. Equal
results are asserted first.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from measure import in_turn, record

from evalkit.analysis.stats.paired_tests import RESAMPLES, change

QUESTIONS = {103: 15, 900: 3}  # a video: the shapes of LVBench and VideoMME
BAR = 1.0  # second


def ours(scores: np.ndarray, videos: list[int]) -> tuple[float, float, float]:
    """Interval and p-value, as the tables have them."""
    found = change(scores[0].tolist(), scores[1].tolist(), videos)
    return found.ci_low, found.ci_high, found.p_sign_flip


def plain(scores: np.ndarray, videos: list[int]) -> tuple[float, float, float]:
    """The same, resample by resample."""
    members = [[i for i, video in enumerate(videos) if video == v] for v in sorted(set(videos), key=str)]
    sums = np.array([scores[0, own].sum() - scores[1, own].sum() for own in members])
    sizes = np.array([len(own) for own in members])
    rng, deltas = np.random.default_rng(0), []
    for _ in range(RESAMPLES):
        drawn = rng.integers(0, len(sums), len(sums))
        deltas.append(100 * sums[drawn].sum() / sizes[drawn].sum())
    low, high = np.percentile(deltas, [2.5, 97.5])
    return float(low), float(high), _plain_flips(sums[sums != 0])


def _plain_flips(sums: np.ndarray) -> float:
    rng, pairs = np.random.default_rng(0), np.tile([0, 1], (len(sums), 1))
    drawn = [(sums * (1 - 2 * rng.permuted(pairs, axis=-1)[:, 0])).sum() for _ in range(RESAMPLES)]
    above, below = (sum(side * s >= side * sums.sum() for s in drawn) + 1 for side in (1, -1))
    return min(1.0, 2 * min(above, below) / (RESAMPLES + 1))


def answers(videos: int, questions: int) -> tuple[np.ndarray, list[int]]:
    """Right or wrong of two runs that agree on most questions."""
    rng = np.random.default_rng(1)
    first = rng.random(videos * questions) < 0.6
    second = np.where(rng.random(first.size) < 0.15, rng.random(first.size) < 0.5, first)
    return np.stack([first, second]).astype(float), np.repeat(np.arange(videos), questions).tolist()


def main() -> None:
    """All sizes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, nargs="+", default=sorted(QUESTIONS))
    parser.add_argument("--runs", type=int, default=3)
    args = parser.parse_args()
    rows = []
    for videos in args.videos:
        scores, clusters = answers(videos, QUESTIONS.get(videos, 3))
        assert ours(scores, clusters) == pytest.approx(plain(scores, clusters)), "other results: the times say nothing"
        seconds = in_turn([partial(form, scores, clusters) for form in (ours, plain)], args.runs)
        rows.append(
            {
                "videos": videos,
                "questions": len(clusters),
                "s": seconds[0],
                "plain s": seconds[1],
                "time ratio": seconds[0] / seconds[1],
                f"below {BAR:g} s": "held" if seconds[0] < BAR else "missed",
            }
        )
    note = f"{RESAMPLES:,} bootstrap resamples of videos and as many sign flips. Same interval and p-value, asserted."
    print(record("Statistics: a paired difference against a plain loop (CPU)", rows, note))


if __name__ == "__main__":
    main()
