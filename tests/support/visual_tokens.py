"""Random frames, and the visual tokens that a backbone makes of them."""

from __future__ import annotations

import numpy as np
import torch

from evalkit.model.families.qwen2_vl import Qwen2VL
from evalkit.types import VisualTokens


def noise(frames: int, height: int = 112, width: int = 112, seed: int = 0) -> np.ndarray:
    """(frames, height, width, 3) uint8 from a seed."""
    return np.random.default_rng(seed).integers(0, 256, (frames, height, width, 3), dtype=np.uint8)


def visual(backbone: Qwen2VL, frames: int = 12, height: int = 112, width: int = 112) -> VisualTokens:
    """The dense tokens of random frames, two frames a cell, a cell a second."""
    pixels = noise(frames, height, width)
    with torch.inference_mode():
        features = backbone.encode(pixels, slice_cells=32)
    grid = (height // backbone.pixels_per_token, width // backbone.pixels_per_token)
    return VisualTokens.dense(features, seconds=range(frames // 2), grid=grid)
