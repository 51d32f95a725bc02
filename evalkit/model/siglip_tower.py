"""SigLIP (arXiv 2303.15343) with a projector and pooling, as the LLaVA families have it: pixels to features.

Shape letters: F frames, S patches per side of a frame, s visual tokens per side after pooling, C width of a patch, D of
a feature.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

from evalkit.errors import ModelError
from evalkit.model.finite import check_finite
from evalkit.model.normalization import PixelNormalization
from evalkit.to_device import to_device

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from evalkit.model.siglip_head import PoolingHead

    Pool = Callable[[Tensor], Tensor]  # (F, D, S, S) -> (F, D, s, s)


def bilinear(x: Tensor) -> Tensor:
    """Half the side, rounded up: 27 × 27 patches to 14 × 14 (LLaVA-OneVision)."""
    return F.interpolate(x, size=[math.ceil(side / 2) for side in x.shape[2:]], mode="bilinear")


def average(x: Tensor) -> Tensor:
    """Half the side, rounded down: 27 × 27 patches to 13 × 13 (LLaVA-Video); the last row and column are left out."""
    return F.avg_pool2d(x, 2)


class SiglipTower:
    """The first `depth` layers of a tower, without its last norm, then projector and pooling."""

    def __init__(
        self, module: Any, projector: Any, depth: int, pool: Pool, mean: Sequence[float], std: Sequence[float]
    ) -> None:
        """`module`: transformers' SiglipVisionModel; mean and deviation of pixel values in [0, 1]."""
        self.module, self.projector, self.depth, self.pool = module, projector, depth, pool
        self._normalized = PixelNormalization(mean, std)
        config = module.config
        self.frame_size = (int(config.image_size), int(config.image_size))
        self.patches = int(config.image_size) // int(config.patch_size)  # per side
        self.pooling_head: PoolingHead | None = None  # what methods may read beside features, where a run names it

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of visual tokens of a frame."""
        side = self.pool(torch.zeros(1, 1, self.patches, self.patches)).shape[-1]
        return side, side

    def encode(self, pixels: np.ndarray, *, slice_cells: int) -> Tensor:
        """uint8 frames (F, height, width, 3) -> features (F·s², D), `slice_cells` frames at a time: exact.

        Raises ModelError for frames of another size, and where a feature is not finite.
        """
        if pixels.shape[1:3] != self.frame_size:
            raise ModelError(f"expected frames of {self.frame_size} pixels, got {pixels.shape[1:3]}")
        features = [self._slice(pixels[i : i + slice_cells]) for i in range(0, len(pixels), slice_cells)]
        return check_finite(torch.cat(features), "features of the vision encoder")

    def _slice(self, pixels: np.ndarray) -> Tensor:
        weight = self.module.embeddings.patch_embedding.weight
        channels_first = self._normalized(pixels).permute(0, 3, 1, 2)
        hidden = self.module.embeddings(to_device(channels_first, weight.device, weight.dtype))
        for layer in self.module.encoder.layers[: self.depth]:
            hidden = layer(hidden, attention_mask=None)
        projected = self.projector(hidden)
        places = projected.unflatten(1, (self.patches, self.patches)).permute(0, 3, 1, 2).contiguous()
        features: Tensor = self.pool(places).permute(0, 2, 3, 1).flatten(0, 2)
        return features

    def flops(self, frames: int) -> int:
        """Operations of encoding; pooling is no matrix product."""
        config, patches = self.module.config, self.patches**2
        width, inner = int(config.hidden_size), int(config.intermediate_size)
        pixels = int(config.num_channels) * int(config.patch_size) ** 2
        layer = patches * (2 * 4 * width**2 + 2 * 2 * width * inner) + 4 * patches**2 * width
        linear = [module for module in self.projector.modules() if isinstance(module, torch.nn.Linear)]
        projector = patches * sum(2 * one.in_features * one.out_features for one in linear)
        return frames * (patches * 2 * pixels * width + self.depth * layer + projector)
