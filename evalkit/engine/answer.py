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
from evalkit.engine.encoded_video import EncodedVideo, Prefix
from evalkit.engine.frame_encoder import FrameEncoder
from evalkit.engine.records import OperatingPoint
from evalkit.engine.stage_times import Clock, Meter
from evalkit.errors import ConfigError
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
        try:
            video = video_file.probe(path)
            plans = {point: self.frame_encoder.plan(point, video) for point in pending}
            with clock.stage("decode"):
                frames = self.frame_encoder.decode(video, list(plans.values()))
        except Exception as error:  # noqa: BLE001 – one bad video becomes recorded rows, never the end of a run
            yield from _lost(pending, error)
            return
        union = len({i for plan in frames for i in plan.indices})
        for plan in dict.fromkeys(plans.values()):
            group = {point: pending[point] for point in pending if plans[point] == plan}
            decoding = clock.part(len(plan.indices) / union if union else 0.0)
            encoding = Clock(meter)
            try:
                meter.reset_peak()
                with torch.inference_mode(), encoding.stage("encode"):
                    tokens = self.frame_encoder.encode(video, plan, frames[plan]) if plan in frames else None
            except Exception as error:  # noqa: BLE001 – as above
                yield from _lost(group, error)
                continue
            dense = self.frame_encoder.budget(next(iter(group)), video).frames
            encoded = EncodedVideo(video, plan, dense, tokens, (decoding, encoding), meter.peak_bytes(), shared)
            for point, questions in group.items():
                question_attention = None if tokens is None else self._asker(point, encoded, tokens)
                # one prefix for all questions, or one for each where the method asks
                for batch in [[q] for q in questions] if point.method.query_aware else [questions]:
                    yield from self._batch(point, encoded, question_attention, batch)

    def _asker(self, point: OperatingPoint, encoded: EncodedVideo, tokens: VisualTokens) -> QuestionAttention:
        """What a method may ask of one video; it keeps what does not depend on the question."""
        budget = self.frame_encoder.budget(point, encoded.video)
        return QuestionAttention(
            self.frame_encoder.backbone, tokens, point.method, budget, chunk_cells=self.chunk_cells
        )

    def _batch(
        self,
        point: OperatingPoint,
        encoded: EncodedVideo,
        question_attention: QuestionAttention | None,
        questions: Sequence[Question],
    ) -> Iterator[tuple[OperatingPoint, Answer]]:
        try:
            with torch.inference_mode():
                prefix = self._prefix(point, encoded, question_attention, questions)
        except Exception as error:  # noqa: BLE001 – as above
            yield from _lost({point: questions}, error)
            return
        for question in questions:
            try:
                with torch.inference_mode():
                    answer = self._answer(prefix, question)
            except Exception as error:  # noqa: BLE001 – as above
                yield from _lost({point: [question]}, error)
            else:
                yield point, answer

    def _prefix(
        self,
        point: OperatingPoint,
        encoded: EncodedVideo,
        question_attention: QuestionAttention | None,
        questions: Sequence[Question],
    ) -> Prefix:
        """Head and video, fed. A question is looked at only where the method asks."""
        backbone, method, tokens = self.frame_encoder.backbone, point.method, encoded.tokens
        budget, clock = self.frame_encoder.budget(point, encoded.video), Clock(self.meter)
        clock.meter.reset_peak()
        # without a question the words are not there yet; what comes before the video is the same for all of a benchmark
        prompt = self._prompt(questions[0], encoded) if method.query_aware else ""
        head, tail = self._ids(prompt, questions[0].benchmark, encoded)
        with clock.stage("select"):
            selected = None
            if tokens is not None and question_attention is not None:
                question_attention.set_question(head, tail, backbone.reply_header(tail))
                selected = method.select(tokens, budget, question_attention)
        with clock.stage("prefill"):
            context = backbone.new_state()
            backbone.prefill_text(context, head)
            if selected is not None:
                coming = len(tail) if method.query_aware else 0
                backbone.prefill_video(
                    context, selected, method, budget, chunk_cells=self.chunk_cells, suffix_tokens=coming
                )
        asked, asking = (
            (0, OpCounts()) if question_attention is None else (question_attention.fed, question_attention.op_counts)
        )
        return Prefix(point, encoded, budget, selected, context, clock, asked, asking, shared=len(questions) > 1)

    def _answer(self, prefix: Prefix, question: Question) -> Answer:
        backbone, context = self.frame_encoder.backbone, prefix.context
        prompt = self._prompt(question, prefix.encoded)
        head, tail = self._ids(prompt, question.benchmark, prefix.encoded)
        clock, mark = Clock(self.meter), context.mark()
        try:
            with clock.stage("prefill"):
                first = backbone.next_token(context, backbone.prefill_text(context, tail))
            visual, prefilled = tuple(context.visual), context.op_counts
            with clock.stage("generate"):
                limit = self.protocol.max_new_tokens(question.benchmark)
                ids = backbone.generate(context, first, limit, self.protocol.stop)
            generated = context.op_counts - prefilled
        finally:
            context.rewind(mark)
        text = backbone.tokenizer.decode(ids, skip_special_tokens=True)
        words = len(head) + len(tail) + max(0, len(ids) - 1)  # the last generated token is not fed
        return records.answered(
            prefix.point,
            question,
            prefix.encoded.video,
            prompt=prompt,
            text=text,
            gold=self.protocol.gold(question),
            reply=self.protocol.read(question, text),
            ledger=accounting.ledger(
                backbone,
                prefix,
                words=words,
                visual=visual,
                clock=clock,
                operations=accounting.flops(backbone, prefix, prefilled, generated),
            ),
            kept=accounting.kept(prefix),
            repeated=records.is_repeated(ids, limit),
        )

    def _prompt(self, question: Question, encoded: EncodedVideo) -> str:
        """The protocol's words, which may name the moments that the dense run is shown."""
        seconds = tuple(i / encoded.video.fps for i in encoded.dense_frames)
        return self.protocol.prompt(
            question, PromptContext(encoded.video, seconds, self.frame_encoder.backbone.tokenizer)
        )

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
