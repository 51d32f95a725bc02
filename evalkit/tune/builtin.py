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
from evalkit.tiny.training.auxiliary_head import CLEAR
from evalkit.tiny.training.recipe import HARD_KINDS
from evalkit.tiny.training.shape import Shape
from evalkit.tune.sample import Sample
from evalkit.types import Frames, Video

if TYPE_CHECKING:
    from evalkit.engine.frame_encoder import FrameEncoder
    from evalkit.method import OperatingPoint
    from evalkit.tiny.videos.world import World

ENDLESS = 10**6  # samples: `steps` ends the tuning
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
        dense: int = 0,
        uncompressed: float = 0.0,
        seed: int,
    ):
        if frame_encoder.backbone.tokenizer.get_vocab() != tokenizer.build().get_vocab():
            raise ConfigError("data=builtin uses the vocabulary of the tiny backbone: expected backbone=tiny")
        if not cells or min(*cells, questions) < 1 or max(cells) > per_sequence:
            raise ConfigError(
                "builtin: expected cells of at least 1 and at most per_sequence, and questions of at least 1; got "
                f"{list(cells) = }, {per_sequence = }, {questions = }"
            )
        if dense < 0 or not 0 <= uncompressed <= 1:
            raise ConfigError(
                f"builtin: expected dense of at least 0, and uncompressed in [0, 1]; got {dense = }, {uncompressed = }"
            )
        self.frame_encoder, self.point, self.uncompressed, self.seed = frame_encoder, point, uncompressed, seed
        self.shapes = [_shape(per_sequence // count, count, questions, max(dense, count)) for count in cells]

    def __len__(self) -> int:
        return ENDLESS

    def __getitem__(self, number: int) -> Sample:
        shape = self.shapes[number % len(self.shapes)]
        vocabulary = int(self.frame_encoder.backbone.model.config.text_config.vocab_size)
        batch = batches.make(shape, self.seed * NUMBERS + number, vocabulary)
        return Sample(
            prefix_ids=torch.tensor(prompts.prefix_ids()),
            suffix_ids=batch.suffix_ids,
            targets=_targets(batch),
            seen=tuple(
                self._seen(world, shown, batch.dense)
                for world, shown in zip(batch.worlds, batch.shown_cells, strict=True)
            ),
            target_shares=target_shares(batch.concepts, GRID * GRID),
            uncompressed=bool(np.random.default_rng((self.seed, number)).random() < self.uncompressed),
        )

    def expect_every_cell(self) -> None:
        """ConfigError where the method leaves cells of a video out; `target_shares` has all of them."""
        for shape in self.shapes:
            video = _video(0, 2 * shape.cells)
            seen = len(self.frame_encoder.plan(self.point, video).frames.indices)
            if seen != video.frames:
                raise ConfigError(
                    f"objective=states: expected a method that sees every cell (method.frame_ratio=1), got {seen} of "
                    f"{video.frames} frames with method={self.point.name}"
                )

    def _seen(self, world: World, shown_cells: np.ndarray, dense: int) -> tuple[Video, Any, Frames]:
        """A video of some of the `dense` cells of a world, as if they followed each other without gaps."""
        frames = 2 * len(shown_cells)
        video = _video(world.seed, frames)
        plan = self.frame_encoder.plan(self.point, video).frames
        pixels = vision.render(world, symbols.moments(dense), shown_cells).flatten(0, 1).numpy()
        seconds = tuple((i + 0.5) / frames * SECONDS for i in plan.indices)
        return video, plan, Frames(pixels=pixels[list(plan.indices)], indices=plan.indices, seconds=seconds)


def _video(seed: int, frames: int) -> Video:
    path = Path(f"world-{seed}")
    return Video(path=path, duration_s=SECONDS, fps=frames / SECONDS, frames=frames, height=SIZE, width=SIZE)


def target_shares(concepts: torch.Tensor, places: int) -> torch.Tensor:
    """Concept weights (B, T·P, C) of T cells of P places -> shares (B, T, P, P) of the cell's states in each target.

    From the first token of a cell that shows its event on, a token's target is the mean of the uncompressed states of
    the tokens up to it that show the event, weighted by the square of how much of it they show: each shows a part, and
    a copy of one of them alone would lose the others. Before that token, the target is the token's own state.
    """
    shown = concepts[..., symbols.EVENTS].amax(-1).reshape(len(concepts), -1, 1, places)
    shares = torch.where(shown > CLEAR, shown.square(), 0.0) * torch.ones(places, places).tril()
    sums = shares.sum(-1, keepdim=True)
    return torch.where(sums > 0, shares / sums.clamp(min=CLEAR**2), torch.eye(places))


def _shape(videos: int, cells: int, questions: int, dense: int) -> Shape:
    return Shape(
        videos=videos, questions=questions, dense=dense, cells=cells, tokens=cells * GRID * GRID, kinds=HARD_KINDS
    )


def _targets(batch: batches.Batch) -> torch.Tensor:
    """The letter after the prompt, and the end after the letter."""
    targets = torch.full_like(batch.suffix_ids, IGNORE)
    at = batch.reply_at[..., None]
    end = torch.full_like(at, prompts.vocab()["<|im_end|>"])
    return targets.scatter(-1, at, batch.letter[..., None]).scatter(-1, at + 1, end)
