"""Qwen2-VL (arXiv 2409.12191) and Qwen2.5-VL (arXiv 2502.13923): which vision tower, which positions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from evalkit.model.encoder_reader import QwenReader, qwen_view_flops
from evalkit.model.positions import MRopePositions, Positions, TimedMRopePositions
from evalkit.model.video_llm import VideoLLM
from evalkit.model.vision_tower import VisionTower, WindowedVisionTower

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import torch
    from torch import Tensor

    from evalkit.encoder_view import Need
    from evalkit.model.encoder_reader import Timed


class Qwen2VL(VideoLLM):
    """A Qwen2-VL checkpoint behind the engine's few calls."""

    positions_type: ClassVar[type[Positions]] = MRopePositions
    tower_type: ClassVar[type[VisionTower]] = VisionTower
    cell_frames = VisionTower.cell_frames
    released_backbone = "qwen2_vl_7b"

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        """Mean and deviation of pixel values in [0, 1]; None: the family's."""
        super().__init__(model, model.model.language_model, tokenizer)
        self.vision = self.tower_type(
            model.model.visual, model.config.vision_config, mean or self.mean, std or self.std
        )
        self.pixels_per_token = self.vision.pixels_per_token

    @property
    def projectors(self) -> tuple[torch.nn.Module, ...]:
        """The merger."""
        return (self.model.model.visual.merger,)

    def encode(self, pixels: np.ndarray, *, slice_cells: int) -> Tensor:
        """uint8 frames (2T, height, width, 3) -> features after the merger (T·P, D), `slice_cells` cells at a time.

        Raises ModelError where a feature is not finite.
        """
        return self.vision.encode(pixels, slice_cells=slice_cells)

    def encode_flops(self, cells: int, grid: tuple[int, int]) -> int:
        """Operations of encoding `cells` cells of `grid` rows and columns of tokens."""
        return self.vision.flops(cells, grid)

    @property
    def gives(self) -> frozenset[Need]:
        """Everything; the summary of a cell is the mean of its features."""
        return frozenset({"attention", "pooled_attention", "keys", "summary", "pixels"})

    def reader(self, needs: frozenset[Need], grid: tuple[int, int], timed: Timed) -> QwenReader:
        """Of the last block."""
        return QwenReader(needs, timed, self.vision, grid)

    def view_flops(self, needs: frozenset[Need], cells: int, grid: tuple[int, int]) -> int:
        """Operations of reading `needs` in `cells` cells of `grid` rows and columns of tokens."""
        return cells * qwen_view_flops(self.vision, needs, grid)


class Qwen25VL(Qwen2VL):
    """A Qwen2.5-VL checkpoint: windows in the vision tower, absolute time in the positions."""

    positions_type = TimedMRopePositions
    tower_type = WindowedVisionTower
    released_backbone = "qwen2_5_vl_7b"
    yarn_length = 32_768  # source: Qwen2.5-VL's model card; the checkpoint's own limit of 128,000 is no YaRN parameter
