"""XComp (arXiv 2604.14149): QC-Comp chooses the frames, LP-Comp shrinks them to one token each inside the LLM."""

from __future__ import annotations

from dataclasses import dataclass

from evalkit.method import Budget, Method
from evalkit.types import FramePlan, Video
from methods.lpcomp import LPComp
from methods.qccomp import QCComp


@dataclass(frozen=True, kw_only=True)
class XComp(QCComp, LPComp):
    """Both parts: every frame is encoded and scored under LP-Comp's schedule, and as many go on as its budget allows.

    `frame_ratio` is the share of the frames that are chosen; without it the ratio decides, as in LP-Comp alone.
    """

    def __post_init__(self) -> None:
        QCComp.__post_init__(self)
        LPComp.__post_init__(self)

    def frames(self, video: Video, budget: Budget) -> FramePlan:
        """All of the dense run's: the question chooses among them."""
        return Method.frames(self, video, budget)

    def kept(self, budget: Budget) -> int:
        """The cells that LP-Comp's budget allows."""
        return self.cells(budget)
