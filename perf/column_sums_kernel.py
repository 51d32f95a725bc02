"""PivotKV's column sums as two Triton kernels, for perf/gpu_column_sums.py: not a part of evalkit until it wins there.

Shape letters: S tokens of a chunk, H query heads, G key heads, D head width.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

ROWS, COLUMNS = 64, 64  # of a block; powers of two


@triton.jit
def _weights_of(queries, keys, head, group, row, column, size: tl.constexpr, scale, width: tl.constexpr):
    """A block of products in fp32, with −inf where there is no key."""
    along = tl.arange(0, width)
    here, there = row[:, None], column[None, :]
    q = tl.load(queries + (head * size + here) * width + along[None, :], mask=here < size, other=0.0)
    k = tl.load(keys + (group * size + there) * width + along[:, None], mask=there < size, other=0.0)
    # two 16-bit numbers have an exact product in fp32: as in `methods.pivotkv.received`, which widens them first
    products = tl.dot(q, k, input_precision="ieee") * scale
    return tl.where(there < size, products, float("-inf"))


@triton.jit
def _row_sums(
    queries,
    keys,
    out,
    size: tl.constexpr,  # a number of the kernel, as the interpreter wants it
    scale,
    heads_each,
    width: tl.constexpr,
    rows: tl.constexpr,
    columns: tl.constexpr,
):
    """Logarithm of each row's sum of exponentials, (H, S)."""
    head = tl.program_id(1)
    row = tl.program_id(0) * rows + tl.arange(0, rows)
    largest = tl.full([rows], float("-inf"), tl.float32)
    total = tl.zeros([rows], tl.float32)
    for start in range(0, size, columns):
        column = start + tl.arange(0, columns)
        block = _weights_of(queries, keys, head, head // heads_each, row, column, size, scale, width)
        now = tl.maximum(largest, tl.max(block, 1))
        total = total * tl.exp(largest - now) + tl.sum(tl.exp(block - now[:, None]), 1)
        largest = now
    tl.store(out + head * size + row, largest + tl.log(total), mask=row < size)


@triton.jit
def _column_sums(
    queries,
    keys,
    row_sums,
    out,
    size: tl.constexpr,  # a number of the kernel, as the interpreter wants it
    scale,
    heads_each,
    width: tl.constexpr,
    rows: tl.constexpr,
    columns: tl.constexpr,
):
    """Each key's sum of softmax weights over all queries, (H, S)."""
    head = tl.program_id(1)
    column = tl.program_id(0) * columns + tl.arange(0, columns)
    total = tl.zeros([columns], tl.float32)
    for start in range(0, size, rows):
        row = start + tl.arange(0, rows)
        block = _weights_of(queries, keys, head, head // heads_each, row, column, size, scale, width)
        sums = tl.load(row_sums + head * size + row, mask=row < size, other=float("inf"))  # no row: weight 0
        total += tl.sum(tl.exp(block - sums[:, None]), 0)
    tl.store(out + head * size + column, total, mask=column < size)


def received(queries_HSd: Tensor, keys_GSd: Tensor) -> Tensor:
    """As `methods.pivotkv.received`, in two passes over the products and without any of them in memory; D: 2 ** n."""
    heads, size, width = queries_HSd.shape
    queries, keys = queries_HSd.contiguous(), keys_GSd.contiguous()
    row_sums, sums = (torch.empty(heads, size, device=queries.device, dtype=torch.float32) for _ in range(2))
    sizes = (size, width**-0.5, heads // len(keys), width, ROWS, COLUMNS)
    _row_sums[triton.cdiv(size, ROWS), heads](queries, keys, row_sums, *sizes)
    _column_sums[triton.cdiv(size, COLUMNS), heads](queries, keys, row_sums, sums, *sizes)
    return sums.mean(0)
