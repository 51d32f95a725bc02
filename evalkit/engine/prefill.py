"""From visual tokens to a KV cache: what a method selects, and everything that comes before a question, prefilled.

Operating points share what does not depend on them: the text before the video, passes over the video by which methods
choose, and whole caches, where the same model reads the same tokens and nothing is cut inside it.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from evalkit.engine.encoded_video import PrefilledVideo
from evalkit.engine.stage_times import Clock
from evalkit.method import Method
from evalkit.model.flops import OpCounts
from evalkit.model.question_attention import QuestionAttention
from evalkit.model.shared_passes import SharedPasses

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from evalkit.engine.encoded_video import EncodedVideo, PlannedVideo
    from evalkit.engine.prompts import PromptIds, Prompts
    from evalkit.engine.stage_times import Meter
    from evalkit.model.prefill_state import PrefillState
    from evalkit.model.video_llm import VideoLLM
    from evalkit.types import Question, VisualTokens


@dataclass(frozen=True)
class ReadPrefix:
    """Text before a video, read by one model."""

    state: PrefillState
    seconds: float


class Prefixes:
    """The text before one video, which each model reads once."""

    def __init__(self) -> None:
        self._read: dict[tuple[int, tuple[int, ...]], ReadPrefix] = {}

    def state_after(self, backbone: VideoLLM, ids: Sequence[int], clock: Clock) -> PrefillState:
        """A state of the caller's own; the prefix counts in full on each clock."""
        key = (id(backbone), tuple(ids))
        if key not in self._read:
            start = clock.meter.now()
            state = backbone.new_state()
            backbone.prefill_text(state, ids)
            self._read[key] = ReadPrefix(state, clock.meter.now() - start)
        clock.spent["prefill"] += self._read[key].seconds
        return self._read[key].state.copied()


def in_turn(planned: Sequence[PlannedVideo]) -> list[PlannedVideo]:
    """Operating points in the order in which they are prefilled: those that may share a cache one after the other."""
    models = list(dict.fromkeys(id(one.backbone) for one in planned))
    return sorted(planned, key=lambda one: (not _reads_as_given(one.point.method), models.index(id(one.backbone))))


