"""One video, top to bottom: decode, encode, select, prefill, and every question's answer for every operating point.

An operating point is one method at one ratio. With sharing, the frames of all operating points come from one decoding
pass, each distinct set of frames is encoded once, and each operating point prefills the video once for all its
questions. Without it, the same code runs with one operating point and one question at a time, so that sharing cannot
change an answer.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from evalkit.data import video as video_file
from evalkit.data.protocols.base import PromptContext
from evalkit.engine import accounting, records
from evalkit.engine.encoded_video import EncodedVideo, PlannedVideo, PrefilledVideo
from evalkit.engine.frame_encoder import FrameEncoder
from evalkit.engine.stage_times import Clock, Meter
from evalkit.errors import ConfigError, MethodError
from evalkit.method import OperatingPoint
from evalkit.model.flops import OpCounts
from evalkit.model.question_attention import QuestionAttention
from evalkit.types import Answer, Question, VisualTokens

if TYPE_CHECKING:
    from evalkit.data.protocols import Protocol

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Engine:
    """Everything that all operating points of a run have in common."""

    frame_encoder: FrameEncoder
    protocol: Protocol
    chunk_cells: int | None = 16  # cells per prefill chunk; None: the whole video at once
    share: bool = True
    gauge: Meter | None = None  # None: the backbone's device

    @property
    def meter(self) -> Meter:
        """What counts seconds and memory."""
        return self.gauge or Meter(self.frame_encoder.backbone.device)

    def answers(self, pending: Mapping[OperatingPoint, Sequence[Question]]) -> Iterator[tuple[OperatingPoint, Answer]]:
        """Answer the questions of ONE video, given per operating point. Failures are answers with status `failed`.

        Raises ConfigError, which concerns the whole run.
        """
        if self.share:
            yield from self._together(pending)
            return
        for point, questions in pending.items():
            for question in questions:
                yield from self._together({point: [question]})

    def _together(
        self, pending: Mapping[OperatingPoint, Sequence[Question]]
    ) -> Iterator[tuple[OperatingPoint, Answer]]:
        path = next(iter(pending.values()))[0].video_path
        meter = self.meter
        clock, shared = Clock(meter), sum(map(len, pending.values())) > 1
        planned, left = [], dict(pending)
        try:
            video = video_file.probe(path)
            for point in pending:
                try:
                    planned.append(self.frame_encoder.plan(point, video))
                except MethodError as error:  # this method makes no plan here, the others do
                    yield from _lost({point: left.pop(point)}, error)
            with clock.stage("decode"):
                frames = self.frame_encoder.decode(video, [one.frames for one in planned])
        except Exception as error:  # noqa: BLE001 – one bad video becomes recorded rows, never the end of a run
            yield from _lost(left, error)
            return
        union = len({i for plan in frames for i in plan.indices})
        for plan in dict.fromkeys(one.frames for one in planned):
            group = [one for one in planned if one.frames == plan]
            decoding = clock.part(len(plan.indices) / union if union else 0.0)
            encoding = Clock(meter)
            try:
                meter.reset_peak()
                with torch.inference_mode(), encoding.stage("encode"):
                    tokens = self.frame_encoder.encode(video, plan, frames[plan]) if plan in frames else None
            except Exception as error:  # noqa: BLE001 – as above
                yield from _lost({one.point: pending[one.point] for one in group}, error)
                continue
            dense = group[0].budget.frames  # the same at every ratio
            encoded = EncodedVideo(video, plan, dense, tokens, (decoding, encoding), meter.peak_bytes(), shared)
            for one in group:
                yield from self._answer_all(one, encoded, pending[one.point])

    def _answer_all(
        self, planned: PlannedVideo, encoded: EncodedVideo, questions: Sequence[Question]
    ) -> Iterator[tuple[OperatingPoint, Answer]]:
        """One operating point's answers: from one prefilled cache, or from one for each question where it is query
        aware.
        """
        attention = None if encoded.tokens is None else self._question_attention(planned, encoded.tokens)
        for batch in [[q] for q in questions] if planned.point.method.query_aware else [questions]:
            yield from self._batch(planned, encoded, attention, batch)

    def _question_attention(self, planned: PlannedVideo, tokens: VisualTokens) -> QuestionAttention:
        """Question→token attention over one video; what does not depend on the question is computed once."""
        return QuestionAttention(
            self.frame_encoder.backbone, tokens, planned.point.method, planned.budget, chunk_cells=self.chunk_cells
        )

    def _batch(
        self,
        planned: PlannedVideo,
        encoded: EncodedVideo,
        question_attention: QuestionAttention | None,
        questions: Sequence[Question],
    ) -> Iterator[tuple[OperatingPoint, Answer]]:
        point = planned.point
        try:
            with torch.inference_mode():
                prefilled = self._prefill(planned, encoded, question_attention, questions)
        except Exception as error:  # noqa: BLE001 – as above
            yield from _lost({point: questions}, error)
            return
        for question in questions:
            try:
                with torch.inference_mode():
                    answer = self._answer(prefilled, question)
            except Exception as error:  # noqa: BLE001 – as above
                yield from _lost({point: [question]}, error)
            else:
                yield point, answer

    def _prefill(
        self,
        planned: PlannedVideo,
        encoded: EncodedVideo,
        question_attention: QuestionAttention | None,
        questions: Sequence[Question],
    ) -> PrefilledVideo:
        """Prefill what comes before the video, and the video."""
        backbone, method, tokens = self.frame_encoder.backbone, planned.point.method, encoded.tokens
        clock = Clock(self.meter)
        clock.meter.reset_peak()
        # only a query-aware method sees the question; what comes before the video is the same for all of a benchmark
        prompt = self._prompt(questions[0], encoded) if method.query_aware else ""
        prefix_ids, suffix_ids = self._ids(prompt, questions[0].benchmark, encoded)
        with clock.stage("select"):
            selected = None
            if tokens is not None and question_attention is not None:
                question_attention.set_question(prefix_ids, suffix_ids, backbone.reply_header(suffix_ids))
                selected = method.select(tokens, planned.budget, question_attention)
        with clock.stage("prefill"):
            state = backbone.new_state()
            backbone.prefill_text(state, prefix_ids)
            if selected is not None:
                following = len(suffix_ids) if method.query_aware else 0
                backbone.prefill_video(
                    state, selected, method, planned.budget, chunk_cells=self.chunk_cells, suffix_tokens=following
                )
        return PrefilledVideo(
            planned.point,
            planned.budget,
            encoded,
            selected,
            state,
            clock,
            selection_tokens=0 if question_attention is None else question_attention.fed,
            selection_op_counts=OpCounts() if question_attention is None else question_attention.op_counts,
            shared=len(questions) > 1,
        )

    def _answer(self, prefilled: PrefilledVideo, question: Question) -> Answer:
        backbone, state = self.frame_encoder.backbone, prefilled.state
        prompt = self._prompt(question, prefilled.encoded)
        prefix_ids, suffix_ids = self._ids(prompt, question.benchmark, prefilled.encoded)
        clock, mark = Clock(self.meter), state.mark()
        try:
            with clock.stage("prefill"):
                first = backbone.next_token(state, backbone.prefill_text(state, suffix_ids))
            visual, before = tuple(state.visual), state.op_counts
            with clock.stage("generate"):
                limit = self.protocol.max_new_tokens(question.benchmark)
                ids = backbone.generate(state, first, limit, self.protocol.stop)
            generated = state.op_counts - before
        finally:
            state.rewind(mark)
        text = backbone.tokenizer.decode(ids, skip_special_tokens=True)
        return records.answered(
            prefilled.point,
            question,
            prefilled.encoded.video,
            prompt=prompt,
            text=text,
            gold=self.protocol.gold(question),
            reply=self.protocol.read(question, text),
            ledger=accounting.ledger(
                backbone,
                prefilled,
                n_text_tokens=len(prefix_ids) + len(suffix_ids) + max(0, len(ids) - 1),  # the last one is not fed
                visual=visual,
                clock=clock,
                operations=accounting.flops(backbone, prefilled, before, generated),
            ),
            kept=accounting.kept(prefilled),
            repeated=records.is_repeated(ids, limit),
        )

    def _prompt(self, question: Question, encoded: EncodedVideo) -> str:
        """The user's turn, which may name the times of the dense run's frames, and their number."""
        backbone, video, frames = self.frame_encoder.backbone, encoded.video, encoded.dense_frames
        seconds = tuple(i / video.fps for i in frames)
        text = self.protocol.prompt(question, PromptContext(video, seconds, backbone.tokenizer))
        if encoded.tokens is None:
            return text
        return backbone.introduced(text, seconds=video.duration_s, frames=len(frames))

    def _ids(self, prompt: str, benchmark: str, encoded: EncodedVideo) -> tuple[list[int], list[int]]:
        """Token ids before and after the video."""
        return self.frame_encoder.backbone.prompt(
            prompt,
            video=encoded.tokens is not None,
            system=self.protocol.system(benchmark),
            prefill=self.protocol.prefill(benchmark),
        )


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
