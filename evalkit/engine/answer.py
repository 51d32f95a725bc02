"""One video, top to bottom: decode, encode, select, prefill, and every question's answer for every arm.

An arm is one method at one ratio. With sharing, all arms' frames come from one decoding pass, each distinct set of
frames is encoded once, and each arm prefills the video once for all its questions. Without it, the same code runs with
one arm and one question at a time; so sharing can never change an answer.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from evalkit.data import video as video_file
from evalkit.data.protocols.base import Shown
from evalkit.engine import accounting, records
from evalkit.engine.encoded_video import Prefix, Sight
from evalkit.engine.frame_encoder import Eyes
from evalkit.engine.records import Arm
from evalkit.engine.stage_times import Clock, Meter
from evalkit.errors import ConfigError
from evalkit.model.flops import Work
from evalkit.model.question_attention import Asker
from evalkit.types import Answer, Question, VisualTokens

if TYPE_CHECKING:
    from evalkit.data.protocols import Protocol

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Engine:
    """Everything that all arms of a run have in common."""

    eyes: Eyes
    protocol: Protocol
    chunk_cells: int | None = 16  # cells per prefill chunk; None: the whole video at once
    share: bool = True
    gauge: Meter | None = None  # None: the backbone's device

    @property
    def meter(self) -> Meter:
        """What counts seconds and memory."""
        return self.gauge or Meter(self.eyes.backbone.device)

    def answers(self, pending: Mapping[Arm, Sequence[Question]]) -> Iterator[tuple[Arm, Answer]]:
        """Answer the questions of ONE video, given per arm. Failures come out as answers with status `failed`.

        Raises ConfigError, which concerns the whole run.
        """
        if self.share:
            yield from self._together(pending)
            return
        for arm, questions in pending.items():
            for question in questions:
                yield from self._together({arm: [question]})

    def _together(self, pending: Mapping[Arm, Sequence[Question]]) -> Iterator[tuple[Arm, Answer]]:
        path = next(iter(pending.values()))[0].video_path
        meter = self.meter
        clock, shared = Clock(meter), sum(map(len, pending.values())) > 1
        try:
            video = video_file.probe(path)
            plans = {arm: self.eyes.plan(arm, video) for arm in pending}
            with clock.stage("decode"):
                frames = self.eyes.decode(video, list(plans.values()))
        except Exception as error:  # noqa: BLE001 – one bad video becomes recorded rows, never the end of a run
            yield from _lost(pending, error)
            return
        union = len({i for plan in frames for i in plan.indices})
        for plan in dict.fromkeys(plans.values()):
            group = {arm: pending[arm] for arm in pending if plans[arm] == plan}
            decoding = clock.part(len(plan.indices) / union if union else 0.0)
            encoding = Clock(meter)
            try:
                meter.reset_peak()
                with torch.inference_mode(), encoding.stage("encode"):
                    tokens = self.eyes.encode(video, plan, frames[plan]) if plan in frames else None
            except Exception as error:  # noqa: BLE001 – as above
                yield from _lost(group, error)
                continue
            dense = self.eyes.budget(next(iter(group)), video).frames
            sight = Sight(video, plan, dense, tokens, (decoding, encoding), meter.peak_bytes(), shared)
            for arm, questions in group.items():
                asker = None if tokens is None else self._asker(arm, sight, tokens)
                # one prefix for all questions, or one for each where the method asks
                for batch in [[q] for q in questions] if arm.method.asks else [questions]:
                    yield from self._batch(arm, sight, asker, batch)

    def _asker(self, arm: Arm, sight: Sight, tokens: VisualTokens) -> Asker:
        """What a method may ask of one video; it keeps what does not depend on the question."""
        budget = self.eyes.budget(arm, sight.video)
        return Asker(self.eyes.backbone, tokens, arm.method, budget, chunk_cells=self.chunk_cells)

    def _batch(
        self, arm: Arm, sight: Sight, asker: Asker | None, questions: Sequence[Question]
    ) -> Iterator[tuple[Arm, Answer]]:
        try:
            with torch.inference_mode():
                prefix = self._prefix(arm, sight, asker, questions)
        except Exception as error:  # noqa: BLE001 – as above
            yield from _lost({arm: questions}, error)
            return
        for question in questions:
            try:
                with torch.inference_mode():
                    answer = self._answer(prefix, question)
            except Exception as error:  # noqa: BLE001 – as above
                yield from _lost({arm: [question]}, error)
            else:
                yield arm, answer

    def _prefix(self, arm: Arm, sight: Sight, asker: Asker | None, questions: Sequence[Question]) -> Prefix:
        """Head and video, fed. A question is looked at only where the method asks."""
        backbone, method, tokens = self.eyes.backbone, arm.method, sight.tokens
        budget, clock = self.eyes.budget(arm, sight.video), Clock(self.meter)
        clock.meter.reset_peak()
        # without a question the words are not there yet; what comes before the video is the same for all of a benchmark
        prompt = self._prompt(questions[0], sight) if method.asks else ""
        head, tail = self._ids(prompt, questions[0].benchmark, sight)
        with clock.stage("select"):
            selected = None
            if tokens is not None and asker is not None:
                asker.question(head, tail, backbone.header(tail))
                selected = method.select(tokens, budget, asker)
        with clock.stage("prefill"):
            context = backbone.context()
            backbone.feed_text(context, head)
            if selected is not None:
                coming = len(tail) if method.asks else 0
                backbone.feed_video(context, selected, method, budget, chunk_cells=self.chunk_cells, tail=coming)
        asked, asking = (0, Work()) if asker is None else (asker.fed, asker.work)
        return Prefix(arm, sight, budget, selected, context, clock, asked, asking, shared=len(questions) > 1)

    def _answer(self, prefix: Prefix, question: Question) -> Answer:
        backbone, context = self.eyes.backbone, prefix.context
        prompt = self._prompt(question, prefix.sight)
        head, tail = self._ids(prompt, question.benchmark, prefix.sight)
        clock, mark = Clock(self.meter), context.mark()
        try:
            with clock.stage("prefill"):
                first = backbone.next_token(context, backbone.feed_text(context, tail))
            visual, prefilled = tuple(context.visual), context.work
            with clock.stage("generate"):
                limit = self.protocol.max_new_tokens(question.benchmark)
                ids = backbone.generate(context, first, limit, self.protocol.stop)
            generated = context.work - prefilled
        finally:
            context.rewind(mark)
        text = backbone.tokenizer.decode(ids, skip_special_tokens=True)
        words = len(head) + len(tail) + max(0, len(ids) - 1)  # the last generated token is not fed
        return records.answered(
            prefix.arm,
            question,
            prefix.sight.video,
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

    def _prompt(self, question: Question, sight: Sight) -> str:
        """The protocol's words, which may name the moments that the dense run is shown."""
        seconds = tuple(i / sight.video.fps for i in sight.dense_frames)
        return self.protocol.prompt(question, Shown(sight.video, seconds, self.eyes.backbone.tokenizer))

    def _ids(self, prompt: str, benchmark: str, sight: Sight) -> tuple[list[int], list[int]]:
        """Token ids before and after the video."""
        return self.eyes.backbone.prompt(
            prompt,
            video=sight.tokens is not None,
            system=self.protocol.system(benchmark),
            prefill=self.protocol.prefill(benchmark),
        )


def _lost(pending: Mapping[Arm, Sequence[Question]], error: Exception) -> Iterator[tuple[Arm, Answer]]:
    """Every pending question as a failed row; the log gets one line for all. Wrong settings are raised: they concern
    the whole run.
    """
    if isinstance(error, ConfigError):
        raise error
    message = f"{type(error).__name__}: {error}"
    rows = [(arm, records.failed(arm, q, message)) for arm, questions in pending.items() for q in questions]
    (arm, first), count = rows[0], len(rows)
    log.warning("%s, video %s, %s: %d not answered: %s", first.benchmark, first.video_id, arm.name, count, error)
    log.debug("where it failed", exc_info=error)
    yield from rows
