"""Where in a video the kept entries lie: for each cell of the grid, their share over relative time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evalkit.analysis.grid.cells import MeasuredPoint
    from evalkit.types import Answer, KeptOverTime

BINS = 20
HIGHEST = 4 / BINS  # a control that keeps one moment must not press all others flat

Case = tuple["KeptOverTime", float, int]  # what was kept, the video's seconds, temporal cells encoded


@dataclass(frozen=True)
class Histogram:
    """One cell's mean over its answers, each of which counts the same."""

    cell: MeasuredPoint
    n: int  # answers that say what was kept
    shares: tuple[float, ...]  # (BINS,) of the kept entries, sum 1; () where nothing is known
    scale: float  # the figure's height: the largest share of any cell, `HIGHEST` at most

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
        ledgers = [answer.ledger for answer in self.cell.answers.values() if answer.ledger is not None]
        return "nothing kept" if ledgers and not any(spent.ratio_achieved for spent in ledgers) else "not recorded"

    @property
    def peak(self) -> float:
        """The largest share where the figure cannot show it, else 0."""
        return max(self.shares) if max(self.shares) > self.scale else 0.0

    @property
    def even(self) -> float:
        """How high a bar is where entries are spread evenly, from the top."""
        return round(40 - 40 / BINS / self.scale, 2)

    @property
    def words(self) -> str:
        """The same for who cannot see it."""
        quarters = [100 * sum(self.shares[place : place + BINS // 4]) for place in range(0, BINS, BINS // 4)]
        return "share of kept entries in each quarter of the video: " + ", ".join(f"{q:.0f} %" for q in quarters)


def histograms(cells: Sequence[MeasuredPoint]) -> list[Histogram]:
    """One for each cell, all of one scale."""
    known: dict[Case, np.ndarray] = {}  # methods that do not ask keep the same for all questions of a video
    found = [_rows(cell, known) for cell in cells]
    means = [tuple(np.mean(rows, axis=0).tolist()) if rows else () for rows in found]
    scale = min(HIGHEST, max((share for shares in means for share in shares), default=HIGHEST))
    return [Histogram(*own, scale) for own in zip(cells, map(len, found), means, strict=True)]


def _rows(cell: MeasuredPoint, known: dict[Case, np.ndarray]) -> list[np.ndarray]:
    cases = [case for answer in cell.answers.values() if (case := _case(answer)) is not None]
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
    # a quarter for frames being whole: a cell begins a little before or after its stretch does
    places = np.floor(np.asarray(kept.seconds) * cells / duration_s + 0.25).clip(0, cells - 1)[:, None]
    edges = np.linspace(0, cells, BINS + 1)
    inside = np.diff(np.clip(edges, places, places + 1), axis=1)  # (kept cells, BINS)
    tokens = np.asarray(kept.tokens) @ inside
    result: np.ndarray = tokens / tokens.sum()
    return result
