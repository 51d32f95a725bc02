"""Qwen2-VL (arXiv 2409.12191) and Qwen2.5-VL (arXiv 2502.13923): pixels to features, features to an answer.

The prefill loop is the decoder's; here are the vision tower and the layout of M-RoPE positions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from evalkit.model import flops, positions
from evalkit.model.decoder import Decoder
from evalkit.model.finite import check_finite

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from evalkit.types import VisualTokens

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


class Qwen2VL(Decoder):
    """A Qwen2-VL checkpoint behind the engine's few calls."""

    cell_frames = 2
    rows = 3
    renumbers = False  # time steps do not depend on how many tokens a cell has left

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        mean: Sequence[float] = CLIP_MEAN,
        std: Sequence[float] = CLIP_STD,
    ) -> None:
        super().__init__(model, model.model.language_model, tokenizer)
        vision = model.config.vision_config
        self.patch, self.merge = int(vision.patch_size), int(vision.spatial_merge_size)
        self.pixels_per_token = self.patch * self.merge
        # the processor's fused form of "divide by 255, subtract the mean, divide by the deviation"
        self._mean = torch.tensor(mean) * 255
        self._std = torch.tensor(std) * 255

    # ---- vision

    def patches(self, pixels: np.ndarray) -> Tensor:
        """uint8 frames (2T, height, width, 3) -> normalised patches (T·h·w, 3·2·patch²) in Qwen's order."""
        frames, height, width, _ = pixels.shape
        x = (torch.from_numpy(np.ascontiguousarray(pixels)).float() - self._mean) / self._std
        m, p = self.merge, self.patch
        x = x.permute(0, 3, 1, 2).reshape(frames // 2, 2, 3, height // (m * p), m, p, width // (m * p), m, p)
        return x.permute(0, 3, 6, 4, 7, 2, 1, 5, 8).reshape(-1, 3 * 2 * p * p)

    def encode(self, pixels: np.ndarray, *, slice_cells: int) -> Tensor:
        """uint8 frames (2T, height, width, 3) -> features after the merger (T·P, D), `slice_cells` cells at a time.

        Cells do not attend to each other in the vision tower, so slicing is exact. Raises ModelError where a feature is
        not finite.
        """
        step = slice_cells * self.cell_frames
        features = torch.cat([self._encode_slice(pixels[i : i + step]) for i in range(0, len(pixels), step)])
        return check_finite(features, "features of the vision encoder")

    def _encode_slice(self, pixels: np.ndarray) -> Tensor:
        frames, height, width, _ = pixels.shape
        grid = (frames // self.cell_frames, height // self.patch, width // self.patch)
        return self.encode_patches(self.patches(pixels), grid)

    def encode_patches(self, patches: Tensor, grid: tuple[int, int, int]) -> Tensor:
        """Normalised patches (T·h·w, C) of a grid (T, h, w in patches) -> features (T·P, D)."""
        visual = self.model.model.visual
        thw = torch.tensor([grid], device=self.device)
        features: Tensor = visual(patches.to(self.device, visual.dtype), grid_thw=thw).pooler_output
        return features

    def encode_flops(self, cells: int, grid: tuple[int, int]) -> int:
        """Operations of encoding `cells` cells of `grid` rows and columns of tokens."""
        return cells * self.cell_flops(grid)

    def cell_flops(self, grid: tuple[int, int]) -> int:
        """Operations of encoding one cell: every patch attends to all of its cell."""
        vision = self.model.config.vision_config
        width, segments = vision.embed_dim, [[grid[0] * grid[1] * self.merge**2]] * vision.depth
        mlp = 2 * 2 * width * int(width * vision.mlp_ratio)
        return flops.vision_cell(vision, segments, width, mlp, vision.hidden_size)

    # ---- positions

    def slot_times(self, tokens: VisualTokens) -> Tensor:
        """Temporal id of each of the video's T slots, counted from its start, (T,) long."""
        return torch.arange(len(tokens.cell_seconds))

    def video_ids(self, start: int, tokens: VisualTokens) -> Tensor:
        """Ids (3, N) by slot and place."""
        return positions.video(start, self.slot_times(tokens)[tokens.slot], tokens.place, tokens.grid[1])

    def ids_after(self, tokens: VisualTokens) -> int:
        """How many ids the video takes before text goes on: to the end of the slots in use and of rows and columns.

        Where fewer slots are in use than there are rows or columns, ReTaKe's code lets text begin among those.
        """
        last = self.slot_times(tokens)[(len(tokens.cell_seconds) if tokens.span is None else tokens.span) - 1]
        return max(int(last) + 1, *tokens.grid)

    def model_ids(self, ids: Tensor) -> Tensor:
        """Ids (3, 1, S)."""
        return ids[:, None].to(self.device)


class Qwen25VL(Qwen2VL):
    """Qwen2.5-VL: time in the positions is absolute, `tokens_per_second` ids a second.

    An hour is thousands of ids in time, while a row or column is tens. Text that moved in time alone, as ReTaKe's code
    has it, would stand at ids such as (2835, 7015, 7015), which no training has seen; so it moves as a whole here.
    """

    aligns_text = True
    yarn_length = 32_768  # source: Qwen2.5-VL's model card; the checkpoint's own limit of 128,000 is no YaRN parameter

    def slot_times(self, tokens: VisualTokens) -> Tensor:
        """Seconds of each slot since the first, in ids; (T,) long."""
        rate = float(self.model.config.vision_config.tokens_per_second)
        seconds = tokens.times - tokens.times[0]
        # timestamps are binary fractions of a frame's time: 0.4999… s is half a second
        return torch.floor(seconds * rate + 1e-3).long()

    def cell_flops(self, grid: tuple[int, int]) -> int:
        """Operations of encoding one cell: most blocks attend within windows; the MLP is gated."""
        vision = self.model.config.vision_config
        side = vision.window_size // vision.patch_size // self.merge
        cut = [n * self.merge**2 for n in flops.windows(*grid, side)]
        whole = [grid[0] * grid[1] * self.merge**2]
        segments = [whole if i in vision.fullatt_block_indexes else cut for i in range(vision.depth)]
        width = vision.hidden_size
        mlp = 3 * 2 * width * vision.intermediate_size
        return flops.vision_cell(vision, segments, width, mlp, vision.out_hidden_size)
