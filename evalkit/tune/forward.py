"""One differentiable forward over a whole prompt, with a method's `prune` between the layers: no cache, no chunks.

`prune` never sees hidden states, so what every layer sees is known before the first one runs. The loop over the layers
therefore needs no hooks, and gradient checkpointing, which runs layers again, drops the same tokens twice.

Shape letters: B videos of equal size, P head tokens, N visual tokens, Q tails a video, A tokens of a tail, n_l visual
tokens that layer l sees, S_l = P + n_l + Q·A.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

from evalkit.errors import MethodError
from evalkit.method import Budget, Method
from evalkit.model.live_tokens import LiveTokens
from evalkit.model.packed_questions import IGNORE, packed_mask

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from evalkit.model.decoder import Decoder
    from evalkit.types import VisualTokens


@dataclass(frozen=True)
class PruneSchedule:
    """What every layer sees of a prompt."""

    head: int  # P
    tails: tuple[int, int]  # Q, A
    keeps: tuple[Tensor | None, ...]  # per layer: positions among the layer below's visual tokens; None: all
    counts: tuple[int, ...]  # n_l
    ids: tuple[Tensor, ...]  # per layer (R, S_l); every tail has those that it would have alone

    def same(self, other: PruneSchedule) -> bool:
        """Whether both drop the same tokens at the same layers and number what is left alike."""
        kept = all(
            a is b if a is None or b is None else torch.equal(a, b)
            for a, b in zip(self.keeps, other.keeps, strict=True)
        )
        return kept and all(a.shape == b.shape and torch.equal(a, b) for a, b in zip(self.ids, other.ids, strict=True))


def path(
    decoder: Decoder,
    method: Method,
    tokens: VisualTokens,
    budget: Budget,
    *,
    head: int,
    tails: tuple[int, int],
) -> PruneSchedule:
    """The way of one video's tokens through the layers, with `head` tokens before it and `tails` (Q, A) after it.

    Raises MethodError for a method that cuts the cache (`evict`), and for a wrong index.
    """
    if type(method).evict is not Method.evict:
        raise MethodError(
            f"{type(method).__name__}: expected a method that drops tokens between layers (prune) alone, got one that "
            "overrides evict, which needs the cache of a chunked prefill; evaluate it with run_eval.py"
        )
    after = decoder.positions.ids_after(tokens)
    live = LiveTokens(tokens, decoder.positions.video_ids(head, tokens))
    keeps, counts, ids = [], [], []
    for layer in range(decoder.layers):
        pruned = live.prune(method, layer, decoder.layers, budget, decoder.positions)
        keeps.append(None if pruned is None else pruned.index)
        counts.append(len(live.tokens))
        ids.append(_ids(decoder, live, head, tails, after))
    return PruneSchedule(head, tails, tuple(keeps), tuple(counts), tuple(ids))


def _ids(decoder: Decoder, live: LiveTokens, head: int, tails: tuple[int, int], after: int) -> Tensor:
    """Ids (R, S_l) of a layer; `after`: ids that the video takes in the uncompressed layout."""
    asked, length = tails
    one = decoder.positions.prompt_ids(head, live.ids, after, length, renumbered=live.renumbered)
    return torch.cat([one, one[:, one.shape[1] - length :].repeat(1, asked - 1)], dim=1)


def forward(decoder: Decoder, schedule: PruneSchedule, embeds: Tensor, inputs: list[Tensor] | None = None) -> Tensor:
    """Embeddings (B, P + N + Q·A, D) -> hidden states of the tails after the final norm (B, Q, A, D).

    `inputs`, where given, receives what enters each layer, (B, S_l, D).
    """
    hidden, seen = embeds, embeds.shape[1] - schedule.head - schedule.tails[0] * schedule.tails[1]
    for layer, index, count, ids in zip(
        decoder.text.layers, schedule.keeps, schedule.counts, schedule.ids, strict=True
    ):
        if index is not None:
            start, end = schedule.head, schedule.head + seen
            video = hidden[:, start:end][:, index.to(hidden.device)]
            hidden = torch.cat([hidden[:, :start], video, hidden[:, end:]], dim=1)
        seen = count
        if inputs is not None:
            inputs.append(hidden)
        hidden = layer(
            hidden,
            attention_mask=packed_mask(schedule.head + seen, *schedule.tails)[None, None].to(hidden.device)
            if schedule.tails[0] > 1
            else None,
            position_embeddings=decoder.positions.rotary(hidden, ids),
        )
    out: Tensor = decoder.text.norm(hidden[:, schedule.head + seen :])
    return out.reshape(len(out), *schedule.tails, -1)


def rerun_layers(model: Any) -> None:
    """Run layers again in the backward pass instead of keeping what they computed (gradient checkpointing)."""
    enable = getattr(
        model, "activation_checkpointing_enable", None
    )  # its name in transformers 5.24, and in 6 the only one
    (enable or model.gradient_checkpointing_enable)({"use_reentrant": False})


def embed(decoder: Decoder, head: Tensor, features: Tensor, tails: Tensor) -> Tensor:
    """Ids of the head (P,) and the tails (B, Q, A) around features (B, N, D) -> embeddings (B, P + N + Q·A, D)."""
    words = decoder.text.embed_tokens
    before = words(head.to(decoder.device)).expand(len(features), -1, -1)
    after = words(tails.to(decoder.device).flatten(1))
    return torch.cat([before, features.to(decoder.device, before.dtype), after], dim=1)


def loss(decoder: Decoder, hidden: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Mean cross-entropy of the targets (B, Q, A), each the token after its position, IGNORE where none is learned.

    Also returns which of the learned targets come out first, (n,) bool. Logits are computed for these positions alone.
    """
    learned = targets.to(hidden.device) != IGNORE
    logits, wanted = decoder.logits(hidden[learned]), targets.to(hidden.device)[learned]
    return F.cross_entropy(logits.float(), wanted), logits.detach().argmax(-1) == wanted


def shared_path(ways: Sequence[PruneSchedule]) -> PruneSchedule:
    """The path that all videos of a batch take.

    Raises MethodError where they differ: their tensors would not be rectangular.
    """
    if not all(schedule.same(ways[0]) for schedule in ways[1:]):
        raise MethodError(
            f"expected a method that drops the same places of every video, got {len(ways)} videos of one batch whose "
            "tokens go different ways; tune with one video a sequence"
        )
    return ways[0]
