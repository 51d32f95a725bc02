"""What a question attends to in one layer, window by window, each with positions counted anew.

Shape letters: H query heads, G key/value heads, d head width, P tokens of the prefix, N visual tokens, A tokens of the
question, of which R rows attend, n keys in all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from evalkit.model.cell_sequences import window
from evalkit.model.flops import OpCounts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from evalkit.model.positions import Positions
    from evalkit.types import VisualTokens


@dataclass(frozen=True, kw_only=True)
class WindowAttention:
    """One layer's keys and a question's queries, all before rotation."""

    positions: Positions
    tokens: VisualTokens  # N; without features
    keys: Tensor  # (G, P + N, d)
    question_keys: Tensor  # (G, A, d): of the question's tokens that the rows may look at
    queries: Tensor  # (H, R, d)
    rows: slice  # of the question: the tokens whose attention counts
    renumbered: bool  # whether the layer numbers what is left of a video without gaps
    causal: bool  # whether a row is kept from looking at later tokens

    @property
    def prefix(self) -> int:
        """Tokens before the video, P."""
        return self.keys.shape[1] - len(self.tokens)

    def per_cell(self, windows: Sequence[tuple[int, int]]) -> tuple[Tensor, OpCounts]:
        """Mean attention of each cell in each window, (windows, width) float64, and the operations it took."""
        found, counts = [], OpCounts()
        for start, stop in windows:
            weights, inside, extra = self._window(start, stop)
            counts += OpCounts(extra=extra)
            found.append(per_cell(weights, inside.slot, stop - start))
        return torch.stack(found), counts

    def per_token(self, start: int, stop: int) -> tuple[Tensor, OpCounts]:
        """Attention of each visual token in one window, (1, n) float64, and the operations it took."""
        weights, _, extra = self._window(start, stop)
        return weights[None].cpu().double(), OpCounts(extra=extra)

    def _window(self, start: int, stop: int) -> tuple[Tensor, VisualTokens, int]:
        """Weights (n',) of a window's tokens, those tokens, and the operations of queries on keys (no values)."""
        inside, where = window(self.tokens, start, stop)
        after, seen = self.prefix + len(inside), self.question_keys.shape[1]
        ids = self.positions.prompt_ids(
            self.prefix,
            self.positions.video_ids(self.prefix, inside),
            self.positions.ids_after(inside),
            seen,
            renumbered=self.renumbered,
        )
        video_keys = self.keys[:, self.prefix :][:, where]
        keys = torch.cat([self.keys[:, : self.prefix], video_keys, self.question_keys], 1)
        queries = self.positions.rotate(self.queries, ids[:, after:][:, self.rows])
        future = self._future(seen, after) if self.causal else None
        weights = attention(queries, self.positions.rotate(keys, ids), future)
        return weights[self.prefix : after], inside, 2 * queries.numel() * keys.shape[1]

    def _future(self, seen: int, after: int) -> Tensor:
        """(R, n) bool: True where a row may not look."""
        asking, looked_at = torch.arange(seen)[self.rows], torch.arange(-after, seen)
        return (looked_at[None] > asking[:, None]).to(self.keys.device)


def attention(queries: Tensor, keys: Tensor, hidden: Tensor | None) -> Tensor:
    """Queries (H, R, d) on keys (G, n, d), rotated -> probabilities averaged over heads and rows, (n,) float32.

    `hidden` (R, n) bool: True where a row may not look.
    """
    groups, _, width = keys.shape
    grouped = queries.float().view(groups, -1, *queries.shape[1:])
    logits = grouped @ keys.float()[:, None].transpose(-1, -2) * width**-0.5
    if hidden is not None:
        logits = logits.masked_fill(hidden, -torch.inf)
    mean: Tensor = logits.softmax(-1).mean((0, 1, 2))
    return mean


def per_cell(weights: Tensor, slot: Tensor, width: int) -> Tensor:
    """Mean weight of each cell's tokens: weights (N,), slots (N,) -> (width,) float64."""
    total, count = torch.zeros(width, dtype=torch.float64), torch.zeros(width, dtype=torch.float64)
    total.index_add_(0, slot, weights.cpu().double())
    count.index_add_(0, slot, torch.ones(len(slot), dtype=torch.float64))
    return total / count.clamp(min=1)
