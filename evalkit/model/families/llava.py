"""What LLaVA-OneVision and LLaVA-Video share: SigLIP, Qwen2 with RoPE, one frame a cell, frames of one size."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from evalkit.model import chat_template, siglip_head
from evalkit.model.encoder_reader import SiglipReader, siglip_view_flops
from evalkit.model.normalization import SIGLIP_MEAN, SIGLIP_STD
from evalkit.model.positions import RopePositions
from evalkit.model.video_llm import VideoLLM

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor

    from evalkit.encoder_view import Need
    from evalkit.model.encoder_reader import Timed
    from evalkit.model.siglip_tower import SiglipTower


class Llava(VideoLLM):
    """A checkpoint behind the engine's few calls; subclasses say where its parts are, and what stands between rows."""

    positions_type = RopePositions
    # Differs: the processor of the llava-hf checkpoints leaves the system turn and some line breaks out.
    template = chat_template.LLAVA_TEMPLATE
    video_wrapper = ("", "\n")
    mean, std = SIGLIP_MEAN, SIGLIP_STD
    yarn_length = 32_768  # source: Qwen2's model cards; the language models were trained to this length
    cell_frames = 1
    pixels_per_token = None

    def __init__(self, model: Any, text: Any, tokenizer: Any, tower: SiglipTower) -> None:
        super().__init__(model, text, tokenizer)
        self.vision, self.frame_size = tower, tower.frame_size

    @property
    def projectors(self) -> tuple[torch.nn.Module, ...]:
        """The module that takes patches to the width of the language model."""
        return (self.vision.projector,)

    def take_pooling_head(self, path: str, *, weights: bool = True) -> None:
        """Let methods read the pooling head of the SigLIP checkpoint at `path`; ConfigError where it has none."""
        tower = self.vision.module
        self.vision.pooling_head = siglip_head.load(tower, path) if weights else siglip_head.build(tower)

    def token_grid(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of a frame's visual tokens, the same for every video."""
        return self.vision.grid

    def encode(self, pixels: np.ndarray, *, slice_cells: int) -> Tensor:
        """uint8 frames (F, height, width, 3) -> features (F·P, D), `slice_cells` frames at a time.

        Raises ModelError for frames of another size, and where a feature is not finite.
        """
        return self.vision.encode(pixels, slice_cells=slice_cells)

    def encode_flops(self, cells: int, grid: tuple[int, int]) -> int:
        """Operations of encoding `cells` frames."""
        return self.vision.flops(cells)

    @property
    def gives(self) -> frozenset[Need]:
        """What the last layer attends to; a summary where a run names SigLIP's pooling head (backbone.pooling_head)."""
        last: frozenset[Need] = frozenset({"attention", "keys"})
        return last if self.vision.pooling_head is None else last | {"pooled_attention", "summary"}

    def reader(self, needs: frozenset[Need], grid: tuple[int, int], timed: Timed) -> SiglipReader:
        """Of the last layer that is run."""
        return SiglipReader(needs, timed, self.vision)

    def view_flops(self, needs: frozenset[Need], cells: int, grid: tuple[int, int]) -> int:
        """Operations of reading `needs` in `cells` frames."""
        return cells * siglip_view_flops(self.vision, needs)
