"""What the LLM has read so far: keys, values and position ids of every layer, each with a length of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import transformers
from transformers import Cache

from evalkit.errors import ModelError
from evalkit.model.flops import OpCounts
from evalkit.model.kv_cache import SLACK, PreallocatedLayer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


@dataclass(frozen=True)
class Mark:
    """A point to which a context can be cut back."""

    lengths: tuple[int, ...]  # per layer
    next_id: int
    visual: tuple[int, ...]  # per layer
    op_counts: OpCounts
    read: int  # tokens
    replied: int


class PrefillState:
    """One sequence in the making: the cache, and what the cache alone does not know.

    `positions[l]` (R, length of layer l) are the ids with which layer l's keys were rotated (R = 3 for M-RoPE, else 1).
    `next_id` is the id that follows in the uncompressed layout; `shifted[l]` says that layer l's ids were re-forged, so
    that what follows there is moved up to its last stored id. `held[t]` counts the visual entries of cell t over all
    layers. `work` is what it took to read all this. `read` (n,) are the token ids that were fed, a visual token as the
    family's placeholder; the last `replied` of them are the reply's.
    """

    def __init__(self, layers: int, rows: int = 3) -> None:
        self.layers = [PreallocatedLayer() for _ in range(layers)]
        self.cache = Cache(layers=self.layers)
        self.positions: list[Tensor] = [torch.empty(rows, 0, dtype=torch.long) for _ in range(layers)]
        self.reindexed = [False] * layers
        self.align_text = False
        self.visual = [0] * layers  # visual entries per layer
        self.visual_per_cell = torch.zeros(0, dtype=torch.long)  # (T,)
        self.op_counts = OpCounts()
        self.next_id = 0
        self.read = torch.empty(0, dtype=torch.long)
        self.replied = 0

    @property
    def lengths(self) -> tuple[int, ...]:
        """Cached entries of each layer."""
        return tuple(int(p.shape[1]) for p in self.positions)

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

    def reserve(self, kept: int, passing: int) -> None:
        """Expect `kept` further entries in each layer, and up to `passing` more that are cut again."""
        for layer in self.layers:
            layer.reserve(layer.length + kept + passing + SLACK)

    def note(self, ids: Sequence[int], *, reply: bool = False) -> None:
        """Note the ids of tokens that are fed; `reply`: they are the answer's own."""
        self.read = torch.cat([self.read, torch.tensor(ids, dtype=torch.long)])
        self.replied += len(ids) if reply else 0

    def mark(self) -> Mark:
        """Remember this point."""
        return Mark(self.lengths, self.next_id, tuple(self.visual), self.op_counts, len(self.read), self.replied)

    def rewind(self, mark: Mark) -> None:
        """Forget the text fed since `mark`: exact, since later tokens never change earlier keys and values."""
        for i, (layer, length) in enumerate(zip(self.layers, mark.lengths, strict=True)):
            self.positions[i] = self.positions[i][:, :length]
            layer.truncate(length)
        self.next_id, self.visual, self.op_counts = mark.next_id, list(mark.visual), mark.op_counts
        self.read, self.replied = self.read[: mark.read], mark.replied

    def count(self, cells: Tensor, sign: int = 1) -> None:
        """Note visual entries of `cells` (K,) that came to a layer, or with -1 that left it."""
        found = sign * torch.bincount(cells, minlength=len(self.visual_per_cell))
        found[: len(self.visual_per_cell)] += self.visual_per_cell
        self.visual_per_cell = found

    def cut_chunk(self, layer: int, chunk: int, index: Tensor, keys: Tensor | None, positions: Tensor | None) -> None:
        """Of the last `chunk` entries of a layer keep those at `index`; replace their keys and ids where given.

        Shapes: index (K,), keys (1, G, K, d), positions (R, K).
        """
        self.layers[layer].keep_of_tail(chunk, index, keys)
        old = self.positions[layer]
        start = old.shape[1] - chunk
        ids = old[:, start:][:, index] if positions is None else positions
        self.positions[layer] = torch.cat([old[:, :start], ids], dim=1)
