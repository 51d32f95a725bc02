"""The objective `states`: tokens that stay learn, in the first layers, what the uncompressed model knows of their cell.

The loss of an answer reaches a dropped token only through a question many layers later; on the built-in model hundreds
of steps of it changed nothing. Here every token has a target after each layer, made of states of the frozen,
uncompressed model: for text its own, so that later layers read what they were trained to read; for a visual token the
mixture of its cell's states that `tune.builtin.target_shares` gives.

Shape letters as in evalkit.tune.forward; T cells of P places.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import nn

from evalkit.tune import forward

if TYPE_CHECKING:
    from torch import Tensor

    from evalkit.model.decoder import Decoder
    from evalkit.tune.forward import PruneSchedule


def frozen_layers(decoder: Decoder, depth: int) -> nn.ModuleList:
    """A frozen copy of the first `depth` layers."""
    return nn.ModuleList(copy.deepcopy(layer) for layer in decoder.text.layers[:depth]).requires_grad_(False)


def loss(
    decoder: Decoder,
    frozen: nn.ModuleList,
    schedules: tuple[PruneSchedule, PruneSchedule],
    embeds: Tensor,
    target_shares: Tensor,
    learned: Tensor,
    *,
    deepstack: Tensor | None = None,
) -> Tensor:
    """Relative squared error of the states after each layer of `frozen`, summed over layers and kinds of tokens.

    Where `frozen` has all layers, the KL divergence from the uncompressed model's next-token distribution is added, at
    the positions `learned` (B, Q, A) bool. `schedules`: with the method, and with every token kept. `target_shares`
    (B, T, P, P): shares of the cell's uncompressed states in each visual token's target. `deepstack` (B, N, L, D): as
    in forward.layer_states.
    """
    schedule, uncompressed = schedules
    with torch.no_grad():
        fixed = None if deepstack is None else deepstack.detach()
        targets = [*forward.layer_states(decoder, uncompressed, embeds.detach(), list(frozen), deepstack=fixed)][1:]
    layers = decoder.text.layers[: len(frozen)]
    found = [*forward.layer_states(decoder, schedule, embeds, list(layers), deepstack=deepstack)][1:]
    kept, total = torch.arange(len(schedule.visual)), embeds.new_zeros(())
    for number, (states, goals) in enumerate(zip(found, targets, strict=True), 1):
        index = schedule.kept_index[number] if number < len(schedule.kept_index) else None
        kept = kept if index is None else kept[index]
        total = total + _errors(schedule, states, goals, target_shares.to(embeds), kept)
    if len(frozen) == decoder.layers:
        size = learned.shape[1] * learned.shape[2]
        total = total + _divergence(decoder, found[-1][:, -size:], targets[-1][:, -size:], learned.to(embeds.device))
    return total


def _divergence(decoder: Decoder, states: Tensor, goals: Tensor, learned: Tensor) -> Tensor:
    """KL divergence of the next token given suffix states (B, Q·A, D) from that given the uncompressed model's."""
    ours, theirs = (decoder.logits(decoder.text.norm(x[learned.flatten(1)])).float() for x in (states, goals))
    out: Tensor = F.kl_div(ours.log_softmax(-1), theirs.log_softmax(-1), log_target=True, reduction="batchmean")
    return out


def _errors(schedule: PruneSchedule, states: Tensor, goals: Tensor, target_shares: Tensor, kept: Tensor) -> Tensor:
    """Error of states (B, S_l, D) against uncompressed ones (B, S, D): the sum over kinds of tokens.

    These are visual tokens whose target is a mixture, visual tokens whose target is their own state, the prefix, the
    suffixes, and separators where there are any; each kind counts the same, however many tokens it has. `kept` (n_l,):
    numbers of the video's tokens that are left.
    """
    (cells, places), n_prefix = target_shares.shape[1:3], schedule.n_prefix
    end, n = n_prefix + len(schedule.visual), n_prefix + len(kept)
    visual, is_visual = schedule.visual.to(states.device), schedule.visual[kept].to(states.device)
    left = (schedule.visual.long().cumsum(0) - 1)[kept].to(states.device)[is_visual]  # numbers among visual tokens
    goal_video, video = goals[:, n_prefix:end], states[:, n_prefix:n]
    known = goal_video[:, visual].reshape(len(goals), cells, places, -1)
    goal = (target_shares @ known).flatten(1, 2)[:, left]
    mixed = (target_shares != torch.eye(places, device=target_shares.device)).any(-1).flatten(1)[:, left]
    parts = [(video[:, is_visual][mixed], goal[mixed]), (video[:, is_visual][~mixed], goal[~mixed])]
    parts += [(states[:, :n_prefix], goals[:, :n_prefix]), (states[:, n:], goals[:, end:])]
    if not visual.all():
        own = goal_video[:, kept.to(states.device)][:, ~is_visual]
        parts.append((video[:, ~is_visual], own))
    return torch.stack([relative_error(*part) for part in parts]).sum()


def relative_error(found: Tensor, target: Tensor) -> Tensor:
    """Squared error as a share of the target's mean square; 0 where the target is empty."""
    if target.numel() == 0:
        return found.sum()
    error: Tensor = (found - target).float().square().mean() / target.float().square().mean()
    return error
