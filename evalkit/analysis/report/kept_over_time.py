"""Where in a video the kept entries lie: for each point of the grid, their share over relative time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evalkit.analysis.grid.measured_points import MeasuredPoint
    from evalkit.types import Answer, KeptOverTime

BINS = 20
HIGHEST = 4 / BINS  # a control that keeps one moment must not flatten all others

Case = tuple["KeptOverTime", float, int]  # what was kept, the video's seconds, temporal cells encoded


@dataclass(frozen=True)
class Histogram:
    """One point's mean over its answers, each of which counts the same."""

    point: MeasuredPoint
    n: int  # answers that record what was kept
    shares: tuple[float, ...]  # (BINS,) of the kept entries, sum 1; () where nothing is known
    scale: float  # the figure's height: the largest share of any point, `HIGHEST` at most

    @property
    def path(self) -> str:
        """The bars as an SVG path, 100 units wide and 40 high, from the bottom line up."""
        width = 100 / BINS
        heights = [min(40, 40 * share / self.scale) for share in self.shares]
        return "".join(
            f"M{place * width:g},40v-{height:.2f}h{width * 0.85:.3g}v{height:.2f}z"
            for place, height in enumerate(heights)
        )

    @property
    def missing(self) -> str:
        """Why there are no shares."""
        ledgers = [answer.ledger for answer in self.point.answers.values() if answer.ledger is not None]
        return "nothing kept" if ledgers and not any(own.ratio_achieved for own in ledgers) else "not recorded"

    @property
    def peak(self) -> float:
        """The largest share where the figure cannot show it, else 0."""
        return max(self.shares) if max(self.shares) > self.scale else 0.0

    @property
    def even(self) -> float:
        """How high a bar is where entries are spread evenly, from the top."""
        return round(40 - 40 / BINS / self.scale, 2)

    @property
    def aria_label(self) -> str:
        """The same as a text for screen readers."""
        quarters = [100 * sum(self.shares[place : place + BINS // 4]) for place in range(0, BINS, BINS // 4)]
        return "share of kept entries in each quarter of the video: " + ", ".join(f"{q:.0f} %" for q in quarters)


def histograms(points: Sequence[MeasuredPoint]) -> list[Histogram]:
    """One for each point, all of one scale."""
    known: dict[Case, np.ndarray] = {}  # query-agnostic methods keep the same for all questions of a video
    found = [_rows(point, known) for point in points]
    means = [tuple(np.mean(rows, axis=0).tolist()) if rows else () for rows in found]
    scale = min(HIGHEST, max((share for shares in means for share in shares), default=HIGHEST))
    return [Histogram(*own, scale) for own in zip(points, map(len, found), means, strict=True)]


def _rows(point: MeasuredPoint, known: dict[Case, np.ndarray]) -> list[np.ndarray]:
    cases = [case for answer in point.answers.values() if (case := _case(answer)) is not None]
    for case in cases:
        if case not in known:
            known[case] = shares(*case)
    return [known[case] for case in cases]


def _case(answer: Answer) -> Case | None:
    """What is needed of an answer; None where it is not there, or nothing was kept."""
    kept, seconds, cells = answer.kept, answer.duration_s, answer.ledger.cells if answer.ledger else 0
    return (kept, seconds, cells) if kept and sum(kept.tokens) and seconds and cells else None


def shares(kept: KeptOverTime, duration_s: float, cells: int) -> np.ndarray:
    """(BINS,) share of the kept entries in each stretch of the video.

    A kept cell counts over the whole stretch that it stands for, one of `cells` equal ones: the moments of few frames
    would look like gaps and peaks where there is none of either.
    """
    places = _stretches(kept, duration_s, cells)[:, None]
    edges = np.linspace(0, cells, BINS + 1)
    inside = np.diff(np.clip(edges, places, places + 1), axis=1)  # (kept cells, BINS)
    tokens = np.asarray(kept.tokens) @ inside
    result: np.ndarray = tokens / tokens.sum()
    return result


def _stretches(kept: KeptOverTime, duration_s: float, cells: int) -> np.ndarray:
    """(kept cells,) which of `cells` equal stretches of the video each cell stands for.

    That is its index where the frames were sampled evenly. Controls that show other frames (random, shuffled) have
    cells at other times than their index says: the seconds decide there, and in answers of versions that wrote no
    index.
    """
    at = np.asarray(kept.seconds) * cells / duration_s
    # a quarter for frames being whole: a cell begins a little before or after its stretch does
    by_time: np.ndarray = np.floor(at + 0.25).clip(0, cells - 1)
    if kept.cells is None:
        return by_time
    index = np.asarray(kept.cells, dtype=float)
    return index if (np.abs(at - index) < 1).all() else by_time
