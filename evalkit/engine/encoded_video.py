"""The states of one video on its way to an answer: planned, encoded, prefilled, replied about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

from evalkit.engine import kept_cells
from evalkit.method import OperatingPoint
from evalkit.types import Question

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from evalkit.encoder_view import Need
    from evalkit.engine.stage_times import Clock
    from evalkit.method import Budget, Method
    from evalkit.model.flops import OpCounts
    from evalkit.model.prefill_state import PrefillState
    from evalkit.model.video_llm import VideoLLM
    from evalkit.types import FramePlan, KeptOverTime, Video, VisualTokens

# the questions of ONE video that each operating point is to answer
Pending = Mapping[OperatingPoint, Sequence[Question]]


def video_path(pending: Pending) -> Path:
    """The file of that video."""
    return next(iter(pending.values()))[0].video_path


@dataclass(frozen=True)
class PlannedVideo:
    """One operating point on one video: the limits that hold there, and the frames that it wants within them."""

    point: OperatingPoint
    budget: Budget
    frames: FramePlan
    backbone: VideoLLM  # the model that answers: the run's, or one with the point's own weights
    questions: tuple[Question, ...] = ()  # that these frames are for


@dataclass(frozen=True)
class EncodedVideo:
    """One set of frames of a video, encoded for every operating point that wants it."""

    video: Video
    plan: FramePlan
    dense_frames: tuple[int, ...]  # frame numbers of the dense run, whatever the plan
    tokens: VisualTokens | None  # None: the plan wants no frames
    clocks: tuple[Clock, ...]  # decoding, encoding
    peak_bytes: int  # of encoding
    reading: Mapping[Need, Clock]  # what was read of the encoder beside features, and how long that took
    shared: bool  # the video was decoded and encoded for several operating points or questions at once
    stand_ins: int = 0  # frames that do not decode, for which others were encoded

    def seen_by(self, method: Method) -> EncodedVideo:
        """With what this method needs of the encoder and its seconds, without what others do."""
        view = None if self.tokens is None else self.tokens.encoder
        if self.tokens is None or view is None:
            return self
        clocks = [self.reading[need] for need in sorted(method.needs & set(self.reading))]
        tokens = replace(self.tokens, encoder=view.only(method.needs))
        return replace(self, tokens=tokens, clocks=(*self.clocks, *clocks))


@dataclass(frozen=True, kw_only=True)
class Replied:
    """What a model said to one question on one cache, and what that took; nothing in it is an operating point's."""

    prompt: str
    text: str
    repeated: bool
    margin: float | None
    n_text_tokens: int  # that were fed
    visual: tuple[int, ...]  # KV entries in each layer when the reply began
    before: OpCounts  # everything that was computed before the reply's second token
    generated: OpCounts
    clock: Clock


@dataclass(frozen=True)
class PrefilledVideo:
    """One operating point's KV cache with everything that comes before a question."""

    point: OperatingPoint
    budget: Budget
    encoded: EncodedVideo
    selected: VisualTokens | None  # what the method handed to the LLM; None: no frames
    state: PrefillState
    clock: Clock
    selection_tokens: int  # tokens that went through the LLM so that the method could choose
    selection_op_counts: OpCounts  # what the LLM computed for that choice
    backbone: VideoLLM  # the one that was prefilled
    prefix_ids: tuple[int, ...]  # of the text before the video
    reused_op_counts: OpCounts  # the part of it that all questions about the video have in common
    shared: bool  # several questions are answered from this cache
    # (D,): the hidden state after the question, where it was fed with the video; None: it comes after `state`
    hidden: Tensor | None = None
    # by question id: what was replied from this cache, for all operating points that share it
    replies: dict[str, Replied] = field(default_factory=dict, repr=False)

    @cached_property
    def encode_flops(self) -> int:
        """Operations of encoding the video, and of what the method needs of the encoder beside features."""
        tokens = self.encoded.tokens
        if tokens is None:
            return 0
        cells, needs = len(tokens.cell_seconds), self.point.method.needs
        return self.backbone.encode_flops(cells, tokens.grid) + self.backbone.view_flops(needs, cells, tokens.grid)

    @cached_property
    def kept(self) -> KeptOverTime | None:
        """What is left of each cell in the cache; None: no frames."""
        seen = self.encoded
        if seen.tokens is None:
            return None
        return kept_cells.kept(self.state, seen.video, seen.plan, seen.tokens, self.selected, self.budget.cell_frames)
