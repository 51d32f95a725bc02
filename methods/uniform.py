"""Uniform sampling: the baseline that every compression method has to beat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from evalkit.method import Budget, Method, Role
from evalkit.types import FramePlan, Video


@dataclass(frozen=True, kw_only=True)
class Uniform(Method):
    """Spend the ratio on fewer frames, spread over the whole video by the run's sampling preset."""

    role: ClassVar[Role] = "reference"
    max_frames: int | None = None  # and never more frames than this: the dense baseline of a paper with another cap

    def frames(self, video: Video, budget: Budget) -> FramePlan:
        """`ratio` of the dense run's cells, sampled afresh."""
        share = budget.ratio
        if self.max_frames is not None:
            share = min(share, self.max_frames / len(budget.frames))
        return FramePlan(indices=spread(budget, share), height=budget.height, width=budget.width)


def spread(budget: Budget, share: float) -> tuple[int, ...]:
    """Frame numbers of `share` of the dense run's cells, spread over the video."""
    cells = budget.cells_at(share)
    if cells == budget.cells:
        return budget.frames
    return budget.sample(cells * budget.cell_frames)
