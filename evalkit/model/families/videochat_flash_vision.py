"""UMT (Unmasked Teacher, arXiv 2303.16058), the vision tower of VideoChat-Flash (arXiv 2501.00574).

Every patch of a clip attends to all of the clip, over space and time. Names of the modules are those of the published
weights. Shape letters: B clips, F frames of a clip, S patches per side of a frame, N = F·S² patches, C width.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.functional import gelu, interpolate, linear, scaled_dot_product_attention

if TYPE_CHECKING:
    from torch import Tensor

PATCH = 16  # pixels per side
# patches per side and frames of the pretraining, whose table of positions is stretched to others
PRETRAINED_SIDE, PRETRAINED_FRAMES = 14, 4
MLP_RATIO = 4


@lru_cache(maxsize=8)
def positions(frames: int, side: int, width: int) -> Tensor:
    """The table that is added to the patches of a clip in the order of time, row, column: (F·S², C) float32.

    Sines and cosines of the place in the pretraining's grid, stretched to `side` bicubically and to `frames` linearly.
    A single frame has the first frame's.
    """
    grid = _sinusoids(PRETRAINED_FRAMES * PRETRAINED_SIDE**2, width)
    grid = grid.view(PRETRAINED_FRAMES, PRETRAINED_SIDE, PRETRAINED_SIDE, width).permute(0, 3, 1, 2)
    if side != PRETRAINED_SIDE:
        grid = interpolate(grid, size=(side, side), mode="bicubic", align_corners=False)
    if frames == 1:
        grid = grid[:1]
    elif frames != PRETRAINED_FRAMES:
        over_time = interpolate(grid.permute(2, 3, 1, 0).flatten(0, 1), size=frames, mode="linear")
        grid = over_time.view(side, side, width, frames).permute(3, 2, 0, 1)
    return grid.permute(0, 2, 3, 1).reshape(-1, width)


def _sinusoids(length: int, width: int) -> Tensor:
    """Sine at even, cosine at odd channels, (length, width) float32."""
    channel = torch.arange(width, dtype=torch.float64)
    angle = torch.arange(length, dtype=torch.float64)[:, None] / 10000 ** (2 * (channel // 2) / width)
    angle[:, 0::2] = angle[:, 0::2].sin()
    angle[:, 1::2] = angle[:, 1::2].cos()
    return angle.float()


class UMT(nn.Module):
    """The blocks that are run, and the norm after them."""

    def __init__(self, width: int, depth: int, heads: int) -> None:
        super().__init__()
        self.width, self.depth, self.heads = width, depth, heads
        patch_embed: Any = nn.Module()
        patch_embed.proj = nn.Conv3d(3, width, kernel_size=(1, PATCH, PATCH), stride=(1, PATCH, PATCH))
        self.patch_embed = patch_embed
        self.blocks = nn.ModuleList([_Block(width, heads) for _ in range(depth)])
        self.vision_layernorm = nn.LayerNorm(width, eps=1e-12)

    def forward(self, pixels: Tensor) -> Tensor:
        """Normalised pixels (B, 3, F, height, width) -> features (B, N, C) in the order of time, row, column."""
        x = self.patch_embed.proj(pixels)
        frames, side = x.shape[2], x.shape[3]
        table = positions(frames, side, self.width)
        x = x.flatten(2).transpose(1, 2) + table.to(x.device, x.dtype)
        for block in self.blocks:
            x = block(x)
        out: Tensor = self.vision_layernorm(x)
        return out

    def flops(self, frames: int, side: int) -> int:
        """Operations of one clip."""
        patches, width = frames * side**2, self.width
        weights = 4 * width * width + 2 * MLP_RATIO * width * width
        blocks = self.depth * (2 * patches * weights + 4 * patches**2 * width)
        return 2 * patches * 3 * PATCH**2 * width + blocks


class _Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.attn = _Attention(width, heads)
        mlp: Any = nn.Module()
        mlp.fc1, mlp.fc2 = nn.Linear(width, MLP_RATIO * width), nn.Linear(MLP_RATIO * width, width)
        self.mlp = mlp

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        out: Tensor = x + self.mlp.fc2(gelu(self.mlp.fc1(self.norm2(x))))
        return out


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.q_bias, self.v_bias = nn.Parameter(torch.zeros(width)), nn.Parameter(torch.zeros(width))
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        bias = torch.cat([self.q_bias, torch.zeros_like(self.v_bias), self.v_bias])  # keys have none
        clips, patches, width = x.shape
        qkv = linear(x, self.qkv.weight, bias).view(clips, patches, 3, self.heads, width // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        out: Tensor = self.proj(scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))
        return out
