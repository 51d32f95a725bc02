"""What the LLM has read so far: keys, values and position ids of every layer, each with a length of its own.

Shape letters: R rows of ids, S tokens that a layer sees of a feed, K of them kept, G key heads, d head width, T cells.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import transformers
from transformers import Cache

from evalkit.errors import ModelError
from evalkit.model.flops import OpCounts
from evalkit.model.kv_cache import SLACK, PreallocatedLayer
from evalkit.model.separators import NO_CELL

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from evalkit.types import Evicted


@dataclass(frozen=True)
class Mark:
    """A point to which a state can be cut back."""

    lengths: tuple[int, ...]  # per layer
    next_id: int
    visual: tuple[int, ...]  # per layer
    separators: tuple[int, ...]  # per layer
    op_counts: OpCounts
    read: int  # tokens
    replied: int


class PrefillState:
    """One sequence in the making: the cache, and what the cache alone does not know.

    Only the methods below change it: `record_input` for each feed and `record_guide` for text fed behind a chunk,
    `append` before each layer, `cut` and `record_eviction` after a layer's attention, `count` for operations outside
    both, `rewind`.
    """

    def __init__(self, layers: int, rows: int = 3) -> None:
        self.layers = [PreallocatedLayer() for _ in range(layers)]
        self.cache = Cache(layers=self.layers)
        # per layer (R, its length): ids with which its keys were rotated; R = 3 for M-RoPE, else 1
        self.positions: list[Tensor] = [torch.empty(rows, 0, dtype=torch.long) for _ in range(layers)]
        self.reindexed = [False] * layers  # its ids are new ones: what follows continues from its last stored id
        self.align_text = False  # whether text that follows new ids moves in all rows
        self.visual = [0] * layers  # visual entries per layer
        # per layer (V,), or (G, V): temporal cell of the video's last V entries, where a method chooses among all again
        self.video_cells: list[Tensor] = [torch.empty(0, dtype=torch.long) for _ in range(layers)]
        self.separators = [0] * layers  # entries per layer that stand between visual ones: newlines, times as text
        self.separators_fed = 0  # that entered the first layer
        self.guides_fed = 0  # tokens of text that were fed behind the video's chunks, beside the prompt itself
        self.visual_per_cell = torch.zeros(0, dtype=torch.long)  # (T,) visual entries of each cell over all layers
        self._count: tuple[Tensor, tuple[int, int, Tensor]] | None = None  # cells that were counted last
        self.op_counts = OpCounts()  # what it took to read all this
        self.next_id = 0  # that follows in the uncompressed layout
        self.read = torch.empty(0, dtype=torch.long)  # (n,) token ids fed, a visual token as the family's placeholder
        self.replied = 0  # of them that are the reply's

    # ---- read off

    @property
    def lengths(self) -> tuple[int, ...]:
        """Cached entries of each layer."""
        return tuple(int(p.shape[1]) for p in self.positions)

    def next_free_id(self, layer: int) -> int:
        """The id after the last stored one of a layer; 0 where it has none."""
        stored = self.positions[layer]
        return int(stored[:, -1].max()) + 1 if stored.shape[1] else 0

    def ids_after_reindexing(self, layer: int, ids: Tensor, *, text: bool = False, decoding: bool = False) -> Tensor:
        """Ids (R, S) of the uncompressed layout, moved to follow what a layer stores; `ids` itself where nothing moved.

        While decoding all three rows move by the shift in time, in prefill the temporal row alone: the released ReTaKe
        code does so (its decoding ids are one expanded row). With `align_text` text moves in all rows there, too.
        """
        if not self.reindexed[layer]:
            return ids
        stored, all_rows = self.positions[layer], decoding or (self.align_text and text)
        # squeezed times may end before the last row or column does; equal rows must pass both
        last = stored.max() if all_rows and not decoding else stored[0, -1]
        moved = ids.clone()
        moved[: 3 if all_rows else 1] += int(last) + 1 - int(ids[0, 0])
        return moved

    def check(self) -> None:
        """Every layer's cache must hold one entry for each id that was counted there.

        Raises ModelError otherwise: the library did not fill the cache that it was given, or not in this way.
        """
        found, expected = tuple(layer.length for layer in self.layers), self.lengths
        wrong = [i for i, (have, want) in enumerate(zip(found, expected, strict=True)) if have != want]
        if wrong:
            raise ModelError(
                f"the cache of layer {wrong[0]} holds {found[wrong[0]]} entries after a feed, expected "
                f"{expected[wrong[0]]}, one for each position id ({len(wrong)} of {len(found)} layers are wrong); "
                f"install a release of transformers that evalkit is tested with, this is {transformers.__version__}"
            )

    # ---- changed by

    def reserve(self, kept: int, passing: int) -> None:
        """Expect `kept` further entries in each layer, and up to `passing` more that are cut again."""
        for layer in self.layers:
            layer.reserve(layer.length + kept + passing + SLACK)

    def record_input(self, ids: Sequence[int], next_id: int, *, reply: bool = False, separators: int = 0) -> None:
        """Record the ids of tokens that are fed, and the position id after them; `reply`: they are the answer's own.

        `separators`: how many of the tokens stand between visual ones.
        """
        self.separators_fed += separators
        self.read = torch.cat([self.read, torch.tensor(ids, dtype=torch.long)])
        self.replied += len(ids) if reply else 0
        self.next_id = next_id

    def record_guide(self, count: int) -> None:
        """Record that so many tokens of the text after the video are fed behind a chunk of it."""
        self.guides_fed += count

    def count(self, op_counts: OpCounts) -> None:
        """Add operations."""
        self.op_counts += op_counts

    def append(self, layer: int, ids: Tensor, *, cells: Tensor | None = None, renumbered: bool = False) -> None:
        """Record the entries that a layer is about to add to its cache and attend from, at ids (R, S).

        `cells` (S,): the temporal cells that they come from, -1 of a separator, -2 of text that is fed with the video;
        None where all is text. `renumbered`: their ids count the layer's entries without gaps, and so does what
        follows.
        """
        self.positions[layer] = torch.cat([self.positions[layer], ids], dim=1)
        size, length = int(ids.shape[1]), int(self.positions[layer].shape[1])
        self.count(OpCounts(projected=size, pairs=size * length, transformed=size))
        if renumbered:
            self.reindexed[layer] = self.align_text = True
        if cells is not None:
            self._count_video(layer, cells)

    def cut(self, layer: int, size: int, index: Tensor, keys: Tensor | None) -> None:
        """Of the last `size` entries of a layer's cache keep those at `index` (K,), which is where the cache is.

        `keys` (1, G, K, d) replace those kept where their ids are new. `record_eviction` must follow, when the index is
        known to the CPU.
        """
        self.layers[layer].keep_of_last(size, index, keys)

    def record_eviction(
        self, layer: int, evicted: Evicted, cells: Tensor, *, align_text: bool, closes_gap: bool = True
    ) -> None:
        """Record that of a video's entries last appended to a layer, of temporal cells `cells` (S,), those of `evicted`
        were kept, whose index and ids are on the CPU. A separator's cell is -1, that of text -2.

        `align_text`: whether following text then moves in all rows; `closes_gap`: whether what follows continues from
        new ids at all.
        """
        index, size = evicted.index, len(cells)
        old = self.positions[layer]
        before, chunk = old[:, : old.shape[1] - size], old[:, old.shape[1] - size :]
        ids = chunk[:, index] if evicted.positions is None else evicted.positions
        self.positions[layer] = torch.cat([before, ids], dim=1)
        self.reindexed[layer] |= evicted.positions is not None and closes_gap
        self.align_text = align_text
        self._count_video(layer, cells, -1)
        self._add_video(layer, _counted(cells[index]))
        self.count(OpCounts(extra=evicted.flops))

    def extend_video(self, layer: int, cells: Tensor) -> int:
        """Record the temporal cells (S,) of a video's entries that a layer has just added, for `rechoose`.

        Returns how many entries of the video the layer has, V.
        """
        before = self.video_cells[layer]
        self.video_cells[layer] = torch.cat([before, cells.expand(*before.shape[:-1], -1)], -1)
        return int(self.video_cells[layer].shape[-1])

    def rechoose(self, layer: int, index: Tensor, *, on_device: Tensor, flops: int) -> None:
        """Of all entries of the video in a layer keep those at `index`.

        `index` (K,), or (G, K) for each key head, is on the CPU; `on_device` is the same where the cache is. Ids are
        then those of the first head's entries.
        """
        cells, old = self.video_cells[layer], self.positions[layer]
        size = cells.shape[-1]
        self.layers[layer].keep_of_last(size, on_device, None)
        first = index if index.ndim == 1 else index[0]
        start = old.shape[1] - size
        self.positions[layer] = torch.cat([old[:, :start], old[:, start:][:, first]], dim=1)
        self._count_video(layer, cells, -1)
        kept = cells[..., index] if cells.ndim == 1 else cells.gather(1, index.expand(len(cells), -1))
        self._add_video(layer, _counted(kept))
        self.video_cells[layer] = kept
        self.count(OpCounts(extra=flops))

    def _count_video(self, layer: int, cells: Tensor, sign: int = 1) -> None:
        """`cells` (S,), or (G, S) where each of G key heads has entries of its own: then their mean counts. Layers
        mostly ask for the same cells in turn.
        """
        if self._count is None or self._count[0] is not cells:
            self._count = cells, _counted(cells)
        self._add_video(layer, self._count[1], sign)

    def _add_video(self, layer: int, counts: tuple[int, int, Tensor], sign: int = 1) -> None:
        visual, separators, found = counts
        self.visual[layer] += sign * visual
        self.separators[layer] += sign * separators
        size = max(len(found), len(self.visual_per_cell))
        total = torch.zeros(size, dtype=torch.promote_types(found.dtype, self.visual_per_cell.dtype))
        total[: len(self.visual_per_cell)] = self.visual_per_cell
        total[: len(found)] += sign * found
        self.visual_per_cell = total

    # ---- copied and cut back

    def copied(self) -> PrefillState:
        """What has been read, in a state of its own: what is fed to one of them does not reach the other."""
        other = copy.copy(self)
        other.layers = [layer.copy() for layer in self.layers]
        other.cache = Cache(layers=other.layers)
        # tensors are never written in place, lists are
        other.positions, other.video_cells = list(self.positions), list(self.video_cells)
        other.reindexed, other.visual, other.separators = list(self.reindexed), list(self.visual), list(self.separators)
        return other

    def mark(self) -> Mark:
        """This point."""
        counts = tuple(self.visual), tuple(self.separators)
        return Mark(self.lengths, self.next_id, *counts, self.op_counts, len(self.read), self.replied)

    def rewind(self, mark: Mark) -> None:
        """Forget the text fed since `mark`: exact, since later tokens never change earlier keys and values."""
        for i, (layer, length) in enumerate(zip(self.layers, mark.lengths, strict=True)):
            self.positions[i] = self.positions[i][:, :length]
            layer.truncate(length)
        self.next_id, self.op_counts = mark.next_id, mark.op_counts
        self.visual, self.separators = list(mark.visual), list(mark.separators)
        self.read, self.replied = self.read[: mark.read], mark.replied


def _counted(cells: Tensor) -> tuple[int, int, Tensor]:
    """Visual entries, separators, and visual entries of each cell (T,)."""
    visual, heads = cells[cells >= 0], 1 if cells.ndim == 1 else len(cells)
    each = torch.bincount(visual)
    return len(visual) // heads, int((cells == NO_CELL).sum()), each if heads == 1 else each.double() / heads
