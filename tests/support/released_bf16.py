"""DPSelect and PivotKV in the dtype of their release, bfloat16, as plain forms: to be held against ours, in fp32.

What the released code computes in which dtype: features, queries and keys come in bfloat16. DPSelect's cosine
similarities are bfloat16, and only then 1 − similarity and the mean over places are fp32. PivotKV takes queries and
keys after rotation and rotates them back in bfloat16; their products are bfloat16, the softmax is fp32 and cut to
bfloat16, and the sum over queries and the two means over heads are bfloat16 again.

Shape letters as in methods/: T cells, P places, S tokens of a chunk, H query heads, G key heads, d head width.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

BF16 = torch.bfloat16


def distances(x_TPC: Tensor) -> Tensor:
    """1 − similarity to the cell before, (T, P) fp32 with the steps of a bfloat16 similarity; 1 at the first cell."""
    assert x_TPC.dtype == BF16
    first = torch.ones(1, x_TPC.shape[1])
    return torch.cat([first, 1 - cosine_similarity(x_TPC[1:], x_TPC[:-1], dim=-1).float()])


def peaks(distance_TS: Tensor, window: int = 3) -> Tensor:
    """Where a series has the first largest value of its window, (T, S) bool."""
    found = torch.zeros_like(distance_TS, dtype=torch.bool)
    for t in range(len(distance_TS)):
        low = max(0, t - window // 2)
        around = distance_TS[low : t + window // 2 + 1]
        found[t] = around.argmax(0) == t - low
    return found


def kept(distance_TS: Tensor, keep: int) -> tuple[Tensor, Tensor]:
    """Peaks first, then the largest: (T, S) bool; and for each series whether a tie at the cut leaves it open, (S,)."""
    rank = distance_TS + 2.0 * peaks(distance_TS)
    order = rank.sort(dim=0, descending=True, stable=True)
    chosen = torch.zeros_like(rank, dtype=torch.bool).scatter(0, order.indices[:keep], True)
    return chosen, order.values[keep - 1] == order.values[keep] if keep < len(rank) else torch.zeros(rank.shape[1]) > 0


def scores(queries_HSd: Tensor, keys_GSd: Tensor) -> Tensor:
    """Attention that each key receives, (S,) bfloat16, from queries and keys that were rotated and rotated back."""
    assert queries_HSd.dtype == keys_GSd.dtype == BF16
    heads, size, width = queries_HSd.shape
    groups = len(keys_GSd)
    products = queries_HSd @ keys_GSd.repeat_interleave(heads // groups, 0).transpose(1, 2) / width**0.5
    weights = products.softmax(-1, dtype=torch.float32).to(BF16)
    return weights.sum(1).view(groups, -1, size).mean(1).mean(0)
