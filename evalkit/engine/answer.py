"""One video, top to bottom: decode, encode, select, prefill, and every question's answer for every operating point.

An operating point is one method at one ratio, on the backbone's weights or on tuned ones of its own. With sharing, the
frames of all operating points come from one decoding pass, each distinct set of frames is encoded once by each vision
encoder, and each operating point prefills the video once for all its questions. Without it, the same code runs with one
operating point and one question at a time, so that sharing cannot change an answer.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch

from evalkit.data.decoding.source import DecodeInProcess, FrameSource
from evalkit.data.protocols.base import PromptContext
from evalkit.engine import accounting, records
from evalkit.engine.encoded_video import EncodedVideo, Pending, PlannedVideo, PrefilledVideo
from evalkit.engine.encoding import BegunVideo, FrameSet, encode_all, frame_sets
from evalkit.engine.stage_times import Clock, Meter
from evalkit.errors import ConfigError, DataError, MethodError
from evalkit.method import Method, OperatingPoint
from evalkit.model import option_margin
from evalkit.model.flops import OpCounts
from evalkit.model.question_attention import Passes, QuestionAttention
from evalkit.types import Answer, Question, Video, VisualTokens

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from evalkit.data.protocols import Protocol
    from evalkit.engine.encoding import Refused
    from evalkit.engine.frame_encoder import FrameEncoder
    from evalkit.engine.models import FrameEncoders
    from evalkit.model.prefill_state import PrefillState
    from evalkit.model.video_llm import VideoLLM

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Engine:
    """Everything that all operating points of a run have in common."""

    frame_encoders: FrameEncoders
    protocol: Protocol
    chunk_cells: int | None = 16  # cells per prefill chunk; None: the whole video at once
    share: bool = True
    gauge: Meter | None = None  # None: the backbone's device
    source: FrameSource = field(default_factory=DecodeInProcess)
    # the video that is decoded while the one before it is answered, or what is wrong with it
    _ahead: list[tuple[Pending, BegunVideo | Exception]] = field(default_factory=list, repr=False)

    @property
    def frame_encoder(self) -> FrameEncoder:
        """That of the backbone as it is."""
        return self.frame_encoders((None,))[None]

    @property
    def meter(self) -> Meter:
        """What counts seconds and memory."""
        return self.gauge or Meter(self.frame_encoder.backbone.device)

    def answers(self, pending: Pending, following: Pending | None = None) -> Iterator[tuple[OperatingPoint, Answer]]:
        """Answer the questions of ONE video, given per operating point. Failures are answers with status `failed`.

        `following`: what is answered next. Where frames are decoded in another process, its decoding is begun as soon
        as this video is encoded. Raises ConfigError, which concerns the whole run.
        """
        if self.share:
            yield from self._together(pending, following if self.source.ahead else None)
            return
        for point, questions in pending.items():
            for question in questions:
                yield from self._together({point: [question]})

    def _together(self, pending: Pending, following: Pending | None = None) -> Iterator[tuple[OperatingPoint, Answer]]:
        begun = self._taken(pending)
        failure = None if isinstance(begun, Exception) else self._encode(begun, following)
        if following is not None:
            self._ahead.append((following, self._begin(following)))
        if isinstance(begun, Exception):
            yield from _lost(pending, begun)
            return
        for point, batch, error in begun.refused:
            yield from _lost({point: batch}, error)
        if failure is not None:
            yield from _lost(_joined(one for frames in begun.sets for one in frames.planned), failure)
            return
        shared = sum(map(len, pending.values())) > 1
        union = len({index for one in begun.sets for index in one.indices})
        for one in begun.sets:
            decoding = Clock(self.meter)
            decoding.spent["decode"] = begun.stream.seconds * len(one.indices) / max(1, union)
            yield from self._answer_set(one, begun.video, decoding, shared=shared)

    def _taken(self, pending: Pending) -> BegunVideo | Exception:
        """A video that has been begun ahead, or is begun now."""
        ahead = [begun for asked, begun in self._ahead if asked is pending]
        self._ahead.clear()
        return ahead[0] if ahead else self._begin(pending)

    def _begin(self, pending: Pending) -> BegunVideo | Exception:
        """Plan one video's frames and have them decoded; what went wrong is for its turn."""
        try:
            encoders = self.frame_encoders({point.adapter for point in pending})
            video = self.source.probe(_path(pending))
            planned: list[PlannedVideo] = []
            refused: list[Refused] = []
            batches = [(point, batch) for point, asked in pending.items() for batch in _planned_alike(point, asked)]
            for point, batch in batches:
                try:
                    seen = replace(video, frame_scores=batch[0].frame_scores)
                    planned.append(replace(encoders[point.adapter].plan(point, seen), questions=batch))
                except MethodError as error:  # this method makes no plan here, the others do
                    refused.append((point, batch, error))
            plans = [one.frames for one in planned if one.frames.indices]
            reader = next(iter(encoders.values())).reader
            stream = self.source.frames(video, plans, reader, self.meter.now)
            return BegunVideo(video, frame_sets(planned, encoders, self.meter), refused, stream)
        except Exception as error:  # noqa: BLE001 – one bad video becomes recorded rows, never the end of a run
            return error

    def _encode(self, begun: BegunVideo, following: Pending | None) -> Exception | None:
        """Encode a video as its frames come; what went wrong."""
        try:
            if following is not None:
                self.source.announce(_path(following))
            encode_all(begun.video, begun.stream, begun.sets)
        except Exception as error:  # noqa: BLE001 – as above
            return error
        return None

    def _answer_set(
        self, frames: FrameSet, video: Video, decoding: Clock, *, shared: bool
    ) -> Iterator[tuple[OperatingPoint, Answer]]:
        """The answers of all operating points that want the same frames."""
        try:
            encoded = frames.encoded(video, decoding, shared=shared)
        except Exception as error:  # noqa: BLE001 – as above
            yield from _lost(_joined(frames.planned), error)
            return
        passes: dict[int, Passes] = defaultdict(dict)  # of each model, over these frames
        for one in frames.planned:
            yield from self._answer_all(one, encoded.seen_by(one.point.method), one.questions, passes[id(one.backbone)])

    def _answer_all(
        self, planned: PlannedVideo, encoded: EncodedVideo, questions: Sequence[Question], passes: Passes
    ) -> Iterator[tuple[OperatingPoint, Answer]]:
        """One operating point's answers: from one prefilled cache, or from one for each question where it is query
        aware, unless it chose the same tokens for the question before.
        """
        attention = None if encoded.tokens is None else self._question_attention(planned, encoded.tokens, passes)
        last: PrefilledVideo | None = None
        for batch in [[q] for q in questions] if planned.point.method.query_aware else [questions]:
            try:
                with torch.inference_mode():
                    last = self._prefill(planned, encoded, attention, batch, last)
            except Exception as error:  # noqa: BLE001 – as above
                last = None
                yield from _lost({planned.point: batch}, error)
            else:
                yield from self._batch(last, batch)

    def _question_attention(self, planned: PlannedVideo, tokens: VisualTokens, passes: Passes) -> QuestionAttention:
        """Question→token attention over one video; what does not depend on the question is computed once."""
        return QuestionAttention(
            planned.backbone,
            tokens,
            planned.point.method,
            planned.budget,
            chunk_cells=self.chunk_cells,
            passes=passes,
        )

    def _batch(
        self, prefilled: PrefilledVideo, questions: Sequence[Question]
    ) -> Iterator[tuple[OperatingPoint, Answer]]:
        for question in questions:
            try:
                with torch.inference_mode():
                    answer = self._answer(prefilled, question)
            except Exception as error:  # noqa: BLE001 – as above
                yield from _lost({prefilled.point: [question]}, error)
            else:
                yield prefilled.point, answer

    def _prefill(
        self,
        planned: PlannedVideo,
        encoded: EncodedVideo,
        question_attention: QuestionAttention | None,
        questions: Sequence[Question],
        last: PrefilledVideo | None,
    ) -> PrefilledVideo:
        """Prefill what comes before the video, and the video; `last`: what was prefilled for the question before."""
        backbone, method, tokens = planned.backbone, planned.point.method, encoded.tokens
        clock = Clock(self.meter)
        clock.meter.reset_peak()
        # only a query-aware method sees the question; what comes before the video is the same for all of a benchmark
        prompt = self._prompt(backbone, questions[0], encoded) if method.query_aware else ""
        prefix_ids, suffix_ids = self._ids(backbone, prompt, questions[0].benchmark, encoded)
        with clock.stage("select"):
            selected = None
            if tokens is not None and question_attention is not None:
                question_attention.set_question(prefix_ids, suffix_ids, backbone.reply_header(suffix_ids))
                chosen = backbone.ordered(method.select(tokens, planned.budget, question_attention))
                selected = replace(chosen, encoder=None)  # no later verb reads what the encoder told
        held = last if last is not None and _reusable(last, prefix_ids, selected) else None
        hidden = None
        if held is not None:  # counts in full for each question, as everything that questions share
            state = held.state
            clock.spent["prefill"] += held.clock.spent["prefill"]
        else:
            with clock.stage("prefill"):
                state, hidden = self._prefilled_state(planned, prefix_ids, selected, suffix_ids)
        return PrefilledVideo(
            planned.point,
            planned.budget,
            encoded,
            selected,
            state,
            clock,
            selection_tokens=0 if question_attention is None else question_attention.fed,
            backbone=backbone,
            selection_op_counts=OpCounts() if question_attention is None else question_attention.op_counts,
            reused_op_counts=OpCounts() if question_attention is None else question_attention.reused_op_counts,
            prefix_ids=tuple(prefix_ids),
            shared=len(questions) > 1 or held is not None,
            hidden=hidden,
        )

    def _prefilled_state(
        self,
        planned: PlannedVideo,
        prefix_ids: Sequence[int],
        selected: VisualTokens | None,
        suffix_ids: Sequence[int],
    ) -> tuple[PrefillState, Tensor | None]:
        """What has been read, and the last hidden state where the question is in it."""
        backbone, method, budget = planned.backbone, planned.point.method, planned.budget
        state = backbone.new_state()
        if method.whole and selected is not None:
            return state, backbone.prefill_whole(state, prefix_ids, selected, suffix_ids, method, budget)
        backbone.prefill_text(state, prefix_ids)
        if selected is not None:
            following = len(suffix_ids) if method.query_aware else 0
            backbone.prefill_video(
                state, selected, method, budget, chunk_cells=self.chunk_cells, suffix_tokens=following
            )
        return state, None

    def _answer(self, prefilled: PrefilledVideo, question: Question) -> Answer:
        backbone, state = prefilled.backbone, prefilled.state
        prompt = self._prompt(backbone, question, prefilled.encoded)
        prefix_ids, suffix_ids = self._ids(backbone, prompt, question.benchmark, prefilled.encoded)
        clock, mark = Clock(self.meter), state.mark()
        try:
            with clock.stage("prefill"):
                hidden = prefilled.hidden if prefilled.hidden is not None else backbone.prefill_text(state, suffix_ids)
                logits = backbone.score_next(state, hidden)
                first = backbone.choose(state, logits)
            visual, before = tuple(state.visual), state.op_counts
            with clock.stage("generate"):
                limit = self.protocol.max_new_tokens(question.benchmark)
                ids = backbone.generate(state, first, limit, self.protocol.stop)
            generated = state.op_counts - before
        finally:
            state.rewind(mark)
        text = backbone.tokenizer.decode(ids, skip_special_tokens=True)
        gold = self.protocol.gold(question)
        return records.answered(
            prefilled.point,
            question,
            prefilled.encoded.video,
            prompt=prompt,
            text=text,
            gold=gold,
            reply=self.protocol.read(question, text),
            ledger=accounting.ledger(
                backbone,
                prefilled,
                n_text_tokens=len(prefix_ids) + len(suffix_ids) + max(0, len(ids) - 1),  # the last one is not fed
                visual=visual,
                clock=clock,
                operations=accounting.flops(backbone, prefilled, before, generated),
                own_flops=accounting.own_flops(backbone, prefilled, before, generated),
            ),
            kept=accounting.kept(prefilled),
            repeated=records.is_repeated(ids, limit),
            margin=option_margin.margin(logits, backbone.letter_ids, gold, len(question.options)),
            stand_ins=prefilled.encoded.stand_ins,
        )

    def _prompt(self, backbone: VideoLLM, question: Question, encoded: EncodedVideo) -> str:
        """The user's turn, which may name the times of the dense run's frames, and their number."""
        video, frames = encoded.video, encoded.dense_frames
        seconds = tuple(i / video.fps for i in frames)
        text = self.protocol.prompt(question, PromptContext(video, seconds, backbone.tokenizer))
        if encoded.tokens is None:
            return text
        return backbone.introduced(text, seconds=video.duration_s, frames=len(frames))

    def _ids(
        self, backbone: VideoLLM, prompt: str, benchmark: str, encoded: EncodedVideo
    ) -> tuple[list[int], list[int]]:
        """Token ids before and after the video. DataError where they alone are more than the model has positions."""
        prefix_ids, suffix_ids = backbone.prompt(
            prompt,
            video=encoded.tokens is not None,
            system=self.protocol.system(benchmark),
            prefill=self.protocol.prefill(benchmark),
        )
        count, limit = len(prefix_ids) + len(suffix_ids), backbone.max_positions
        if limit is not None and count > limit:
            raise DataError(
                f"expected a prompt of at most {limit:,} tokens, as the model has positions, got {count:,} without the "
                "video; shorten the question, or leave its row out"
            )
        return prefix_ids, suffix_ids


