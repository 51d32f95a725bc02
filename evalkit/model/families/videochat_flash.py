"""VideoChat-Flash (arXiv 2501.00574): clips of a few frames, encoded together and merged to 16 tokens a frame."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from evalkit.errors import ModelError
from evalkit.model import chat_template
from evalkit.model.families.videochat_flash_model import (
    FRAME_TOKENS,
    VideoChatFlashConfig,
    VideoChatFlashForCausalLM,
)
from evalkit.model.finite import check_finite
from evalkit.model.normalization import IMAGENET_MEAN, IMAGENET_STD, PixelNormalization
from evalkit.model.positions import RopePositions
from evalkit.model.video_llm import VideoLLM
from evalkit.to_device import to_device

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from torch import Tensor


class VideoChatFlash(VideoLLM):
    """A VideoChat-Flash checkpoint behind the engine's few calls.

    A temporal cell is a slot of 16 tokens of a clip, one for each frame, though merging mixes the frames of a clip: a
    token of slot j need not come from frame j. Frames are chosen clip by clip.
    """

    positions_type = RopePositions
    template = chat_template.LLAVA_TEMPLATE
    video_wrapper = ("", "\n")
    config_class = VideoChatFlashConfig
    model_class = VideoChatFlashForCausalLM
    own_code = True
    released_backbone = "videochat_flash_2b"
    parts = ("", "vision_config")  # the language model's settings are the checkpoint's; the vision side has no section
    mean, std = IMAGENET_MEAN, IMAGENET_STD
    yarn_length = 32_768  # source: Qwen2 and Qwen2.5; VideoChat-Flash's needle test stretches from there, too
    cell_frames = 1
    pixels_per_token = None
    spatial = False

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
    ) -> None:
        super().__init__(model, model.model, tokenizer)
        self.frame_size = (model.config.frame_pixels, model.config.frame_pixels)
        self._normalized = PixelNormalization(mean, std)

    @property
    def clip_frames(self) -> int:
        """Frames that are encoded and merged together."""
        return int(self.model.config.mm_local_num_frames)

    @property
    def projectors(self) -> tuple[torch.nn.Module, ...]:
        """What merges and projects patches."""
        return (self.model.projector,)

    def token_grid(self, height: int, width: int) -> tuple[int, int]:
        """One row: merged tokens have no place in a frame."""
        return 1, FRAME_TOKENS

    # ---- prompts

    def introduced(self, text: str, *, seconds: float, frames: int) -> str:
        """The user's turn after the video, which begins with its length and the number of frames."""
        # source: released load_video and chat
        return f"The video lasts for {seconds:.2f} seconds, and {frames} frames are uniformly sampled from it. {text}"

    # ---- pixels to visual tokens

    def encode(self, pixels: np.ndarray, *, slice_cells: int) -> Tensor:
        """uint8 frames (F, height, width, 3) of whole clips -> features (16·F, D).

        Clips are encoded one by one: features cannot depend on `slice_cells`, and one clip fills a GPU. Raises
        ModelError for frames that are no whole clips, and where a feature is not finite.
        """
        size = self.clip_frames
        if len(pixels) % size or pixels.shape[1:3] != self.frame_size:
            raise ModelError(
                f"expected clips of {size} frames of {self.frame_size} pixels, got {len(pixels)} frames of "
                f"{pixels.shape[1:3]}"
            )
        features = [self.model.encode(self._clip(pixels[i : i + size]))[0] for i in range(0, len(pixels), size)]
        return check_finite(torch.cat(features), "features of the vision encoder")

    def _clip(self, pixels: np.ndarray) -> Tensor:
        """uint8 frames (F, height, width, 3) -> normalised (1, 3, F, height, width)."""
        return to_device(self._normalized(pixels).permute(3, 0, 1, 2)[None], self.device, self.model.dtype)

    def encode_flops(self, cells: int, grid: tuple[int, int]) -> int:
        """Operations of encoding `cells` cells, whole clips."""
        return cells // self.clip_frames * int(self.model.encode_flops(self.clip_frames))
