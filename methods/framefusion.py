"""FrameFusion: merge what stays the same from frame to frame, then drop what is not attended to (arXiv 2501.01986).

Source: thu-nics/FrameFusion at fbec1d2, MIT. Published (abstract): 70 % fewer tokens at a mean relative loss below 3 %
over six models; no numbers by benchmark found for LLaVA-OneVision or Qwen2-VL.
Shape letters: n visual tokens alive, D width.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from evalkit.errors import MethodError
from evalkit.method import Budget, Method, PruneView
from evalkit.to_device import to_device
from evalkit.types import FramePlan, Pruned, Video, VisualTokens
from methods.layer_budget import affordable_cells, spread_cells
from methods.selection import expect_places

LEAST = 0.05  # of the tokens is what later layers see at least; below that fewer frames are seen


@dataclass(frozen=True)
class Progress:
    """How far one prompt is."""

    cost: float  # mean share of the tokens that a layer may see
    shares: tuple[float, ...] = ()  # of the tokens that each round merged
    merging: bool = True
    pruning: bool = True

    def required(self, layers: int) -> float:
        """Share of the tokens alive that must go now, so that with no further cut `layers` layers cost what they may.

        0 where none must; 1 where not even that would do.
        """
        alive, spent = 1.0, 0.0
        for share in self.shares:
            alive *= 1 - share
            spent += alive
        left, rest = layers * self.cost - spent, layers - len(self.shares)
        if rest <= 0 or alive == 0:
            return 0.0
        fraction = left / (rest * alive)
        return 0.0 if fraction > 1 else min(1.0, 1 - fraction)

    def pays(self, share: float, layers: int) -> bool:
        """Whether the budget lasts for the layer at hand if `share` of the tokens is merged before it."""
        return replace(self, shares=(*self.shares, share)).required(layers) < 1


@dataclass(frozen=True, kw_only=True)
class FrameFusion(Method):
    """From the first layer on, tokens that resemble the one before at their place are merged into it, round by round.

    When a round finds few of them, the rest of the budget is met by one drop, by what the prompt's last token attends
    to; when a round finds enough, the most similar pairs meet it at once. A merged token is the plain mean of its
    tokens' states and stays at the earliest one's ids.

    Differs: the budget is spread over the backbone's layers, so that the ratio is met; the released code counts 28
    whatever the model (`layers: 28`). Where the released code ends with an error, as rounds that merged too little have
    used up the budget, the most similar pairs are merged at once. Newlines between rows are not merged. Equal scores go
    to the earlier token. The attention for the drop is float32 at any precision.
    """

    whole: ClassVar[bool] = True
    between: ClassVar[bool] = True
    similarity: float = 0.6  # cosine from which a token is merged; LLaVA-Video 0.6, Qwen2-VL 0.5
    least_merged: float = 0.1  # a round that merges a smaller share of the tokens is the last
    cost: float | None = None  # mean share of the tokens that a layer sees, as published 0.3; None: from the ratio
    layers: int | None = None  # that the budget is spread over; None: the backbone's

    def __post_init__(self) -> None:
        if self.cost is not None and not 0 < self.cost <= 1:
            raise MethodError(f"FrameFusion: expected cost in (0, 1] or null; got {self.cost = }")

    def frames(self, video: Video, budget: Budget) -> FramePlan:
        """All that the ratio pays for if nothing can be merged and the drop comes after the first layer."""
        if self.cost is not None:
            return super().frames(video, budget)
        return spread_cells(budget, affordable_cells(budget, (1 + (budget.layers - 1) * LEAST) / budget.layers))

    def prune(self, layer: int, layers: int, tokens: VisualTokens, budget: Budget, view: PruneView) -> Pruned | None:
        """A round of merging before layer 0 and after each attention, or the drop after one."""
        if not view.between and layer > 0:
            return None
        progress = view.memo
        if not isinstance(progress, Progress):
            expect_places(tokens.spatial, self)
            cost = budget.ratio * budget.dense_tokens / len(tokens) if self.cost is None else self.cost
            progress = Progress(min(1.0, cost))
        over = layers if self.layers is None else self.layers
        if progress.merging:
            return self._merged(progress, over, tokens, view)
        return self._dropped(progress, over, view) if progress.pruning else None

    def _merged(self, progress: Progress, layers: int, tokens: VisualTokens, view: PruneView) -> Pruned:
        states, places = view.states, tokens.place
        similar = similarities(states, places)
        joins, required = similar >= self.similarity, progress.required(layers)
        share = int(joins.sum()) / len(tokens)
        if share < required and progress.pays(share, layers):
            progress = replace(progress, shares=(*progress.shares, share), merging=share >= self.least_merged)
        else:
            most = similar.argsort(descending=True, stable=True)[: int(required * len(tokens))]
            joins = torch.zeros_like(joins).index_fill(0, most, True) & (similar > -torch.inf)
            progress = replace(progress, merging=False, pruning=False)
        merged = merge(states, places, joins) if bool(joins.any()) else None
        return Pruned(index=(~joins).nonzero()[:, 0], states=merged, renumber=False, memo=progress)

    def _dropped(self, progress: Progress, layers: int, view: PruneView) -> Pruned:
        scores = view.last_attention()
        count = round(len(scores) * (1 - progress.required(layers)))
        index = scores.argsort(descending=True, stable=True)[:count].sort().values
        return Pruned(index=index, renumber=False, memo=replace(progress, pruning=False))


def similarities(states: Tensor, place: Tensor) -> Tensor:
    """Cosine of each state (n, D) to the one before at its place, (n,) on the CPU; −∞ at the first of a place."""
    order = place.argsort(stable=True)
    later, sooner = order[1:], order[:-1]
    pairs = place[later] == place[sooner]
    a, b = (states[to_device(index[pairs], states.device)] for index in (later, sooner))
    found = ((a * b).sum(-1) / (a.norm(dim=-1) * b.norm(dim=-1))).float().cpu()
    return torch.full((len(place),), -torch.inf).index_copy(0, later[pairs], found)


def merge(states: Tensor, place: Tensor, joins: Tensor) -> Tensor:
    """States (n, D) of the tokens that do not join (n,) bool, each the mean of itself and those that join it."""
    order = place.argsort(stable=True)
    heads = order[~joins[order]]  # (K,), by place; each token of `order` joins the head before it
    group = (~joins[order]).long().cumsum(0) - 1
    total = states.new_zeros(len(heads), states.shape[1])
    total.index_add_(0, group.to(states.device), states[order.to(states.device)])
    count = torch.bincount(group, minlength=len(heads)).to(states.device, states.dtype)
    return (total / count[:, None])[heads.argsort().to(states.device)]
