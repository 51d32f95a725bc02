"""One differentiable forward over a whole prompt, with a method's `prune` between the layers: no cache, no chunks.

`prune` never sees hidden states, so what every layer sees is known before the first one runs. The loop over the layers
therefore needs no hooks, and gradient checkpointing, which runs layers again, drops the same tokens twice.

Shape letters: B videos of equal size, P prefix tokens, N tokens of a video (visual ones and the separators between
them), Q suffixes a video, A tokens of a suffix, n_l of a video's tokens that layer l sees, S_l = P + n_l + Q·A,
L levels of deepstack features.
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
from evalkit.model.prune_view import NO_VIEW

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

    from evalkit.model.decoder import Decoder
    from evalkit.types import VisualTokens


@dataclass(frozen=True)
class PruneSchedule:
    """What every layer sees of a prompt."""

    n_prefix: int  # P
    suffix_shape: tuple[int, int]  # Q, A
    kept_index: tuple[Tensor | None, ...]  # per layer: positions among the video's tokens of the layer below; None: all
    counts: tuple[int, ...]  # n_l
    ids: tuple[Tensor, ...]  # per layer (R, S_l); every suffix has those that it would have alone
    visual: Tensor  # (N,) bool: False where a separator stands

    def same(self, other: PruneSchedule) -> bool:
        """Whether both drop the same tokens at the same layers and give the rest the same ids."""
        same_index = all(
            a is b if a is None or b is None else torch.equal(a, b)
            for a, b in zip(self.kept_index, other.kept_index, strict=True)
        )
        return (
            same_index
            and torch.equal(self.visual, other.visual)
            and all(a.shape == b.shape and torch.equal(a, b) for a, b in zip(self.ids, other.ids, strict=True))
        )


def prune_schedule(
    decoder: Decoder,
    method: Method,
    tokens: VisualTokens,
    budget: Budget,
    *,
    n_prefix: int,
    suffix_shape: tuple[int, int],
) -> PruneSchedule:
    """Which of one video's tokens every layer sees; `n_prefix` ids come before it, suffixes (Q, A) after it.

    Raises MethodError for a method that cuts the cache (`evict`), and for a wrong index.
    """
    if method.overrides("evict"):
        raise MethodError(
            f"{type(method).__name__}: expected a method that drops tokens between layers (prune) alone, got one that "
            "overrides evict, which needs the cache of a chunked prefill; evaluate it with run_eval.py"
        )
    separators = decoder.separators(tokens)
    after = decoder.positions.ids_after(tokens, separators)
    live = LiveTokens.of(tokens, separators, decoder.positions.video_ids(n_prefix, tokens, separators))
    visual = torch.ones(len(tokens), dtype=torch.bool) if live.layout is None else live.layout.visual
    kept_index, counts, ids = [], [], []
    for layer in range(decoder.layers):
        pruned = live.prune(method, layer, decoder.layers, budget, decoder.positions, NO_VIEW)
        kept_index.append(None if pruned is None else pruned.index)
        counts.append(len(live))
        ids.append(_ids(decoder, live, n_prefix, suffix_shape, after))
    return PruneSchedule(n_prefix, suffix_shape, tuple(kept_index), tuple(counts), tuple(ids), visual)


def _ids(decoder: Decoder, live: LiveTokens, n_prefix: int, suffix_shape: tuple[int, int], after: int) -> Tensor:
    """Ids (R, S_l) of a layer; `after`: ids that the video takes in the uncompressed layout."""
    n_suffixes, length = suffix_shape
    one = decoder.positions.prompt_ids(n_prefix, live.ids, after, length, renumbered=live.renumbered)
    return torch.cat([one, one[:, one.shape[1] - length :].repeat(1, n_suffixes - 1)], dim=1)


def forward(
    decoder: Decoder,
    schedule: PruneSchedule,
    embeds: Tensor,
    inputs: list[Tensor] | None = None,
    *,
    deepstack: Tensor | None = None,
) -> Tensor:
    """Embeddings (B, P + N + Q·A, D) -> hidden states of the suffixes after the final norm (B, Q, A, D).

    `inputs`, where given, receives what enters each layer, (B, S_l, D). `deepstack` (B, N, L, D): what
    `levels` gives, where the family has such features.
    """
    hidden = embeds
    for number, hidden in enumerate(layer_states(decoder, schedule, embeds, deepstack=deepstack)):
        if inputs is not None and number < decoder.layers:
            inputs.append(hidden)
    out: Tensor = decoder.text.norm(hidden[:, schedule.n_prefix + schedule.counts[-1] :])
    return out.reshape(len(out), *schedule.suffix_shape, -1)


def layer_states(
    decoder: Decoder,
    schedule: PruneSchedule,
    embeds: Tensor,
    layers: Sequence[torch.nn.Module] | None = None,
    *,
    deepstack: Tensor | None = None,
) -> Iterator[Tensor]:
    """Embeddings (B, P + N + Q·A, D) -> the input of each layer, (B, S_l, D), and last the output of the last one.

    A generator: a layer runs when its output is asked for. `layers`, where given, run in place of the decoder's own
    first ones; the last output is then what the decoder's next layer would see. `deepstack` (B, N, L, D): level l is
    added to the visual tokens' states after layer l, before any are dropped there.
    """
    n_prefix, (n_suffixes, length) = schedule.n_prefix, schedule.suffix_shape
    hidden, seen = embeds, embeds.shape[1] - n_prefix - n_suffixes * length
    stack = decoder.text.layers if layers is None else layers
    for number, (layer, index, count, ids) in enumerate(
        zip(stack, schedule.kept_index, schedule.counts, schedule.ids, strict=layers is None)
    ):
        hidden, deepstack, seen = _pruned(hidden, index, n_prefix, seen), _narrowed(deepstack, index), count
        yield hidden
        mask = packed_mask(n_prefix + seen, n_suffixes, length)[None, None] if n_suffixes > 1 else None
        hidden = layer(
            hidden,
            attention_mask=None if mask is None else mask.to(hidden.device),
            position_embeddings=decoder.positions.rotary(hidden, ids),
        )
        hidden = _deepened(hidden, deepstack, number, n_prefix)
    if len(stack) < decoder.layers:
        hidden = _pruned(hidden, schedule.kept_index[len(stack)], n_prefix, seen)
    yield hidden


def _deepened(hidden: Tensor, deepstack: Tensor | None, level: int, n_prefix: int) -> Tensor:
    """Hidden states (B, S, D) with a level of deepstack features (B, n, L, D) added to those of the visual tokens."""
    if deepstack is None or level >= deepstack.shape[2]:
        return hidden
    n = deepstack.shape[1]
    after = hidden.shape[1] - n_prefix - n
    return hidden + F.pad(deepstack[:, :, level].to(hidden), (0, 0, n_prefix, after))


def _narrowed(deepstack: Tensor | None, index: Tensor | None) -> Tensor | None:
    """Deepstack features (B, n, L, D) of the visual tokens that `index` names; None: all."""
    if deepstack is None or index is None:
        return deepstack
    return deepstack[:, index.to(deepstack.device)]


def _pruned(hidden: Tensor, index: Tensor | None, n_prefix: int, seen: int) -> Tensor:
    """Hidden states (B, S, D), of the video's `seen` tokens after the prefix only those at `index`; None: all."""
    if index is None:
        return hidden
    video = hidden[:, n_prefix : n_prefix + seen][:, index.to(hidden.device)]
    return torch.cat([hidden[:, :n_prefix], video, hidden[:, n_prefix + seen :]], dim=1)