def _path(pending: Pending) -> Path:
    return next(iter(pending.values()))[0].video_path


def _planned_alike(point: OperatingPoint, questions: Sequence[Question]) -> list[tuple[Question, ...]]:
    """Questions for which a method wants the same frames: all of them, unless it chooses frames for each."""
    return [(one,) for one in questions] if point.method.needs_frame_scores else [tuple(questions)]


def _joined(planned: Iterable[PlannedVideo]) -> dict[OperatingPoint, list[Question]]:
    """The questions of each operating point."""
    joined: dict[OperatingPoint, list[Question]] = {}
    for one in planned:
        joined.setdefault(one.point, []).extend(one.questions)
    return joined


def _reusable(held: PrefilledVideo, prefix_ids: Sequence[int], selected: VisualTokens | None) -> bool:
    """Whether what is held was prefilled from the same text and tokens; `evict` may look at the question's length, and
    a `whole` feed has the question in it.
    """
    method = held.point.method
    if type(method).evict is not Method.evict or method.whole or held.selected is None or selected is None:
        return False
    return held.prefix_ids == tuple(prefix_ids) and held.selected.same(selected)


def _lost(
    pending: Mapping[OperatingPoint, Sequence[Question]], error: Exception
) -> Iterator[tuple[OperatingPoint, Answer]]:
    """Every pending question as a failed row; the log gets one line for all. Wrong settings are raised: they concern
    the whole run.
    """
    if isinstance(error, ConfigError):
        raise error
    message = f"{type(error).__name__}: {error}"
    rows = [(point, records.failed(point, q, message)) for point, questions in pending.items() for q in questions]
    (point, first), count = rows[0], len(rows)
    log.warning("%s, video %s, %s: %d not answered: %s", first.benchmark, first.video_id, point.name, count, error)
    log.debug("where it failed", exc_info=error)
    yield from rows
