"""What an answer rests on: a video's encoded frames, and the prefill state of one operating point before a question."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from evalkit.engine.records import OperatingPoint
    from evalkit.engine.stage_times import Clock
    from evalkit.method import Budget
    from evalkit.model.flops import OpCounts
    from evalkit.model.prefill_state import PrefillState
    from evalkit.types import FramePlan, Video, VisualTokens


@dataclass(frozen=True)
class EncodedVideo:
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
    """What an operating point has read before a question comes."""

    point: OperatingPoint
    encoded: EncodedVideo
    budget: Budget
    selected: VisualTokens | None
    context: PrefillState
    clock: Clock
    asked: int  # tokens that went through the LLM to choose what to feed
    asking: OpCounts  # what the LLM did with them
    shared: bool
