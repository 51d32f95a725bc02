"""Samples from the generated training worlds: several videos of one size, several questions about each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from evalkit.errors import ConfigError
from evalkit.model.packed_questions import IGNORE
from evalkit.tiny import prompts, tokenizer
from evalkit.tiny.model import GRID, SIZE
from evalkit.tiny.training import batches, symbols, vision
from evalkit.tiny.training.recipe import HARD_KINDS
from evalkit.tiny.training.shape import Shape
from evalkit.tune.sample import Sample
from evalkit.types import Frames, Video

if TYPE_CHECKING:
    from evalkit.engine.frame_encoder import FrameEncoder
    from evalkit.method import OperatingPoint
    from evalkit.tiny.videos.world import World

ENDLESS = 10**6  # samples: the steps say when it ends
SECONDS = 100.0  # of a generated video; nothing depends on it
NUMBERS = 10**9  # of one seed's samples


class Builtin(torch.utils.data.Dataset[Sample]):
    """Sample `number` is drawn from its own seed, from worlds that no test or validation set has."""

    def __init__(
        self,
        frame_encoder: FrameEncoder,
        point: OperatingPoint,
        *,
        cells: Sequence[int],
        per_sequence: int,
        questions: int,
        seed: int,
    ):
        if frame_encoder.backbone.tokenizer.get_vocab() != tokenizer.build().get_vocab():
            raise ConfigError("data=builtin is spelled in the tiny backbone's own words: expected backbone=tiny")
        if not cells or min(*cells, questions) < 1 or max(cells) > per_sequence:
            raise ConfigError(
                "builtin: expected cells of at least 1 and at most per_sequence, and questions of at least 1; got "
                f"{list(cells) = }, {per_sequence = }, {questions = }"
            )
        self.frame_encoder, self.point, self.seed = frame_encoder, point, seed
        self.shapes = [_shape(per_sequence // count, count, questions) for count in cells]

    def __len__(self) -> int:
        return ENDLESS

    def __getitem__(self, number: int) -> Sample:
        shape = self.shapes[number % len(self.shapes)]
        vocabulary = int(self.frame_encoder.backbone.model.config.text_config.vocab_size)
        batch = batches.make(shape, self.seed * NUMBERS + number, vocabulary)
        return Sample(
            head=torch.tensor(prompts.head_ids()),
            tails=batch.tails,
            targets=_targets(batch),
            seen=tuple(self._seen(world, shape.cells) for world in batch.worlds),
        )

    def _seen(self, world: World, cells: int) -> tuple[Video, Any, Frames]:
        frames = 2 * cells
        video = Video(
            path=Path(f"world-{world.seed}"),
            duration_s=SECONDS,
            fps=frames / SECONDS,
            frames=frames,
            height=SIZE,
            width=SIZE,
        )
        plan = self.frame_encoder.plan(self.point, video).frames
        times = symbols.moments(cells)
        film = vision.film(world, times, np.arange(cells)).flatten(0, 1).numpy()
        seconds = tuple(float(times[i]) * SECONDS for i in plan.indices)
        return video, plan, Frames(pixels=film[list(plan.indices)], indices=plan.indices, seconds=seconds)


def _shape(videos: int, cells: int, questions: int) -> Shape:
    return Shape(
        videos=videos, questions=questions, dense=cells, cells=cells, tokens=cells * GRID * GRID, kinds=HARD_KINDS
    )


def _targets(batch: batches.Batch) -> torch.Tensor:
    """The letter after the prompt, and the end after the letter."""
    targets = torch.full_like(batch.tails, IGNORE)
    at = batch.reply_at[..., None]
    end = torch.full_like(at, prompts.words()["<|im_end|>"])
    return targets.scatter(-1, at, batch.letter[..., None]).scatter(-1, at + 1, end)
