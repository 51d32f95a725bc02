"""Controls: plain ways to spend the same budget, which a method has to beat.

`RandomFrames` and `LowRes` are the simplest ways to spend a ratio; `Single`, `Shuffled` and `Blind` take away what a
question should need: other moments, their order, the video itself.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import ClassVar

from evalkit.errors import MethodError
from evalkit.method import Budget, Method, Role
from evalkit.types import FramePlan, Video
from methods.uniform import spread


def rng_for(budget: Budget, purpose: str) -> random.Random:
    """A generator that depends on the run's seed and the video's file name alone."""
    return random.Random(budget.seed_for(purpose))


@dataclass(frozen=True, kw_only=True)
class Control(Method):
    """What all controls share: tables and plots set them apart."""

    role: ClassVar[Role] = "control"


@dataclass(frozen=True, kw_only=True)
class RandomFrames(Control):
    """As many cells as uniform sampling has, drawn at random among the dense run's."""

    def frames(self, video: Video, budget: Budget) -> FramePlan:
        """`ratio` of the dense run's clips, in time order; a clip keeps its frames together."""
        size, wanted = budget.clip_frames, budget.cells_at(budget.ratio) // budget.clip_cells
        clips = sorted(rng_for(budget, "frames").sample(range(budget.cells // budget.clip_cells), wanted))
        indices = tuple(i for clip in clips for i in budget.frames[clip * size : (clip + 1) * size])
        return FramePlan(indices=indices, height=budget.height, width=budget.width)


@dataclass(frozen=True, kw_only=True)
class LowRes(Control):
    """Smaller frames, and as many of them as the budget then allows.

    Both sides shrink by √ratio, rounded up to whole tokens; what the rounding overspends is saved on cells.
    """

    def frames(self, video: Video, budget: Budget) -> FramePlan:
        """Frames spread over the video at the reduced size."""
        if budget.pixels_per_token is None:
            raise MethodError(
                f"LowRes is not defined on a backbone whose frames all have one size, {budget.height} × {budget.width}"
            )
        rows, columns = (self._shrunk(tokens, budget.ratio) for tokens in budget.grid)
        share = budget.ratio * budget.places / (rows * columns)
        return FramePlan(
            indices=spread(budget, share),
            height=rows * budget.pixels_per_token,
            width=columns * budget.pixels_per_token,
        )

    @staticmethod
    def _shrunk(tokens: int, ratio: float) -> int:
        return max(1, math.ceil(tokens * math.sqrt(ratio) - 1e-9))


@dataclass(frozen=True, kw_only=True)
class Single(Control):
    """The middle frame of the dense run, shown over and over: the budget of uniform sampling, one moment's content."""

    identity_at_one: ClassVar[bool] = False

    def frames(self, video: Video, budget: Budget) -> FramePlan:
        """One frame number, repeated to fill `ratio` of the cells."""
        middle = budget.frames[len(budget.frames) // 2]
        slots = budget.cells_at(budget.ratio) * budget.cell_frames
        return FramePlan(indices=(middle,), height=budget.height, width=budget.width, order=(0,) * slots)


@dataclass(frozen=True, kw_only=True)
class Shuffled(Control):
    """Uniform sampling's frames in random order: what remains without their order in time."""

    identity_at_one: ClassVar[bool] = False

    def frames(self, video: Video, budget: Budget) -> FramePlan:
        """The same frames as uniform sampling, clips permuted; a clip keeps its frames together."""
        indices = spread(budget, budget.ratio)
        size = budget.clip_frames
        clips = [tuple(range(i, min(i + size, len(indices)))) for i in range(0, len(indices), size)]
        rng_for(budget, "order").shuffle(clips)
        order = tuple(slot for clip in clips for slot in clip)
        return FramePlan(indices=indices, height=budget.height, width=budget.width, order=order)


@dataclass(frozen=True, kw_only=True)
class Blind(Control):
    """No video at all: how far the question alone leads. It spends nothing, whatever the ratio."""

    identity_at_one: ClassVar[bool] = False
    spends: ClassVar[bool] = False

    def frames(self, video: Video, budget: Budget) -> FramePlan:
        """No frames."""
        return FramePlan(indices=(), height=budget.height, width=budget.width)