def rerun_layers(model: Any) -> None:
    """Run layers again in the backward pass instead of keeping activations (gradient checkpointing)."""
    enable = getattr(
        model, "activation_checkpointing_enable", None
    )  # its name in transformers 5.24, and in 6 the only one
    (enable or model.gradient_checkpointing_enable)({"use_reentrant": False})


def sequence(decoder: Decoder, tokens: VisualTokens) -> Tensor:
    """What is fed of one video: its features with the separators between them, (N, D)."""
    separators = decoder.separators(tokens)
    return tokens.features if separators is None else separators.interleave(tokens.features)


def levels(decoder: Decoder, tokens: VisualTokens) -> Tensor | None:
    """Deepstack features of what is fed of one video, (N, L, D), zero for separators; None: the family has none."""
    deepstack, separators = tokens.deepstack, decoder.separators(tokens)
    if deepstack is None or separators is None:
        return deepstack
    visual = separators.order(len(tokens)) >= len(separators)
    out = deepstack.new_zeros(len(visual), *deepstack.shape[1:])
    out[visual.to(out.device)] = deepstack
    return out


def embed(decoder: Decoder, prefix_ids: Tensor, features: Tensor, suffix_ids: Tensor) -> Tensor:
    """Ids before the video (P,) and after it (B, Q, A) around videos (B, N, D) -> embeddings (B, P + N + Q·A, D)."""
    embed_tokens = decoder.text.embed_tokens
    before = embed_tokens(prefix_ids.to(decoder.device)).expand(len(features), -1, -1)
    after = embed_tokens(suffix_ids.to(decoder.device).flatten(1))
    return torch.cat([before, features.to(decoder.device, before.dtype), after], dim=1)


def loss(decoder: Decoder, hidden: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Mean cross-entropy of the targets (B, Q, A), each the token after its position, IGNORE where none is learned.

    Also returns which of the learned targets come out first, (n,) bool. Logits are computed for these positions alone.
    """
    learned = targets.to(hidden.device) != IGNORE
    logits, wanted = decoder.logits(hidden[learned]), targets.to(hidden.device)[learned]
    return F.cross_entropy(logits.float(), wanted), logits.detach().argmax(-1) == wanted


def shared_schedule(schedules: Sequence[PruneSchedule]) -> PruneSchedule:
    """The schedule that all videos of a batch share.

    Raises MethodError where they differ: their tensors would not be rectangular.
    """
    if not all(schedule.same(schedules[0]) for schedule in schedules[1:]):
        raise MethodError(
            f"expected a method that drops the same places of every video, got {len(schedules)} videos of one "
            "batch with different schedules; tune with one video a sequence"
        )
    return schedules[0]
