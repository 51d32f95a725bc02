"""What a question attends to in one layer, window by window, each with positions counted anew.

Shape letters: H query heads, G key/value heads, d head width, P tokens of the prefix, W windows, n visual tokens of a
window, A tokens of the question, of which R rows attend, S = P + n + A keys of a window.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from evalkit.model.cell_sequences import window
from evalkit.model.flops import OpCounts
from evalkit.model.positions import rotate

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

    from evalkit.model.positions import Positions
    from evalkit.types import VisualTokens

BLOCK_BYTES = 2**24  # of keys and weights that are in memory at a time, unless one window has more


@dataclass(frozen=True)
class AlikeWindows:
    """Windows whose tokens have the same slots and ids, so that they are rotated and scored in one batch."""

    numbers: tuple[int, ...]  # which of the windows that are asked for
    starts: tuple[int, ...]  # where each begins among the layer's visual tokens
    slot: Tensor  # (n,) from 0 on
    ids: Tensor  # (R, n) after a prefix
    ids_after: int  # that a window takes before text goes on

    def __len__(self) -> int:
        return len(self.numbers)


def alike(
    positions: Positions, tokens: VisualTokens, windows: Sequence[tuple[int, int]], prefix: int
) -> list[AlikeWindows]:
    """The windows (from, to) over a layer's visual tokens, after `prefix` tokens of text."""
    found: list[AlikeWindows] = []
    for number, (start, stop) in enumerate(windows):
        inside, where = window(tokens, start, stop)
        one = AlikeWindows(
            (number,),
            (where.start,),
            inside.slot,
            positions.video_ids(prefix, inside),
            positions.ids_after(inside),
        )
        for i, other in enumerate(found):
            if _same_layout(one, other):
                found[i] = AlikeWindows(
                    (*other.numbers, number), (*other.starts, where.start), other.slot, other.ids, other.ids_after
                )
                break
        else:
            found.append(one)
    return found


def _same_layout(one: AlikeWindows, other: AlikeWindows) -> bool:
    same = torch.equal(one.slot, other.slot) and torch.equal(one.ids, other.ids)
    return same and one.ids_after == other.ids_after


@dataclass(frozen=True, kw_only=True)
class WindowAttention:
    """One layer's keys and a question's queries, all before rotation."""

    positions: Positions
    keys: Tensor  # (G, P + N, d)
    prefix: int  # tokens before the video, P
    question_keys: Tensor  # (G, A, d): of the question's tokens that the rows may look at
    queries: Tensor  # (H, R, d)
    rows: slice  # of the question: the tokens whose attention counts
    renumbered: bool  # whether the layer numbers what is left of a video without gaps
    causal: bool  # whether a row is kept from looking at later tokens

    def per_token(self, windows: AlikeWindows) -> tuple[Tensor, OpCounts]:
        """Attention of each visual token in each window, (W, n) float32 on the keys' device, and the operations of
        queries on keys that it took (no values).
        """
        size, seen = len(windows.slot), self.question_keys.shape[1]
        ids = self.positions.prompt_ids(self.prefix, windows.ids, windows.ids_after, seen, renumbered=self.renumbered)
        after, length = self.prefix + size, self.prefix + size + seen
        queries = self.positions.rotate(self.queries, ids[:, after:][:, self.rows])
        cos, sin = self.positions.rotary(self.keys, ids)
        hidden = self._future(seen, after) if self.causal else None
        found = []
        for starts in _blocks(windows.starts, 4 * length * queries.shape[0] * (queries.shape[1] + queries.shape[2])):
            keys = rotate(self._gathered(starts, size), cos[0], sin[0])
            found.append(attention(queries, keys, hidden)[:, self.prefix : after])
        return torch.cat(found), OpCounts(extra=2 * queries.numel() * length * len(windows))

    def _gathered(self, starts: Sequence[int], size: int) -> Tensor:
        """Keys of prefix, window and question for windows that begin at `starts`, (W, G, S, d)."""
        before, video = self.keys[:, : self.prefix], self.keys[:, self.prefix :]
        return torch.stack([torch.cat([before, video[:, at : at + size], self.question_keys], 1) for at in starts])

    def _future(self, seen: int, after: int) -> Tensor:
        """(R, S) bool: True where a row may not look."""
        asking, looked_at = torch.arange(seen)[self.rows], torch.arange(-after, seen)
        return (looked_at[None] > asking[:, None]).to(self.keys.device)


def _blocks(starts: Sequence[int], window_bytes: int) -> Iterator[Sequence[int]]:
    """As many windows at a time as memory is for."""
    step = max(1, BLOCK_BYTES // window_bytes)
    yield from (starts[i : i + step] for i in range(0, len(starts), step))


def attention(queries: Tensor, keys: Tensor, hidden: Tensor | None) -> Tensor:
    """Queries (H, R, d) on keys (…, G, S, d), rotated -> probabilities averaged over heads and rows, (…, S) float32.

    `hidden` (R, S) bool: True where a row may not look. Every window's products and sums are of the same shape
    whatever their number, and so to the last bit what they are for one alone.
    """
    *windows, groups, _, width = keys.shape
    grouped = queries.float().view(groups, -1, *queries.shape[1:])
    logits = grouped @ keys.float().unsqueeze(-3).transpose(-1, -2) * width**-0.5
    if hidden is not None:
        logits = logits.masked_fill(hidden, -torch.inf)
    weights = logits.softmax(-1)
    means: list[Tensor] = [one.mean((0, 1, 2)) for one in (weights if windows else weights[None])]
    return torch.stack(means) if windows else means[0]


def per_cell(weights: Tensor, slot: Tensor, width: int) -> Tensor:
    """Mean weight of each cell's tokens: weights (W, N) on the CPU, slots (N,) -> (W, width) float64."""
    at = torch.arange(len(weights))[:, None] * width + slot
    total = torch.zeros(len(weights) * width, dtype=torch.float64)
    total.index_add_(0, at.flatten(), weights.double().flatten())
    return total.view(-1, width) / torch.bincount(slot, minlength=width).clamp(min=1)
