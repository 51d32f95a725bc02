"""The vision towers of Qwen2-VL, Qwen2.5-VL and Qwen3-VL: pixels to features after the merger, and what that costs.

Shape letters: T temporal cells of two frames, h and w patches per column and row of a frame, P visual tokens of a cell,
D feature width, L levels of deepstack features.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import torch

from evalkit.model import flops
from evalkit.model.finite import check_finite
from evalkit.model.normalization import PixelNormalization
from evalkit.to_device import to_device

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from torch import Tensor


class VisionTower:
    """Qwen2-VL's (arXiv 2409.12191): every patch attends to all of its cell."""

    cell_frames: ClassVar[int] = 2

    def __init__(self, module: Any, config: Any, mean: Sequence[float], std: Sequence[float]) -> None:
        """`module`: transformers' tower; `config` its settings; mean and deviation of pixel values in [0, 1]."""
        self.module, self.config = module, config
        self.patch, self.merge = int(config.patch_size), int(config.spatial_merge_size)
        self.pixels_per_token = self.patch * self.merge
        self._normalized = PixelNormalization(mean, std)

    def patches(self, pixels: np.ndarray) -> Tensor:
        """uint8 frames (2T, height, width, 3) -> normalised patches (T·h·w, 3·2·patch²) in Qwen's order."""
        frames, height, width, _ = pixels.shape
        m, p = self.merge, self.patch
        x = pixels.reshape(frames // 2, 2, height // (m * p), m, p, width // (m * p), m, p, 3)
        # moved while a pixel is one byte
        x = x.transpose(0, 2, 5, 3, 6, 8, 1, 4, 7).reshape(-1, 3, 2 * p * p)
        return self._normalized(x, behind=1).view(-1, 3 * 2 * p * p)

    def encode(self, pixels: np.ndarray, *, slice_cells: int) -> Tensor:
        """uint8 frames (2T, height, width, 3) -> features after the merger (T·P, D), `slice_cells` cells at a time.

        Cells do not attend to each other in the vision tower, so slicing is exact. Raises ModelError where a feature is
        not finite.
        """
        step = slice_cells * self.cell_frames
        features = torch.cat([self._encode_slice(pixels[i : i + step]) for i in range(0, len(pixels), step)])
        return check_finite(features, "features of the vision encoder")

    def _encode_slice(self, pixels: np.ndarray) -> Tensor:
        return self.encode_patches(self.patches(pixels), self._grid(pixels))

    def _grid(self, pixels: np.ndarray) -> tuple[int, int, int]:
        """Cells, and patches per column and row, of frames (2T, height, width, 3)."""
        frames, height, width, _ = pixels.shape
        return frames // self.cell_frames, height // self.patch, width // self.patch

    def encode_patches(self, patches: Tensor, grid: tuple[int, int, int]) -> Tensor:
        """Normalised patches (T·h·w, C) of a grid (T, h, w in patches) -> features (T·P, D)."""
        features: Tensor = self._run(patches, grid).pooler_output
        return features

    def _run(self, patches: Tensor, grid: tuple[int, int, int]) -> Any:
        """transformers' output for normalised patches."""
        device = self.module.device
        return self.module(to_device(patches, device, self.module.dtype), grid_thw=torch.tensor([grid], device=device))

    def token_order(self, grid: tuple[int, int]) -> Tensor:
        """Raster place of each visual token of a cell in the order in which its patches go through the blocks, (P,)."""
        return torch.arange(grid[0] * grid[1])

    @property
    def width(self) -> int:
        """Width of a patch's state."""
        return int(self.config.embed_dim)

    def flops(self, cells: int, grid: tuple[int, int]) -> int:
        """Operations of encoding `cells` cells of `grid` rows and columns of tokens."""
        return cells * self.cell_flops(grid)

    def cell_flops(self, grid: tuple[int, int]) -> int:
        """Operations of encoding one cell."""
        vision = self.config
        width, segments = vision.embed_dim, [[grid[0] * grid[1] * self.merge**2]] * vision.depth
        mlp = 2 * 2 * width * int(width * vision.mlp_ratio)
        return flops.vision_cell(vision, segments, width, mlp, vision.hidden_size)


class WindowedVisionTower(VisionTower):
    """Qwen2.5-VL's (arXiv 2502.13923): most blocks attend within windows; the MLP is gated."""

    @property
    def window(self) -> int:
        """Visual tokens per side of a window."""
        return int(self.config.window_size // self.config.patch_size // self.merge)

    def token_order(self, grid: tuple[int, int]) -> Tensor:
        """Window by window."""
        row, column = torch.arange(grid[0])[:, None], torch.arange(grid[1])
        windows = -(-grid[1] // self.window)
        return (row // self.window * windows + column // self.window).flatten().argsort(stable=True)

    @property
    def width(self) -> int:
        """Width of a patch's state."""
        return int(self.config.hidden_size)

    def cell_flops(self, grid: tuple[int, int]) -> int:
        """Operations of encoding one cell."""
        vision = self.config
        windows = [n * self.merge**2 for n in flops.windows(*grid, self.window)]
        full = [grid[0] * grid[1] * self.merge**2]
        segments = [full if i in vision.fullatt_block_indexes else windows for i in range(vision.depth)]
        width = vision.hidden_size
        mlp = 3 * 2 * width * vision.intermediate_size
        return flops.vision_cell(vision, segments, width, mlp, vision.out_hidden_size)


class DeepstackVisionTower(VisionTower):
    """Qwen3-VL's (arXiv 2511.21631): every patch attends to all of its cell, learned positions are interpolated.

    Beside the features there are deepstack features: states of L earlier blocks, each through a merger of its own.
    """

    @property
    def width(self) -> int:
        """Width of a patch's state."""
        return int(self.config.hidden_size)

    def encode_with_deepstack(self, pixels: np.ndarray, *, slice_cells: int) -> tuple[Tensor, Tensor]:
        """uint8 frames (2T, height, width, 3) -> features (T·P, D) and deepstack features (T·P, L, D).

        In slices, and with errors, as `encode`.
        """
        step = slice_cells * self.cell_frames
        parts = [self._encode_slice_with_deepstack(pixels[i : i + step]) for i in range(0, len(pixels), step)]
        features, deepstack = (torch.cat(part) for part in zip(*parts, strict=True))
        check_finite(deepstack, "deepstack features of the vision encoder")
        return check_finite(features, "features of the vision encoder"), deepstack

    def _encode_slice_with_deepstack(self, pixels: np.ndarray) -> tuple[Tensor, Tensor]:
        out = self._run(self.patches(pixels), self._grid(pixels))
        return out.pooler_output, torch.stack(out.deepstack_features, 1)

    def cell_flops(self, grid: tuple[int, int]) -> int:
        """Operations of encoding one cell."""
        vision = self.config
        width, segments = vision.hidden_size, [[grid[0] * grid[1] * self.merge**2]] * vision.depth
        mlp = 2 * 2 * width * vision.intermediate_size
        mergers = 1 + len(vision.deepstack_visual_indexes)
        return flops.vision_cell(vision, segments, width, mlp, vision.out_hidden_size, mergers)
