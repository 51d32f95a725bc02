"""InfiniPot-V: a cache of fixed size that is cut again and again while a video streams in (arXiv 2506.15745).

Source: aiha-lab/InfiniPot-V at 81a4dbe, which has no licence: written from a description of what it does, without its
code. Published numbers for these backbones and benchmarks: none found.
Shape letters: G key heads, V entries of the video, F frames' worth of P entries each, d head width, T kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn.functional import avg_pool1d, avg_pool2d, avg_pool3d

from evalkit.errors import MethodError
from evalkit.method import Budget, Method
from evalkit.types import CachedVideo, Evicted, LayerChunk
from methods.selection import expect_places

WINDOWS = ((3, 7), (2, 5), (1, 3))  # dimensions and width by quarter of the layers; none in the last; source: released


@dataclass(frozen=True, kw_only=True)
class InfiniPotV(Method):
    """Fill the cache with a block of cells, cut it, fill it up again; what was kept competes anew with what is new.

    In every layer and for every key head, half of the room goes to entries unlike the most recent ones at their place
    (with those), half to the largest values. Question-blind. The last block is not cut: the ratio is the block's share.

    Differs: the question follows the video directly; the released code leaves a gap of the question's own length
    between their ids. Where the room for time is less than the recent frames take, fewer frames count as recent; the
    released code ends with an error. Where no frame counts as recent, as in blocks of up to three cells, values alone
    decide. Equal scores go to the earlier entry. What each head keeps differs, so the position
    ids that are recorded are the first head's.
    """

    rechooses: ClassVar[bool] = True
    kept: float = 0.75  # of a block's cells after a cut; source: released script, 24 of 32 frames
    in_time: float = 0.5  # of the room: entries unlike the recent ones; source: released script
    recent: float = 0.25  # of the frames in the cache; source: released script
    pooling: bool = False  # smooth the values' norms over frame and time, more in early layers; source: released
    choice: Literal["values", "uniform", "last"] = "values"  # or evenly spaced entries, or the last ones
    block: int | None = None  # cells in the cache; None: from the ratio
    left: int | None = None  # cells after a cut; None: `kept` of a block

    def __post_init__(self) -> None:
        shares = 0 < self.kept < 1 and 0 <= self.in_time <= 1 and 0 <= self.recent < 1
        if not shares or self.choice not in ("values", "uniform", "last"):
            raise MethodError(
                "InfiniPotV: expected kept in (0, 1), in_time in [0, 1], recent in [0, 1), choice values|uniform|last; "
                f"got {self}"
            )

    def sizes(self, budget: Budget) -> tuple[int, int]:
        """Cells of a block, and after a cut."""
        block = budget.cells_at(budget.ratio) if self.block is None else self.block
        return block, self.after_cut(block)

    def after_cut(self, block: int) -> int:
        """Cells' worth that a cut leaves of a block."""
        return max(1, min(block - 1, round(block * self.kept))) if self.left is None else self.left

    def chunks(self, cells: int, budget: Budget) -> tuple[int, ...]:
        """A whole block, then as many cells as a cut makes room for. MethodError where there is room for one alone."""
        block, left = self.sizes(budget)
        if block < 2 and cells > 1:
            raise MethodError(
                f"InfiniPotV: expected room for two cells of {cells} at least, the ratio {budget.ratio:g} has room for "
                f"{block}; take a higher ratio or more frames"
            )
        found = [min(block, cells)]
        while sum(found) < cells:
            found.append(min(block - left, cells - sum(found)))
        return tuple(found)

    def evict(self, chunk: LayerChunk) -> Evicted | None:
        """What of the whole cache goes on, (G, T)."""
        cached = chunk.cached
        assert cached is not None
        expect_places(cached.spatial, self)
        if cached.cells_left == 0:
            return None
        places = cached.grid[0] * cached.grid[1]
        frames = cached.keys.shape[1] // places
        block = cached.max_cells if self.block is None else self.block
        left = self.after_cut(block)
        room = left if left + cached.cells_left >= block else block - cached.cells_left
        if frames <= room:
            return None
        return Evicted(index=self.chosen(cached, room, layer=chunk.layer, layers=chunk.layers))

    def chosen(self, cached: CachedVideo, room: int, *, layer: int, layers: int) -> Tensor:
        """The entries that stay, `room` frames' worth, ascending: (G, T) long on the CPU."""
        heads, size, _ = cached.keys.shape
        places = cached.grid[0] * cached.grid[1]
        total = room * places
        if self.choice != "values":
            even = [int(i * size / total) for i in range(total)]
            return torch.tensor(even if self.choice == "uniform" else range(size - total, size)).expand(heads, -1)
        score = cached.values.norm(dim=-1)
        if self.pooling:
            score = pooled(score, cached.grid, layer, layers)
        score = score.float().cpu()
        if self.in_time > 0:
            in_time = total - round((1 - self.in_time) * room * places)
            recent = min(int(size // places * self.recent), in_time // places)
            if recent > 0:
                score = score.scatter(1, unlike_recent(cached.keys, places, in_time, recent), float(score.max()) + 1)
        best: Tensor = score.argsort(dim=1, descending=True, stable=True)[:, :total]
        return best.sort(dim=1).values


def unlike_recent(keys: Tensor, places: int, count: int, recent: int) -> Tensor:
    """`count` entries of keys (G, V, d): those of the last `recent` frames, and those least like them at their place.

    (G, count) long on the CPU.
    """
    heads, size, width = keys.shape
    unit = (keys / (keys.norm(dim=-1, keepdim=True) + 1e-9)).view(heads, -1, places, width)
    frames = size // places
    older = frames - recent
    last = torch.arange(older * places, size).expand(heads, -1)
    alike = (unit[:, :older] * unit[:, older:].mean(1, keepdim=True)).sum(-1).flatten(1).float().cpu()
    least = alike.argsort(dim=1, stable=True)[:, : count - recent * places]
    return torch.cat([least, last], 1)


def pooled(score: Tensor, grid: tuple[int, int], layer: int, layers: int) -> Tensor:
    """Scores (G, V) averaged with their neighbours, in time and frame, frame alone, or along the entries."""
    quarter = layer // max(1, layers // 4)
    if quarter >= len(WINDOWS):
        return score
    dimensions, width = WINDOWS[quarter]
    heads, size = score.shape
    if dimensions == 1:
        return avg_pool1d(score[:, None], width, 1, width // 2)[:, 0]
    frames = size // (grid[0] * grid[1])
    extents = grid if dimensions == 2 else (frames, *grid)
    narrow = min(width, *extents)
    narrow -= 1 - narrow % 2
    if narrow < 2:
        return score
    shaped = score.view(heads, frames, *grid)
    pool = avg_pool2d if dimensions == 2 else avg_pool3d
    x = shaped if dimensions == 2 else shaped[:, None]
    out: Tensor = pool(x, narrow, 1, narrow // 2)
    return out.reshape(heads, size)
