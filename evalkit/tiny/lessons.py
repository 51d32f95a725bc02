"""One training step's loss, by where the visual features come from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

from evalkit.tiny import batches, language, symbols, vision
from evalkit.tiny.model import GRID
from evalkit.tiny.recipe import Lesson

if TYPE_CHECKING:
    from torch import Tensor

EVENT_WEIGHT = 8.0  # of a token with an event in the regression: such tokens are few


def scores(model: Any, lesson: Lesson, seed: int) -> tuple[language.Scores, list[list[str]]]:
    """Loss and accuracy of the step with this seed, and the kinds of its questions."""
    torch.manual_seed(seed)
    shape = lesson.shapes[seed % len(lesson.shapes)]
    batch = batches.make(shape, seed, model.config.text_config.vocab_size)
    if lesson.source == "symbols":
        features = language.symbol_features(model, batch.concepts, lesson.noise)
        return language.run(model, features, batch), batch.kinds
    seen = frame_features(model, batch)
    if lesson.source == "pixels":
        return language.run(model, seen, batch), batch.kinds
    target = language.symbol_features(model, batch.concepts, 0.0).detach()
    with torch.no_grad():
        known = language.run(model, seen, batch)
    loss = regression(seen, target, batch.concepts)
    return language.Scores(loss=loss, word_right=known.word_right, letter_right=known.letter_right), batch.kinds


def regression(features: Tensor, target: Tensor, concepts: Tensor) -> Tensor:
    """Weighted mean squared error of features (B, M, D); tokens that show an event count more."""
    weight = 1 + (EVENT_WEIGHT - 1) * concepts[..., symbols.MARKS].amax(-1)
    error = F.mse_loss(features, target, reduction="none").mean(-1)
    return (error * weight).sum() / weight.sum()


def frame_features(model: Any, batch: batches.Batch) -> Tensor:
    """Features (B, M, D) of the batch's tokens from rendered frames."""
    times = symbols.moments(batch.dense)
    films = [vision.film(world, times, cells) for world, cells in zip(batch.worlds, batch.shown, strict=True)]
    places = vision.encode(model.model.visual, torch.cat(films)).reshape(len(films), batch.cells * GRID * GRID, -1)
    index = batch.cell * GRID * GRID + batch.place
    return places.gather(1, index[..., None].expand(-1, -1, places.shape[-1]))
