"""Runs of temporal cells: laid out anew, joined again, and the attention that each of them gets.

Shape letters: H query heads, G key/value heads, d head width, R rows (tokens that ask), n keys, N visual tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

import torch

from evalkit.types import VisualTokens

if TYPE_CHECKING:
    from torch import Tensor


def attention(queries: Tensor, keys: Tensor, hidden: Tensor | None) -> Tensor:
    """Queries (H, R, d) on keys (G, n, d), rotated -> probabilities averaged over heads and rows, (n,) float32."""
    groups, _, width = keys.shape
    grouped = queries.float().view(groups, -1, *queries.shape[1:])
    logits = grouped @ keys.float()[:, None].transpose(-1, -2) * width**-0.5
    if hidden is not None:
        logits = logits.masked_fill(hidden, -torch.inf)
    mean: Tensor = logits.softmax(-1).mean((0, 1, 2))
    return mean


def per_cell(weights: Tensor, slot: Tensor, width: int) -> Tensor:
    """Mean weight of each cell's tokens: weights (N,), cell (N,) -> (width,) float64."""
    total, count = torch.zeros(width, dtype=torch.float64), torch.zeros(width, dtype=torch.float64)
    total.index_add_(0, slot, weights.cpu().double())
    count.index_add_(0, slot, torch.ones(len(slot), dtype=torch.float64))
    return total / count.clamp(min=1)


def relaid(tokens: VisualTokens, cells: Sequence[int]) -> VisualTokens:
    """The tokens of `cells`, in that order, as cells that follow each other; where it turns back time goes on."""
    order = torch.tensor(list(cells))
    places = tokens.grid[0] * tokens.grid[1]
    index = (order[:, None] * places + torch.arange(places)).flatten()
    slot = torch.arange(len(order)).repeat_interleave(places)
    return replace(
        tokens,
        features=tokens.features[index.to(tokens.features.device)],
        cell=tokens.cell[index],
        place=tokens.place[index],
        slot=slot,
        protected=tokens.protected[index],
        cell_seconds=_onward(tokens.cell_seconds, list(cells)),
        slot_seconds=None if tokens.slot_seconds is None else _onward(tokens.slot_seconds, list(cells)),
        span=None,
    )


def _onward(seconds: Tensor, cells: list[int]) -> Tensor:
    """Times of `cells`; each time the order turns back, a video's length is added."""
    step = float(seconds[-1] - seconds[0]) / max(1, len(seconds) - 1)
    turns, shift = [0.0], 0.0
    for before, cell in pairwise(cells):
        shift += float(seconds[-1] - seconds[0]) + step if cell <= before else 0.0
        turns.append(shift)
    return seconds[torch.tensor(cells)] + torch.tensor(turns, dtype=torch.float64)


def joined(parts: Sequence[VisualTokens]) -> VisualTokens:
    """Chunks of one video, in order, as one."""
    return replace(
        parts[0],
        features=torch.cat([part.features for part in parts]),
        cell=torch.cat([part.cell for part in parts]),
        place=torch.cat([part.place for part in parts]),
        slot=torch.cat([part.slot for part in parts]),
        protected=torch.cat([part.protected for part in parts]),
    )
