"""From visual tokens to a KV cache: what a method selects, and everything that comes before a question, prefilled.

Operating points share what does not depend on them: the text before the video, passes over the video by which methods
choose, whole caches, where the same model reads the same tokens and nothing is cut inside it, and the video's first
chunk, of which a method keeps more at one ratio than at another once a layer's attention has run.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from evalkit.engine.encoded_video import PrefilledVideo
from evalkit.engine.stage_times import Clock
from evalkit.method import Method, OperatingPoint
from evalkit.model.flops import OpCounts
from evalkit.model.question_attention import QuestionAttention
from evalkit.model.shared_passes import SharedPasses
from evalkit.model.video_feed import VideoFeed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from evalkit.engine.encoded_video import EncodedVideo, PlannedVideo
    from evalkit.engine.prefixes import Prefixes
    from evalkit.engine.prompts import PromptIds, Prompts
    from evalkit.engine.stage_times import Meter
    from evalkit.model.prefill_state import PrefillState
    from evalkit.types import Question, VisualTokens


@dataclass(frozen=True)
class SelectedVideo:
    """What one operating point's model is to read before a question."""

    planned: PlannedVideo
    ids: PromptIds
    tokens: VisualTokens | None  # None: there are no frames
    clock: Clock  # what has been done for this operating point so far
    feed: VideoFeed | None = None  # into its cache, where that was begun with another ratio's


def in_turn(planned: Sequence[PlannedVideo]) -> list[PlannedVideo]:
    """Operating points in the order in which they are prefilled: those that may share a cache one after the other."""
    models = list(dict.fromkeys(id(one.backbone) for one in planned))
    return sorted(planned, key=lambda one: (not _reads_as_given(one.point.method), models.index(id(one.backbone))))