class Prefiller:
    """Prefills one set of frames for one operating point after the other; holds one cache that the next may use."""

    def __init__(self, prompts: Prompts, prefixes: Prefixes, meter: Meter, chunk_cells: int | None) -> None:
        self._prompts, self._prefixes, self._meter, self._chunk_cells = prompts, prefixes, meter, chunk_cells
        self._passes: dict[int, SharedPasses] = defaultdict(SharedPasses)  # of each model
        self._held: PrefilledVideo | None = None

    def question_attention(self, planned: PlannedVideo, encoded: EncodedVideo) -> QuestionAttention | None:
        """Question→token attention over one video; None where it has no tokens."""
        if encoded.tokens is None:
            return None
        return QuestionAttention(
            planned.backbone,
            encoded.tokens,
            planned.point.method,
            planned.budget,
            chunk_cells=self._chunk_cells,
            shared=self._passes[id(planned.backbone)],
            now=self._meter.now,
        )

    def prefill(
        self,
        planned: PlannedVideo,
        encoded: EncodedVideo,
        attention: QuestionAttention | None,
        questions: Sequence[Question],
    ) -> PrefilledVideo:
        """Prefill what comes before the video, and the video, for `questions`: one where a method is query-aware."""
        backbone = planned.backbone
        clock = Clock(self._meter)
        clock.meter.reset_peak()
        prefix_ids, suffix_ids = self._ids(planned, encoded, questions[0])
        with clock.stage("select"):
            selected = _selected(planned, encoded, attention, prefix_ids, suffix_ids)
        clock.spent["select"] += 0.0 if attention is None else attention.reused_seconds
        held = self._usable(planned, prefix_ids, selected)
        self._held = None  # one that is of no use here gives its memory back first
        if held is None:
            state, hidden = self._prefilled_state(planned, prefix_ids, selected, suffix_ids, clock)
        else:
            state, hidden = held.state, None
            clock.spent["prefill"] += held.clock.spent["prefill"]  # counts in full for each who shares it
        self._held = PrefilledVideo(
            planned.point,
            planned.budget,
            encoded,
            selected,
            state,
            clock,
            selection_tokens=0 if attention is None else attention.fed,
            backbone=backbone,
            selection_op_counts=OpCounts() if attention is None else attention.op_counts,
            reused_op_counts=OpCounts() if attention is None else attention.reused_op_counts,
            prefix_ids=tuple(prefix_ids),
            shared=len(questions) > 1 or (held is not None and held.point == planned.point),
            hidden=hidden,
            replies={} if held is None else held.replies,
        )
        return self._held

    def _ids(self, planned: PlannedVideo, encoded: EncodedVideo, question: Question) -> PromptIds:
        """Only a query-aware method sees the question; what comes before the video is the same for all of a
        benchmark.
        """
        backbone, benchmark = planned.backbone, question.benchmark
        if not planned.point.method.query_aware:
            return self._prompts.ids_unasked(backbone, benchmark, encoded)
        return self._prompts.ids(backbone, self._prompts.text(backbone, question, encoded), benchmark, encoded)

    def _usable(
        self, planned: PlannedVideo, prefix_ids: Sequence[int], selected: VisualTokens | None
    ) -> PrefilledVideo | None:
        """The cache that is held, where the same text and tokens would be read in the same way."""
        held = self._held
        if held is None or held.prefix_ids != tuple(prefix_ids):
            return None
        if held.point == planned.point:
            # `evict` may look at the question's length, and a `whole` feed has the question in it
            alike = not held.point.method.overrides("evict") and not held.point.method.whole
        else:
            both = (held.point.method, planned.point.method)
            alike = held.backbone is planned.backbone and all(map(_reads_as_given, both))
        if not alike or (held.selected is None) != (selected is None):
            return None
        return held if selected is None or held.selected is None or held.selected.same(selected) else None

    def _prefilled_state(
        self,
        planned: PlannedVideo,
        prefix_ids: Sequence[int],
        selected: VisualTokens | None,
        suffix_ids: Sequence[int],
        clock: Clock,
    ) -> tuple[PrefillState, Tensor | None]:
        """What has been read, and the last hidden state where the question is in it."""
        backbone, method, budget = planned.backbone, planned.point.method, planned.budget
        if method.whole and selected is not None:
            with clock.stage("prefill"):
                state = backbone.new_state()
                return state, backbone.prefill_whole(state, prefix_ids, selected, suffix_ids, method, budget)
        state = self._prefixes.state_after(backbone, prefix_ids, clock)
        if selected is not None:
            seen = suffix_ids if method.query_aware else ()
            with clock.stage("prefill"):
                backbone.prefill_video(state, selected, method, budget, chunk_cells=self._chunk_cells, suffix_ids=seen)
        return state, None


def _selected(
    planned: PlannedVideo,
    encoded: EncodedVideo,
    attention: QuestionAttention | None,
    prefix_ids: Sequence[int],
    suffix_ids: Sequence[int],
) -> VisualTokens | None:
    """What the method hands to the LLM; None where there are no frames."""
    if encoded.tokens is None or attention is None:
        return None
    backbone = planned.backbone
    attention.set_question(prefix_ids, suffix_ids, backbone.reply_header(suffix_ids))
    chosen = backbone.ordered(planned.point.method.select(encoded.tokens, planned.budget, attention))
    return replace(chosen, encoder=None)  # no later verb reads what the encoder told


def _reads_as_given(method: Method) -> bool:
    """Whether the LLM reads what was selected as it is: nothing is cut inside it, and chunks are the backbone's."""
    return not method.whole and not any(method.overrides(verb) for verb in ("prune", "evict", "chunks"))
