"""LP-Comp: a frame's visual tokens shrink to one, layer by layer, inside the LLM (XComp, arXiv 2604.14149, §3.2).

Shape letters: L decoder layers, P = N1 visual tokens of a frame (here: of a temporal cell), N[l] of them in layer l.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor

from evalkit.errors import MethodError
from evalkit.method import Budget, Method, PruneView
from evalkit.types import FramePlan, Pruned, Video, VisualTokens

STAGES = (10 / 28, 20 / 28)  # source: released `EXTRA_PARAM_INNER_CONDENSER_ID` [10, 20] of 28 layers
STRIDE = 4  # source: released `EXTRA_PARAM_INNER_STRIDE`
Schedule = Literal["cosine", "stepwise", "identity"]
Rounding = Literal["released", "paper"]
Keeping = Literal["suffix", "uniform"]


@dataclass(frozen=True, kw_only=True)
class LPComp(Method):
    """Before each layer drop the visual tokens that its schedule no longer keeps; text is never dropped.

    Nothing is merged or scored: what a dropped token knew must have moved on by causal attention, which a model has to
    be tuned for. The ratio is spent on the schedule first: below the schedule's mean share fewer frames are seen, above
    it the schedule is lifted evenly, up to no dropping at ratio 1.

    Differs: N[1] is P for any depth (the released schedule can drop before layer 1 where its code cannot); a frame is a
    temporal cell; on M-RoPE backbones survivors keep their ids unless `positions` says `renumber` (ours: not studied).
    """

    schedule: Schedule = "cosine"
    rounding: Rounding = "released"  # half up, as the code and its log; paper: Eq. (1) rounds up
    keep: Keeping = "suffix"
    floor: int = 1  # fewest tokens of a cell in any layer
    positions: Literal["keep", "renumber"] | None = None  # None: renumbered on RoPE, as released; kept on M-RoPE
    frame_ratio: float | None = None  # share of the cells that are seen, the schedule as it is; None: from the ratio

    def __post_init__(self) -> None:
        known = self.schedule in ("cosine", "stepwise", "identity") and self.rounding in ("released", "paper")
        known = known and self.keep in ("suffix", "uniform") and self.positions in (None, "keep", "renumber")
        if not known or self.floor < 1 or not 0 < (self.frame_ratio or 1) <= 1:
            raise MethodError(
                "LPComp: expected schedule cosine|stepwise|identity, rounding released|paper, keep suffix|uniform, "
                f"positions keep|renumber|null, floor of at least 1, frame_ratio in (0, 1] or null; got {self}"
            )

    def frames(self, video: Video, budget: Budget) -> FramePlan:
        """As many cells as the budget allows under the schedule, spread over the video by the run's sampling preset."""
        cells = self.cells(budget)
        indices = budget.frames if cells == budget.cells else budget.sample(cells * budget.cell_frames)
        return FramePlan(indices=indices, height=budget.height, width=budget.width)

    def prune(self, layer: int, layers: int, tokens: VisualTokens, budget: Budget, view: PruneView) -> Pruned | None:
        """The tokens of each cell that layer `layer` still sees; None where it sees what the one before saw."""
        rows, columns = tokens.grid
        stays = self.stays(self.counts(budget)[layer], rows * columns)[tokens.place]
        if bool(stays.all()):
            return None
        renumber = None if self.positions is None else self.positions == "renumber"
        return Pruned(index=stays.nonzero()[:, 0], renumber=renumber)

    def cells(self, budget: Budget) -> int:
        """Cells that go into the LLM, in whole clips."""
        if self.frame_ratio is not None:
            return budget.cells_at(self.frame_ratio)
        base = self._base(budget)
        share = sum(base) / (len(base) * budget.places)
        # a number of clips is whole: what rounding leaves over goes to the schedule, unless it drops nothing
        affordable = budget.ratio * budget.cells / share / budget.clip_cells
        clips = max(1, round(affordable) if share == 1 else math.floor(affordable + 1e-9))
        return min(budget.cells, clips * budget.clip_cells)

    def counts(self, budget: Budget) -> tuple[int, ...]:
        """N[l], l = 1..L: the schedule, lifted to what the budget allows."""
        base = self._base(budget)
        if self.frame_ratio is not None:
            return base
        total = round(budget.ratio * budget.dense_tokens * budget.layers / self.cells(budget))
        return lifted(base, budget.places, total)

    def stays(self, count: int, places: int) -> Tensor:
        """(places,) bool: the `count` places of a cell that go on."""
        stays = torch.ones(places, dtype=torch.bool)
        stays[list(leaving(places, self.keep, strided=self.schedule == "stepwise")[: places - count])] = False
        return stays

    def _base(self, budget: Budget) -> tuple[int, ...]:
        return counts(budget.layers, budget.places, self.schedule, self.rounding, self.floor)


