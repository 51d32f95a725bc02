"""What an answer rests on: a video as one arm's frames show it, and what the LLM has read before a question comes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from evalkit.engine.records import Arm
    from evalkit.engine.stage_times import Clock
    from evalkit.method import Budget
    from evalkit.model.flops import Work
    from evalkit.model.prefill_state import Context
    from evalkit.types import FramePlan, Video, VisualTokens


@dataclass(frozen=True)
class Sight:
    """One set of frames of a video, encoded; no tokens where a plan wants no frames."""

    video: Video
    plan: FramePlan
    dense_frames: tuple[int, ...]  # that the dense run is shown, whatever the plan
    tokens: VisualTokens | None
    clocks: tuple[Clock, ...]  # decoding, encoding
    peak_bytes: int  # of encoding
    shared: bool  # the video's work was done for several operating points or questions at once


@dataclass(frozen=True)
class Prefix:
    """What an arm has read before a question comes."""

    arm: Arm
    sight: Sight
    budget: Budget
    selected: VisualTokens | None
    context: Context
    clock: Clock
    asked: int  # tokens that went through the LLM to choose what to feed
    asking: Work  # what the LLM did with them
    shared: bool
