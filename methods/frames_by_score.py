"""What methods have in common that choose frames by how well each matches the question."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from evalkit.errors import MethodError
from evalkit.method import Budget, Method
from evalkit.types import FramePlan, Video
from methods.uniform import spread


@dataclass(frozen=True, kw_only=True)
class FramesByScore(Method):
    """As many frames as uniform sampling has, chosen among those scored in `benchmark.frame_scores=FILE`.

    Where the file says which frames to show, the first of those are shown, in time order. Where there are fewer frames
    than the budget has room for, uniform sampling's are shown instead, as the released loaders do.
    """

    needs_frame_scores: ClassVar[bool] = True
    identity_at_one: ClassVar[bool] = False  # as many frames as the dense run, but others

    def frames(self, video: Video, budget: Budget) -> FramePlan:
        """`ratio` of the dense run's cells, filled with the chosen frames one after the other."""
        given, wanted = video.frame_scores, budget.cells_at(budget.ratio) * budget.cell_frames
        if budget.clip_frames > budget.cell_frames:
            raise MethodError(
                f"{type(self).__name__} chooses frames one by one: it is not defined on a backbone whose encoder sees "
                f"{budget.clip_frames} neighbouring frames together"
            )
        if given is None:
            raise MethodError(f"{type(self).__name__} needs benchmark.frame_scores=FILE.json, there are none")
        at = given.frame_numbers(video)
        chosen = sorted(at[:wanted]) if given.scores is None else [at[i] for i in self.chosen(given.scores, wanted)]
        if len(chosen) < wanted:
            return FramePlan(indices=spread(budget, budget.ratio), height=budget.height, width=budget.width)
        indices = tuple(sorted(set(chosen)))
        if len(indices) == len(chosen):
            return FramePlan(indices=indices, height=budget.height, width=budget.width)
        order = tuple(indices.index(frame) for frame in chosen)
        return FramePlan(indices=indices, height=budget.height, width=budget.width, order=order, keeps_times=True)

    @abstractmethod
    def chosen(self, scores: Sequence[float], count: int) -> list[int]:
        """Positions in `scores`, in ascending order, of at most `count` frames to show; a position may repeat."""

    def notes(self, *, aligns_text: bool) -> tuple[str, ...]:
        """What a table cannot show."""
        return (
            *super().notes(aligns_text=aligns_text),
            "frames are chosen by scores made elsewhere, at a cost not shown; where fewer frames have a score than the "
            "budget has room for, uniform sampling's are shown",
        )