@lru_cache(maxsize=256)
def counts(layers: int, places: int, schedule: Schedule, rounding: Rounding, floor: int = 1) -> tuple[int, ...]:
    """N[l] for l = 1..L, never rising; N[1] = P."""
    if schedule == "identity":
        return (places,) * layers
    if schedule == "stepwise":
        stages = [round(layers * stage) for stage in STAGES]
        found = [places // STRIDE ** sum(layer >= stage for stage in stages) for layer in range(layers)]
    else:
        found = [_cosine(math.pi * layer / layers, places, rounding) for layer in range(1, layers + 1)]
    return (places, *(max(min(floor, places), 1, n) for n in found[1:]))


def _cosine(angle: float, places: int, rounding: Rounding) -> int:
    """Eq. (1) at l·π/L."""
    if rounding == "released":
        return 1 + int((places - 1) * 0.5 * (1 + math.cos(angle)) + 0.5)
    return math.ceil((places - 1) / 2 * math.cos(angle) + (places + 1) / 2 - 1e-9)  # cos(π/2) is not quite 0


@lru_cache(maxsize=256)
def lifted(base: tuple[int, ...], places: int, total: int) -> tuple[int, ...]:
    """The schedule moved evenly towards P until its sum is `total`; as it is where the sum is not below that."""
    missing, free = total - sum(base), len(base) * places - sum(base)
    if missing <= 0 or free == 0:
        return base
    exact = [n + min(1.0, missing / free) * (places - n) for n in base]
    found = [math.floor(x + 1e-9) for x in exact]
    # the largest remainders are rounded up, earlier layers first, so that the schedule still never rises
    short = min(total, len(base) * places) - sum(found)
    for layer in sorted(range(len(base)), key=lambda i: (found[i] - exact[i], i))[:short]:
        found[layer] += 1
    return tuple(found)


@lru_cache(maxsize=256)
def leaving(places: int, keep: Keeping, *, strided: bool = False) -> tuple[int, ...]:
    """Places of a cell (raster, from 0) in the order in which they are dropped."""
    if keep == "suffix":
        return tuple(range(places))
    if strided:  # the last of every STRIDE stays, then the last of every STRIDE²
        return tuple(sorted(range(places), key=lambda p: sum((p + 1) % STRIDE**k == 0 for k in (1, 2))))
    left, order = list(range(1, places + 1)), []
    while left:
        order.append(left.pop(_least_missed(left, places)))
    return tuple(place - 1 for place in order)


def _least_missed(left: list[int], places: int) -> int:
    """Index of the place without which the others lie closest to evenly spaced ones (released: first among equals)."""
    if len(left) == 1:
        return 0
    even = [(i + 1) * places / (len(left) - 1) for i in range(len(left) - 1)]
    misses = [sum(abs(a - b) for a, b in zip(left[:i] + left[i + 1 :], even, strict=True)) for i in range(len(left))]
    return misses.index(min(misses))
