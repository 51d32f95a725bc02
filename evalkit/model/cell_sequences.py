"""Runs of a video's temporal cells as videos of their own: laid out anew, and joined again from chunks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

import torch

from evalkit.types import VisualTokens

if TYPE_CHECKING:
    from torch import Tensor


def relaid(tokens: VisualTokens, cells: Sequence[int]) -> VisualTokens:
    """The tokens of `cells`, in that order, as cells that follow each other; where it turns back time goes on."""
    order = torch.tensor(list(cells))
    places = tokens.grid[0] * tokens.grid[1]
    index = (order[:, None] * places + torch.arange(places)).flatten()
    slot, slots = torch.arange(len(order)).repeat_interleave(places), tokens.slot_seconds
    return replace(
        tokens.keep(index),
        cell=slot,
        slot=slot,
        cell_seconds=tokens.cell_seconds[order] + _shifts(tokens.cell_seconds, cells),
        slot_seconds=None if slots is None else slots[order] + _shifts(slots, cells),
        mean_seconds=None if tokens.mean_seconds is None else tokens.mean_seconds[order] + _shifts(tokens.times, cells),
        span=None,
        encoder=None,
    )


def _shifts(seconds: Tensor, cells: Sequence[int]) -> Tensor:
    """What is added to the times of `cells` (n,): a video's length each time that the order turns back."""
    step = float(seconds[-1] - seconds[0]) / max(1, len(seconds) - 1)
    turns, shift = [0.0], 0.0
    for before, cell in pairwise(cells):
        shift += float(seconds[-1] - seconds[0]) + step if cell <= before else 0.0
        turns.append(shift)
    return torch.tensor(turns, dtype=torch.float64)


def joined(parts: Sequence[VisualTokens]) -> VisualTokens:
    """Chunks of one video, in order, as one."""
    until = [part.until for part in parts if part.until is not None]
    deepstack = [part.deepstack for part in parts]
    return replace(
        parts[0],
        features=torch.cat([part.features for part in parts]),
        deepstack=None if deepstack[0] is None else torch.cat([levels for levels in deepstack if levels is not None]),
        cell=torch.cat([part.cell for part in parts]),
        place=torch.cat([part.place for part in parts]),
        slot=torch.cat([part.slot for part in parts]),
        protected=torch.cat([part.protected for part in parts]),
        until=torch.cat(until) if until else None,
        encoder=None,
    )


def in_raster_order(tokens: VisualTokens) -> VisualTokens:
    """The tokens of each slot by place; themselves where they are so already."""
    rank = tokens.slot * (tokens.grid[0] * tokens.grid[1]) + tokens.place
    return tokens if bool((rank.diff() >= 0).all()) else tokens.keep(rank.argsort(stable=True))


def window(tokens: VisualTokens, start: int, stop: int) -> tuple[VisualTokens, slice]:
    """The tokens of slots `start` to `stop` as a video of their own, and where they are in `tokens`."""
    first, last = torch.searchsorted(tokens.slot, torch.tensor([start, stop])).tolist()
    inside = tokens.keep(torch.arange(first, last))
    alone = replace(
        inside,
        slot=inside.slot - start,
        cell_seconds=tokens.cell_seconds[start:stop],
        slot_seconds=None if tokens.slot_seconds is None else tokens.slot_seconds[start:stop],
        mean_seconds=None if tokens.mean_seconds is None else tokens.mean_seconds[start:stop],
    )
    return alone, slice(first, last)
