"""The vision tower in batches, and rendered cells with what they show.

transformers' own forward loops over the cells in Python; here the same weights run over all cells at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F

from evalkit.model.normalization import CLIP_MEAN, CLIP_STD
from evalkit.tiny.model import GRID, SIZE
from evalkit.tiny.videos.render import Painter

if TYPE_CHECKING:
    from torch import Tensor

    from evalkit.tiny.videos.world import World

PATCH, MERGE = 14, 2


def patches(pixels: Tensor) -> Tensor:
    """uint8 frames (N, 2, SIZE, SIZE, 3) of N cells -> normalised patches (N, 64, 1176) in Qwen2-VL's order."""
    mean, std = torch.tensor(CLIP_MEAN) * 255, torch.tensor(CLIP_STD) * 255
    x = (pixels.float() - mean) / std
    x = x.permute(0, 1, 4, 2, 3).reshape(-1, 2, 3, GRID, MERGE, PATCH, GRID, MERGE, PATCH)
    x = x.permute(0, 3, 6, 4, 7, 2, 1, 5, 8)
    return x.reshape(len(pixels), -1, 3 * 2 * PATCH * PATCH)


def encode(visual: Any, pixels: Tensor) -> Tensor:
    """uint8 frames (N, 2, SIZE, SIZE, 3) -> features after the merger (N, places, D)."""
    x = F.linear(patches(pixels), visual.patch_embed.proj.weight.flatten(1))
    cos, sin = _rotary(visual, x)
    for block in visual.blocks:
        x = x + _attention(block.attn, block.norm1(x), cos, sin)
        x = x + block.mlp(block.norm2(x))
    features: Tensor = visual.merger(x.flatten(0, 1))
    return features.reshape(len(pixels), GRID * GRID, -1)


def _rotary(visual: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    side = torch.arange(GRID * MERGE)
    rows, columns = torch.meshgrid(side, side, indexing="ij")
    where = torch.stack([rows, columns]).reshape(2, GRID, MERGE, GRID, MERGE).permute(0, 1, 3, 2, 4)
    cos, sin = visual.rotary_pos_emb(x, where.reshape(2, -1).T)
    return cos[:, None], sin[:, None]


def _attention(attn: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    q, k, v = attn.qkv(x).reshape(*x.shape[:2], 3, attn.num_heads, -1).unbind(2)
    q, k = (t * cos + _half_turned(t) * sin for t in (q, k))
    mixed = F.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2))
    out: Tensor = attn.proj(mixed.transpose(1, 2).flatten(2))
    return out


def _half_turned(x: Tensor) -> Tensor:
    low, high = x.chunk(2, -1)
    return torch.cat([-high, low], -1)


def film(world: World, times: np.ndarray, cells: np.ndarray) -> Tensor:
    """Frames (len(cells), 2, SIZE, SIZE, 3) uint8 of the cells numbered `cells` of a video sampled at `times` (2T,)."""
    painter = Painter(world, SIZE)
    pairs = times.reshape(-1, 2)[cells]
    frames = [painter.frame(float(u), int(u * 4999)) for u in pairs.ravel()]
    return torch.from_numpy(np.stack(frames)).reshape(-1, 2, SIZE, SIZE, 3)
