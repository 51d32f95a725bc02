"""One training step's loss, by where the visual features come from."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F

from evalkit.tiny.model import GRID
from evalkit.tiny.training import batches, crowded_scenes, language, symbols, vision
from evalkit.tiny.training.recipe import CROWDED, Stage

EVENT_WEIGHT = 4.0  # of a token with an event in the regression: such tokens are few
SHARPNESS = 4.0  # an embedding's product with itself is about 32
CLEAR = 0.7  # weight from which on a token shows enough of a thing to name it

if TYPE_CHECKING:
    from torch import Tensor

    from evalkit.tiny.training.auxiliary_head import AuxiliaryHead


def scores(
    model: Any, auxiliary_head: AuxiliaryHead, stage: Stage, seed: int
) -> tuple[language.Scores, list[list[str]]]:
    """Loss and accuracy of the step with this seed, and the kinds of its questions."""
    torch.manual_seed(seed)
    shape = stage.shapes[seed % len(stage.shapes)]
    if stage.source == "frames":
        return crowded_scores(model, shape.videos, seed)
    batch = batches.make(shape, seed, model.config.text_config.vocab_size)
    if stage.source == "symbols":
        features = language.symbol_features(model, batch.concepts, stage.noise)
    else:
        features = frame_features(model, batch)
    scores = language.run(model, features, batch, auxiliary_head)
    if stage.source == "both":
        scores = replace(scores, loss=scores.loss + crowded_scores(model, CROWDED.videos, seed)[0].loss)
    return scores, batch.kinds


def crowded_scores(model: Any, videos: int, seed: int) -> tuple[language.Scores, list[list[str]]]:
    """Regression of crowded cells onto the embeddings of what they show; correct: the things named."""
    worlds = [crowded_scenes.draw(seed * 1000 + i) for i in range(videos)]
    frames_of_videos = [
        vision.render(world, crowded_scenes.times(), np.arange(crowded_scenes.CELLS)) for world in worlds
    ]
    concepts = torch.from_numpy(np.concatenate([symbols.weights(world, crowded_scenes.times()) for world in worlds]))
    features = vision.encode(model.model.visual, torch.cat(frames_of_videos))
    target = language.symbol_features(model, concepts, 0.0).detach()
    table = model.get_input_embeddings().weight[list(symbols.concept_ids())].detach()
    things, correct = naming(features, concepts, table, symbols.THINGS)
    colors, _ = naming(features, concepts, table, symbols.COLOR)
    # the squared error alone learns places and colours but hardly any shape; naming them does
    loss = regression(features, target, concepts) + things + colors
    return language.Scores(loss=loss, word_correct=correct, letter_correct=None), [["thing"] * correct.shape[1]]


def naming(features: Tensor, concepts: Tensor, table: Tensor, among: list[int]) -> tuple[Tensor, Tensor]:
    """Cross-entropy of naming one of the concepts `among` where a token shows it clearly; which are correct (1, n)."""
    shares = concepts[..., among]
    clear = shares.amax(-1) > CLEAR
    named, logits = shares[clear].argmax(-1), features[clear] @ table[among].T / SHARPNESS
    return F.cross_entropy(logits, named), (logits.argmax(-1) == named)[None]


def regression(features: Tensor, target: Tensor, concepts: Tensor) -> Tensor:
    """Weighted mean squared error of features (B, M, D); tokens that show an event count more."""
    weight = 1 + (EVENT_WEIGHT - 1) * concepts[..., symbols.EVENTS].amax(-1)
    error = F.mse_loss(features, target, reduction="none").mean(-1)
    return (error * weight).sum() / weight.sum()


def frame_features(model: Any, batch: batches.Batch) -> Tensor:
    """Features (B, M, D) of the batch's tokens from rendered frames."""
    times = symbols.moments(batch.dense)
    frames_of_videos = [
        vision.render(world, times, cells) for world, cells in zip(batch.worlds, batch.shown_cells, strict=True)
    ]
    places = vision.encode(model.model.visual, torch.cat(frames_of_videos)).reshape(
        len(frames_of_videos), batch.cells * GRID * GRID, -1
    )
    index = batch.cell * GRID * GRID + batch.place
    return places.gather(1, index[..., None].expand(-1, -1, places.shape[-1]))
