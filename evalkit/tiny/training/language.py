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

END_WEIGHT = 0.1  # of the loss that teaches to stop after the letter


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Losses of a batch, and which questions it got right."""

    loss: Tensor
    word_right: Tensor  # (B, Q) bool
    letter_right: Tensor | None  # (B, Q) bool; None without options
    story_right: dict[str, Tensor] = field(default_factory=dict)  # by helper question, (n,) bool


def symbol_features(model: Qwen2VLForConditionalGeneration, concepts: Tensor, noise: float) -> Tensor:
    """Sum of the shown words' embeddings, (…, D), with Gaussian noise of deviation `noise`."""
    table = model.get_input_embeddings().weight[list(symbols.concept_ids())]
    features: Tensor = concepts @ table
    return features + noise * torch.randn_like(features)


def run(
    model: Qwen2VLForConditionalGeneration, features: Tensor, batch: Batch, helper: AuxiliaryHead | None = None
) -> Scores:
    """Features (B, M, D) of the batch's visual tokens -> losses and what was right."""
    embed = model.get_input_embeddings()
    videos, asked, length = batch.tails.shape
    head = torch.tensor(prompts.head_ids())
    parts = [embed(head).expand(videos, -1, -1), features, embed(batch.tails.flatten(1))]
    sight, width = len(head) + features.shape[1], parts[2].shape[1]
    out = model.model.language_model(
        inputs_embeds=torch.cat(parts, 1),
        position_ids=_positions(batch, len(head)),
        attention_mask=packed_mask(sight, asked, length)[None, None],
        use_cache=False,
        output_hidden_states=helper is not None,
    )
    tails = out.last_hidden_state[:, sight : sight + width].reshape(videos, asked, length, -1)
    scores = _scores(model, tails, batch)
    if helper is None:
        return scores
    told, right = helper(out.hidden_states[LAYER][:, len(head) : sight], batch.story)
    return replace(scores, loss=scores.loss + told, story_right=right)


def _scores(model: Qwen2VLForConditionalGeneration, tails: Tensor, batch: Batch) -> Scores:
    word_logits = model.lm_head(_pick(tails, batch.word_at))
    loss = -(F.log_softmax(word_logits, -1) * batch.words).sum(-1).mean()
    word_right = batch.words.gather(-1, word_logits.argmax(-1, keepdim=True)).squeeze(-1) > 0
    if int(batch.letter[0, 0]) < 0:
        return Scores(loss=loss, word_right=word_right, letter_right=None)
    logits = model.lm_head(_pick(tails, batch.reply_at))
    stop = model.lm_head(_pick(tails, batch.reply_at + 1))
    end = torch.full_like(batch.letter, int(model.config.text_config.eos_token_id))
    loss = loss + F.cross_entropy(logits.flatten(0, 1), batch.letter.flatten())
    # the right option says its letter, the others nothing: a step on the way from the word to the letter
    marked = torch.stack([model.lm_head(_pick(tails, at)) for at in batch.options_at.unbind(2)], 2)
    loss = loss + _marking(marked.flatten(0, 2), batch.marks.flatten())
    loss = loss + END_WEIGHT * F.cross_entropy(stop.flatten(0, 1), end.flatten())
    return Scores(loss=loss, word_right=word_right, letter_right=logits.argmax(-1) == batch.letter)


def _marking(logits: Tensor, marks: Tensor) -> Tensor:
    """Cross-entropy of what is said at the options; the right ones, a quarter, weigh as much as the others together."""
    error, silent = F.cross_entropy(logits, marks, reduction="none"), marks == prompts.words()["\n"]
    return error[silent].mean() + error[~silent].mean()


def _pick(tails: Tensor, index: Tensor) -> Tensor:
    return tails.gather(2, index[..., None, None].expand(-1, -1, 1, tails.shape[-1])).squeeze(2)


def _positions(batch: Batch, head: int) -> Tensor:
    """M-RoPE ids (3, B, S), every tail as if it were the only one."""
    videos, asked, length = batch.tails.shape
    start = positions.text(0, head)[:, None].expand(-1, videos, -1)
    video = torch.stack([batch.cell, batch.place // GRID, batch.place % GRID]) + head
    # the engine continues after the largest id it saw; tokens that were left out do not count
    after = video.amax((0, 2)) + 1
    tail = torch.arange(length).repeat(asked)[None, None] + after[None, :, None]
    return torch.cat([start, video, tail.expand(3, -1, -1)], 2)
