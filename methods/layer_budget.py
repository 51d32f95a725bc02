"""A ratio spent on layers: how many frames can be seen, and how many tokens the later layers may see."""

from __future__ import annotations

import math

from evalkit.method import Budget
from evalkit.types import FramePlan


def affordable_cells(budget: Budget, least: float) -> int:
    """Cells, in whole clips, that the ratio pays where a layer sees a share of at least `least` of them on average."""
    affordable = budget.ratio * budget.cells / least / budget.clip_cells
    return min(budget.cells, max(1, math.floor(affordable + 1e-9)) * budget.clip_cells)


def spread_cells(budget: Budget, cells: int) -> FramePlan:
    """The frames of so many cells, spread over the video by the run's sampling preset."""
    indices = budget.frames if cells == budget.cells else budget.sample(cells * budget.cell_frames)
    return FramePlan(indices=indices, height=budget.height, width=budget.width)


def left_for_later(budget: Budget, tokens: int, layer: int) -> int:
    """How many of `tokens` the layers from `layer` on may see, where those before see all; one at least."""
    layers = budget.layers
    if layer >= layers:
        return tokens
    entries = budget.ratio * budget.dense_tokens * layers - tokens * layer
    return min(tokens, max(1, round(entries / (layers - layer))))


def scaled(layer: int, layers: int, of: int = 28) -> int:
    """A layer of a published model of `of` layers in one of `layers`, from 1 on."""
    return min(layers, max(1, round(layer * layers / of)))
