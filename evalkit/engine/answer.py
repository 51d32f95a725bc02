"""One video, top to bottom: decode, encode, select, prefill, and every question's answer for every arm.

An arm is one method at one ratio. With sharing, all arms' frames come from one decoding pass, each distinct set of
frames is encoded once, and each arm prefills the video once for all its questions. Without it, the same code runs with
one arm and one question at a time; so sharing can never change an answer.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from evalkit.data import video as video_file
from evalkit.data.benchmarks import duration_bucket
from evalkit.engine.clock import Clock, peak_bytes
from evalkit.errors import ConfigError, MethodError
from evalkit.ledger import Ledger
from evalkit.method import Budget, Method
from evalkit.types import Answer, FramePlan, Frames, Question, Video, VisualTokens

if TYPE_CHECKING:
    from evalkit.data.protocols import Protocol
    from evalkit.data.sampling import Sampling
    from evalkit.model.context import Context
    from evalkit.model.families.qwen2_vl import Qwen2VL

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Arm:
    """One method at one ratio."""

    name: str  # of the method's configuration
    method: Method
    ratio: float


@dataclass(frozen=True, kw_only=True)
class Engine:
    """Everything that all arms of a run have in common."""

    backbone: Qwen2VL
    protocol: Protocol
    sampling: Sampling
    reader: str = "pyav"
    chunk_cells: int | None = 16  # cells per prefill chunk; None: the whole video at once
    encode_cells: int = 32  # cells per encoder slice
    share: bool = True
    seed: int = 0

    def answers(self, pending: Mapping[Arm, Sequence[Question]]) -> Iterator[tuple[Arm, Answer]]:
        """Answer the questions of ONE video, given per arm. Failures come out as answers with status `failed`."""
        if self.share:
            yield from self._together(pending)
            return
        for arm, questions in pending.items():
            for question in questions:
                yield from self._together({arm: [question]})

    # ---- one video

    def _together(self, pending: Mapping[Arm, Sequence[Question]]) -> Iterator[tuple[Arm, Answer]]:
        path = next(iter(pending.values()))[0].video_path
        try:
            video = video_file.probe(path)
            plans = {arm: self.plan(arm, video) for arm in pending}
            clock = Clock(self.backbone.device)
            with clock.stage("decode"):
                frames = self._decode(video, list(dict.fromkeys(plans.values())))
        except ConfigError:
            raise  # wrong settings concern the whole run
        except Exception as error:  # noqa: BLE001 – one bad video becomes recorded rows, never the end of a run
            yield from self._failures(pending, error)
            return
        union = len({i for plan in frames for i in plan.indices})
        for plan in dict.fromkeys(plans.values()):
            group = {arm: pending[arm] for arm in pending if plans[arm] == plan}
            decoding = clock.part(len(plan.indices) / union if union else 0.0)
            yield from self._group(video, plan, frames.get(plan), decoding, group)

    def budget(self, arm: Arm, video: Video) -> Budget:
        """The limits of one arm on one video."""
        count = self.sampling.count(video, self.backbone.cell_frames)
        height, width = self.sampling.size(video, self.backbone.unit)
        return Budget(
            ratio=arm.ratio,
            frames=self.sampling.indices(video, count),
            sample=lambda n: self.sampling.indices(video, n),
            cell_frames=self.backbone.cell_frames,
            height=height,
            width=width,
            unit=self.backbone.unit,
            seed=self.seed,
        )

    def plan(self, arm: Arm, video: Video) -> FramePlan:
        """The frames an arm wants, checked."""
        plan = arm.method.frames(video, self.budget(arm, video))
        ascending = all(a < b for a, b in zip(plan.indices, plan.indices[1:], strict=False))
        sized = plan.height % self.backbone.unit == plan.width % self.backbone.unit == 0
        if not ascending or not sized or (plan.indices and not plan.slots):
            raise MethodError(
                f"{type(arm.method).__name__}.frames() must return unique ascending indices and a size in multiples of "
                f"{self.backbone.unit}; got {plan}"
            )
        return plan

    def _decode(self, video: Video, plans: list[FramePlan]) -> dict[FramePlan, Frames]:
        wanted = [plan for plan in plans if plan.indices]
        if not wanted:
            return {}
        return dict(zip(wanted, video_file.decode(video, wanted, self.reader), strict=True))

    # ---- one set of frames

    def _group(
        self,
        video: Video,
        plan: FramePlan,
        frames: Frames | None,
        decoding: Clock,
        group: Mapping[Arm, Sequence[Question]],
    ) -> Iterator[tuple[Arm, Answer]]:
        clock = Clock(self.backbone.device)
        try:
            with torch.inference_mode(), clock.stage("encode"):
                tokens = None if frames is None else self._encode(plan, frames)
        except Exception as error:  # noqa: BLE001 – as above
            yield from self._failures(group, error)
            return
        for arm, questions in group.items():
            yield from self._arm(arm, video, plan, tokens, (decoding, clock), questions)

    def _encode(self, plan: FramePlan, frames: Frames) -> VisualTokens:
        size = self.backbone.cell_frames
        slots = list(plan.slots)
        slots += slots[-1:] * (
            -len(slots) % size
        )  # a last, half-filled cell repeats its frame, as Qwen's processor does
        features = self._encode_slots(frames.pixels, slots)
        cells = len(slots) // size
        grid = (plan.height // self.backbone.unit, plan.width // self.backbone.unit)
        cell = torch.arange(cells).repeat_interleave(grid[0] * grid[1])
        return VisualTokens(
            features=features,
            cell=cell,
            place=torch.arange(grid[0] * grid[1]).repeat(cells),
            slot=cell,
            pinned=torch.zeros(len(cell), dtype=torch.bool),
            cell_seconds=torch.tensor([frames.seconds[s] for s in slots[::size]], dtype=torch.float64),
            grid=grid,
        )

    def _encode_slots(self, pixels: np.ndarray, slots: list[int]) -> torch.Tensor:
        """Encode, in smaller slices where memory runs out: the encoder treats cells one by one, so nothing changes."""
        cells = self.encode_cells
        while True:
            try:
                return self.backbone.encode(pixels[slots], slice_cells=cells)
            except torch.OutOfMemoryError:
                if cells == 1:
                    raise
                cells //= 2
                log.warning("out of memory in the vision encoder: trying slices of %d cells", cells)

    # ---- one arm

    def _arm(
        self,
        arm: Arm,
        video: Video,
        plan: FramePlan,
        encoded: VisualTokens | None,
        clocks: tuple[Clock, ...],
        questions: Sequence[Question],
    ) -> Iterator[tuple[Arm, Answer]]:
        """One prefix for all questions, or one for each where the method asks."""
        batches = [[question] for question in questions] if arm.method.asks else [questions]
        for batch in batches:
            yield from self._batch(arm, video, plan, encoded, clocks, batch)

    def _batch(
        self,
        arm: Arm,
        video: Video,
        plan: FramePlan,
        encoded: VisualTokens | None,
        clocks: tuple[Clock, ...],
        questions: Sequence[Question],
    ) -> Iterator[tuple[Arm, Answer]]:
        budget, clock = self.budget(arm, video), Clock(self.backbone.device)
        if self.backbone.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.backbone.device)
        try:
            with torch.inference_mode():
                with clock.stage("select"):
                    tokens = None if encoded is None else arm.method.select(encoded, budget)
                with clock.stage("prefill"):
                    context = self._prefix(arm.method, budget, tokens, questions[0])
        except Exception as error:  # noqa: BLE001 – as above
            yield from self._failures({arm: questions}, error)
            return
        spent = {
            "frames_decoded": len(plan.indices),
            "cells": 0 if encoded is None else len(encoded.cell_seconds),
            "tokens_dense": budget.dense_tokens,
            "tokens_encoded": 0 if encoded is None else len(encoded),
            "tokens_selected": 0 if tokens is None else len(tokens),
            "shared_prefix": len(questions) > 1,
            "ratio_nominal": arm.ratio,
        }
        for question in questions:
            try:
                answer = self._answer(arm, question, video, context, spent, (*clocks, clock))
            except Exception as error:  # noqa: BLE001 – as above
                answer = failure(arm, question, error)
                log.warning("%s %s not answered by %s: %s", question.benchmark, question.id, arm.name, error)
            yield arm, answer

    def _prefix(self, method: Method, budget: Budget, tokens: VisualTokens | None, question: Question) -> Context:
        """Head and video, fed. `question` is looked at only where the method asks."""
        context = self.backbone.context()
        head, tail = self.backbone.prompt(
            self.protocol.prompt(question) if method.asks else "", video=tokens is not None
        )
        self.backbone.feed_text(context, head)
        if tokens is not None:
            length = len(tail) if method.asks else 0
            self.backbone.feed_video(context, tokens, method, budget, chunk_cells=self.chunk_cells, tail=length)
        return context

    def _answer(
        self,
        arm: Arm,
        question: Question,
        video: Video,
        context: Context,
        spent: Mapping[str, int | float | bool],
        clocks: tuple[Clock, ...],
    ) -> Answer:
        prompt = self.protocol.prompt(question)
        head, tail = self.backbone.prompt(prompt, video=bool(spent["cells"]))
        clock, mark = Clock(self.backbone.device), context.mark()
        try:
            with torch.inference_mode():
                with clock.stage("prefill"):
                    hidden = self.backbone.feed_text(context, tail)
                visual = tuple(context.visual)
                with clock.stage("generate"):
                    limit = self.protocol.max_new_tokens(question.benchmark)
                    ids = self.backbone.generate(context, hidden, limit, self.protocol.stop)
        finally:
            context.rewind(mark)
        text = self.backbone.tokenizer.decode(ids, skip_special_tokens=True)
        reply = self.protocol.read(question, text)
        selected, dense = int(spent["tokens_selected"]), int(spent["tokens_dense"])
        return Answer(
            benchmark=question.benchmark,
            question_id=question.id,
            video_id=question.video_id,
            groups=groups(question, video),
            method=arm.name,
            ratio=arm.ratio,
            text=text,
            letter=reply.letter,
            gold=question.answer,
            correct=reply.correct,
            status="ok" if reply.letter else "unparsed",
            error=None,
            prompt_sha=hashlib.sha256(prompt.encode()).hexdigest()[:16],
            ledger=Ledger(
                **spent,  # type: ignore[arg-type]
                llm_tokens_fed=len(head) + selected + len(tail) + max(0, len(ids) - 1),
                kv_tokens_per_layer=visual,
                kv_bytes=sum(visual) * self.backbone.kv_entry_bytes,
                ratio_achieved=sum(visual) / (len(visual) * dense),
                peak_bytes=peak_bytes(self.backbone.device),
                seconds=clock.seconds(*clocks),
            ),
        )

    def _failures(self, pending: Mapping[Arm, Sequence[Question]], error: Exception) -> Iterator[tuple[Arm, Answer]]:
        rows = [(arm, failure(arm, question, error)) for arm, questions in pending.items() for question in questions]
        first = rows[0][1]
        log.warning("%s: %d answers about video %s not given: %s", first.benchmark, len(rows), first.video_id, error)
        log.debug("where it failed", exc_info=error)
        yield from rows


def groups(question: Question, video: Video) -> dict[str, tuple[str, ...]]:
    """The question's groups; the duration bucket from the file itself where the annotations have none."""
    return {"duration": (duration_bucket(video.duration_s),), **question.groups}


def failure(arm: Arm, question: Question, error: Exception) -> Answer:
    """A question that could not be answered: neither right nor wrong."""
    return Answer(
        benchmark=question.benchmark,
        question_id=question.id,
        video_id=question.video_id,
        groups=question.groups,
        method=arm.name,
        ratio=arm.ratio,
        text="",
        letter=None,
        gold=question.answer,
        correct=None,
        status="failed",
        error=f"{type(error).__name__}: {error}",
        prompt_sha="",
        ledger=None,
    )
