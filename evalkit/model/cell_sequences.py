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
    slot = torch.arange(len(order)).repeat_interleave(places)
    return replace(
        tokens,
        features=tokens.features[index.to(tokens.features.device)],
        cell=tokens.cell[index],
        place=tokens.place[index],
        slot=slot,
        protected=tokens.protected[index],
        until=None if tokens.until is None else tokens.until[index],
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
    until = [part.until for part in parts if part.until is not None]
    return replace(
        parts[0],
        features=torch.cat([part.features for part in parts]),
        cell=torch.cat([part.cell for part in parts]),
        place=torch.cat([part.place for part in parts]),
        slot=torch.cat([part.slot for part in parts]),
        protected=torch.cat([part.protected for part in parts]),
        until=torch.cat(until) if until else None,
    )


def window(tokens: VisualTokens, start: int, stop: int) -> tuple[VisualTokens, slice]:
    """The tokens of slots `start` to `stop` as a video of their own, and where they are in `tokens`."""
    first, last = torch.searchsorted(tokens.slot, torch.tensor([start, stop])).tolist()
    inside = tokens.keep(torch.arange(first, last))
    alone = replace(
        inside,
        slot=inside.slot - start,
        cell_seconds=tokens.cell_seconds[start:stop],
        slot_seconds=None if tokens.slot_seconds is None else tokens.slot_seconds[start:stop],
    )
    return alone, slice(first, last)
