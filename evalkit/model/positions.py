"""M-RoPE position ids, laid out by us.

transformers' own `get_rope_index` starts the text after a video at `start + max(rows, columns)` in 5.3–5.23, so that
the question lands inside the video's time span; here text continues after the largest id of any row, as the models
were trained (Qwen2-VL, arXiv 2409.12191, §2.1). Rows of every tensor: time, height, width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor


def text(start: int, length: int) -> Tensor:
    """Ids of `length` text tokens from `start` on, (3, length): three equal rows."""
    return torch.arange(start, start + length).expand(3, -1)


def video(start: int, time: Tensor, place: Tensor, columns: int) -> Tensor:
    """Ids of visual tokens, (3, N): `time` (N,) long from 0 on, `place` (N,) raster index in a grid of `columns`."""
    return torch.stack([time, place // columns, place % columns]) + start


def following(positions: Tensor) -> int:
    """The id that comes after every one in `positions` (3, n)."""
    return int(positions.max()) + 1
