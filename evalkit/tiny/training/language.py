"""The language model over one batch: embeddings, positions, mask, losses."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from evalkit.model import positions
from evalkit.model.packed_questions import packed_mask
from evalkit.tiny import prompts
from evalkit.tiny.model import GRID
from evalkit.tiny.training import symbols
from evalkit.tiny.training.auxiliary_head import LAYER

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import Qwen2VLForConditionalGeneration

    from evalkit.tiny.training.auxiliary_head import AuxiliaryHead
    from evalkit.tiny.training.batches import Batch

END_WEIGHT = 0.1  # weight of the loss on the end token after the letter


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Losses of a batch, and which questions were answered correctly."""

    loss: Tensor
    word_correct: Tensor  # (B, Q) bool
    letter_correct: Tensor | None  # (B, Q) bool; None without options
    auxiliary_correct: dict[str, Tensor] = field(default_factory=dict)  # by auxiliary question, (n,) bool


def symbol_features(model: Qwen2VLForConditionalGeneration, concepts: Tensor, noise: float) -> Tensor:
    """Sum of the shown words' embeddings, (…, D), with Gaussian noise of deviation `noise`."""
    table = model.get_input_embeddings().weight[list(symbols.concept_ids())]
    features: Tensor = concepts @ table
    return features + noise * torch.randn_like(features)


def run(
    model: Qwen2VLForConditionalGeneration, features: Tensor, batch: Batch, auxiliary_head: AuxiliaryHead | None = None
) -> Scores:
    """Features (B, M, D) of the batch's visual tokens -> losses and what was correct."""
    embed = model.get_input_embeddings()
    videos, n_questions, length = batch.suffix_ids.shape
    prefix = torch.tensor(prompts.prefix_ids())
    parts = [embed(prefix).expand(videos, -1, -1), features, embed(batch.suffix_ids.flatten(1))]
    n_shared, width = len(prefix) + features.shape[1], parts[2].shape[1]
    out = model.model.language_model(
        inputs_embeds=torch.cat(parts, 1),
        position_ids=_positions(batch, len(prefix)),
        attention_mask=packed_mask(n_shared, n_questions, length)[None, None],
        use_cache=False,
        output_hidden_states=auxiliary_head is not None,
    )
    suffixes = out.last_hidden_state[:, n_shared : n_shared + width].reshape(videos, n_questions, length, -1)
    scores = _scores(model, suffixes, batch)
    if auxiliary_head is None:
        return scores
    auxiliary_loss, correct = auxiliary_head(
        out.hidden_states[LAYER][:, len(prefix) : n_shared], batch.auxiliary_targets
    )
    return replace(scores, loss=scores.loss + auxiliary_loss, auxiliary_correct=correct)


def _scores(model: Qwen2VLForConditionalGeneration, suffixes: Tensor, batch: Batch) -> Scores:
    word_logits = model.lm_head(_pick(suffixes, batch.word_at))
    loss = -(F.log_softmax(word_logits, -1) * batch.word_targets).sum(-1).mean()
    word_correct = batch.word_targets.gather(-1, word_logits.argmax(-1, keepdim=True)).squeeze(-1) > 0
    if int(batch.letter[0, 0]) < 0:
        return Scores(loss=loss, word_correct=word_correct, letter_correct=None)
    logits = model.lm_head(_pick(suffixes, batch.reply_at))
    stop = model.lm_head(_pick(suffixes, batch.reply_at + 1))
    end = torch.full_like(batch.letter, int(model.config.text_config.eos_token_id))
    loss = loss + F.cross_entropy(logits.flatten(0, 1), batch.letter.flatten())
    # at the correct option the target is its letter, at the others a line break: easier to learn than the reply
    option_logits = torch.stack([model.lm_head(_pick(suffixes, at)) for at in batch.options_at.unbind(2)], 2)
    loss = loss + _option_loss(option_logits.flatten(0, 2), batch.option_targets.flatten())
    loss = loss + END_WEIGHT * F.cross_entropy(stop.flatten(0, 1), end.flatten())
    return Scores(loss=loss, word_correct=word_correct, letter_correct=logits.argmax(-1) == batch.letter)


def _option_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy at the options; the correct ones, a quarter, weigh as much as the others together."""
    error, silent = F.cross_entropy(logits, targets, reduction="none"), targets == prompts.vocab()["\n"]
    return error[silent].mean() + error[~silent].mean()


def _pick(suffixes: Tensor, index: Tensor) -> Tensor:
    return suffixes.gather(2, index[..., None, None].expand(-1, -1, 1, suffixes.shape[-1])).squeeze(2)


def _positions(batch: Batch, n_prefix: int) -> Tensor:
    """M-RoPE ids (3, B, S), every suffix numbered as if it were the only one."""
    videos, n_questions, length = batch.suffix_ids.shape
    start = positions.text(0, n_prefix)[:, None].expand(-1, videos, -1)
    video = torch.stack([batch.cell, batch.place // GRID, batch.place % GRID]) + n_prefix
    # the engine continues after the largest id so far; tokens that were left out do not count
    after = video.amax((0, 2)) + 1
    suffix = torch.arange(length).repeat(n_questions)[None, None] + after[None, :, None]
    return torch.cat([start, video, suffix.expand(3, -1, -1)], 2)