class Prefiller:
    """Prefills one set of frames for one operating point after the other.

    It holds one cache that the next may use, and what was begun for later ones.
    """

    def __init__(self, prompts: Prompts, prefixes: Prefixes, meter: Meter, chunk_cells: int | None) -> None:
        self._prompts, self._prefixes, self._meter, self._chunk_cells = prompts, prefixes, meter, chunk_cells
        self._passes: dict[int, SharedPasses] = defaultdict(SharedPasses)  # of each model
        self._held: PrefilledVideo | None = None
        self._begun: dict[OperatingPoint, SelectedVideo] = {}  # for later ones

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
        later: Sequence[PlannedVideo] = (),
    ) -> PrefilledVideo:
        """Prefill what comes before the video, and the video, for `questions`: one where a method is query-aware.

        `later`: operating points whose turn comes after this one.
        """
        self._meter.reset_peak()
        begun = self._begun.pop(planned.point, None)
        selected = begun or self._selected(planned, encoded, attention, questions[0])
        held = self._usable(selected)
        self._held = None  # one that is of no use here gives its memory back first
        hidden = None
        if held is not None:
            state = held.state
            selected.clock.spent["prefill"] += held.clock.spent["prefill"]  # counts in full for each who shares it
        elif planned.point.method.whole and selected.tokens is not None:
            state, hidden = self._read_whole(selected, selected.tokens)
        else:
            state = self._read(selected, encoded, later)
        self._held = PrefilledVideo(
            planned.point,
            planned.budget,
            encoded,
            selected.tokens,
            state,
            selected.clock,
            selection_tokens=0 if attention is None else attention.fed,
            backbone=planned.backbone,
            selection_op_counts=OpCounts() if attention is None else attention.op_counts,
            reused_op_counts=OpCounts() if attention is None else attention.reused_op_counts,
            prefix_ids=tuple(selected.ids[0]),
            shared=len(questions) > 1 or (held is not None and held.point == planned.point),
            hidden=hidden,
            replies={} if held is None else held.replies,
        )
        return self._held

    def _selected(
        self, planned: PlannedVideo, encoded: EncodedVideo, attention: QuestionAttention | None, question: Question
    ) -> SelectedVideo:
        """What the method hands to the LLM."""
        ids, clock = self._ids(planned, encoded, question), Clock(self._meter)
        if encoded.tokens is None or attention is None:
            return SelectedVideo(planned, ids, None, clock)
        backbone = planned.backbone
        with clock.stage("select"):
            attention.set_question(*ids, backbone.reply_header(ids[1]))
            chosen = backbone.ordered(planned.point.method.select(encoded.tokens, planned.budget, attention))
        clock.spent["select"] += attention.reused_seconds
        return SelectedVideo(planned, ids, replace(chosen, encoder=None), clock)  # no later verb reads the encoder's

    def _ids(self, planned: PlannedVideo, encoded: EncodedVideo, question: Question) -> PromptIds:
        """Only a query-aware method sees the question; what comes before the video is the same for all of a
        benchmark.
        """
        backbone, benchmark = planned.backbone, question.benchmark
        if not planned.point.method.query_aware:
            return self._prompts.ids_unasked(backbone, benchmark, encoded)
        return self._prompts.ids(backbone, self._prompts.text(backbone, question, encoded), benchmark, encoded)

    def _usable(self, selected: SelectedVideo) -> PrefilledVideo | None:
        """The cache that is held, where the same text and tokens would be read in the same way."""
        held, planned = self._held, selected.planned
        if held is None or held.prefix_ids != tuple(selected.ids[0]):
            return None
        if held.point == planned.point:
            # `evict` may look at the question's length, and a `whole` feed has the question in it
            alike = not held.point.method.overrides("evict") and not held.point.method.whole
        else:
            both = (held.point.method, planned.point.method)
            alike = held.backbone is planned.backbone and all(map(_reads_as_given, both))
        return held if alike and _same(held.selected, selected.tokens) else None

    def _read_whole(self, selected: SelectedVideo, tokens: VisualTokens) -> tuple[PrefillState, Tensor]:
        """What has been read, and the last hidden state, as the question is in it."""
        planned, backbone = selected.planned, selected.planned.backbone
        before, after = selected.ids
        with selected.clock.stage("prefill"):
            state = backbone.new_state()
            return state, backbone.prefill_whole(state, before, tokens, after, planned.point.method, planned.budget)

    # ---- in chunks

    def _read(self, selected: SelectedVideo, encoded: EncodedVideo, later: Sequence[PlannedVideo]) -> PrefillState:
        """What comes before the question, in chunks; the first one with what `later` ones have in common with it."""
        if selected.tokens is None:
            return self._prefixes.state_after(selected.planned.backbone, selected.ids[0], selected.clock)
        feed = selected.feed
        if feed is None and _cuts_after_attention(selected.planned.point.method):
            try:
                feed = self._begin_together(selected, encoded, later)
            except Exception:  # noqa: BLE001 – what went wrong is met again, and recorded, where each is read alone
                feed = None
        feed = feed or self._feed(selected)
        with selected.clock.stage("prefill"):
            feed.read()
        return feed.state

    def _feed(self, selected: SelectedVideo) -> VideoFeed:
        """The video on its way into a cache that has read the text before it."""
        planned, (before, after) = selected.planned, selected.ids
        assert selected.tokens is not None
        return VideoFeed(
            planned.backbone,
            self._prefixes.state_after(planned.backbone, before, selected.clock),
            selected.tokens,
            planned.point.method,
            planned.budget,
            chunk_cells=self._chunk_cells,
            suffix_ids=after if planned.point.method.query_aware else (),
        )

    def _begin_together(
        self, selected: SelectedVideo, encoded: EncodedVideo, later: Sequence[PlannedVideo]
    ) -> VideoFeed | None:
        """Read the first chunk, for the same method's later ratios, too; None where there are none."""
        assert selected.tokens is not None
        others = [one for one in later if _differs_in_ratio(one, selected.planned)]
        if not others:
            return None
        feed, fed = self._feed(selected), list[tuple[SelectedVideo, VideoFeed]]()
        for one in others:
            own = self._begun.get(one.point) or self._selected(
                one, encoded, self.question_attention(one, encoded), one.questions[0]
            )
            self._begun[one.point] = own
            if own.feed is not None or own.tokens is None or not own.tokens.same(selected.tokens):
                break  # nor will be those of the others, which would only be held until their turn
            own = replace(own, tokens=replace(selected.tokens, flops=own.tokens.flops))  # one copy for all
            fed.append((own, self._feed(own)))
        alike = [(own, its) for own, its in fed if torch.equal(its.chunks[0], feed.chunks[0])]
        start = self._meter.now()
        feed.read_next([its for _, its in alike])
        spent = self._meter.now() - start
        for each in (selected, *(own for own, _ in alike)):
            each.clock.spent["prefill"] += spent  # counts in full for each who shares it
        self._begun.update({own.planned.point: replace(own, feed=its) for own, its in fed})
        return feed


def _same(ours: VisualTokens | None, theirs: VisualTokens | None) -> bool:
    """Whether the LLM reads the same."""
    return ours is theirs or (ours is not None and theirs is not None and ours.same(theirs))


def _cuts_after_attention(method: Method) -> bool:
    """Whether what is cut of a chunk is cut behind a layer's attention alone, whatever the question: up to there all
    ratios read a video's first chunk alike.
    """
    return method.overrides("evict") and not method.overrides("prune") and not method.query_aware


def _differs_in_ratio(one: PlannedVideo, other: PlannedVideo) -> bool:
    return one.backbone is other.backbone and one.point.method == other.point.method


def _reads_as_given(method: Method) -> bool:
    """Whether the LLM reads what was selected as it is: nothing is cut inside it, and chunks are the backbone's."""
    return not method.whole and not any(method.overrides(verb) for verb in ("prune", "evict", "chunks"))
