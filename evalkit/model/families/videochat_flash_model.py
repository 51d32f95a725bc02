"""VideoChat-Flash (arXiv 2501.00574) as a transformers model: UMT, merged tokens, a projector, and transformers' Qwen2.

Tensors have the names of the published checkpoints (OpenGVLab/VideoChat-Flash-*, and what XComp's training leaves), so
that none is renamed. None of the code that comes with those checkpoints is run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn
from transformers import Qwen2Config, Qwen2ForCausalLM

from evalkit.model.families import videochat_flash_tome as tome
from evalkit.model.families.native_config import expect
from evalkit.model.families.videochat_flash_vision import PATCH, UMT

if TYPE_CHECKING:
    from torch import Tensor

FRAME_TOKENS = 16  # of a frame after merging
SIZES = {"umt-large": 224, "umt-hd-large": 448}  # pixels per side of a frame, by `mm_vision_tower`


class VideoChatFlashConfig(Qwen2Config):  # type: ignore[misc]
    """Settings of the language model, with those of the vision side beside them; the last three are not published.

    Raises ValueError for a vision side that is built otherwise.
    """

    model_type = "videochat_flash_qwen"

    mm_vision_tower: str = "umt-hd-large"
    mm_hidden_size: int = 1024
    mm_vision_select_layer: int = -2  # the block whose output is used, from the end
    mm_projector_type: str = "tome16_mlp_hd64"
    mm_local_num_frames: int = 4  # frames of a clip; XComp's training: 8
    mm_newline_position: str = "nothing"
    mm_llm_compress: bool = False
    mm_vision_layers: int = 24  # blocks, those included that are not run
    mm_vision_heads: int = 16
    mm_frame_pixels: int | None = None  # per side; None: by `mm_vision_tower`

    def __post_init__(self, **kwargs: object) -> None:
        super().__post_init__(**kwargs)
        expect(
            self,
            {
                "mm_vision_tower": (*SIZES,),
                "mm_projector_type": ("tome16_mlp_hd64",),
                "mm_newline_position": ("nothing",),
                "mm_llm_compress": (False,),  # dropping tokens in the language model is a method's work
            },
        )

    @property
    def frame_pixels(self) -> int:
        """Pixels per side of a frame."""
        return self.mm_frame_pixels or SIZES[self.mm_vision_tower]

    @property
    def vision_depth(self) -> int:
        """Blocks of the vision tower that are run, which are those that checkpoints hold."""
        return self.mm_vision_layers + self.mm_vision_select_layer + 1


class MergingProjector(nn.Module):
    """Patches of a clip, merged to 16 tokens a frame, and two layers to the width of the language model."""

    def __init__(self, width: int, heads: int, out: int) -> None:
        super().__init__()
        self.width, self.heads, self.out = width, heads, out
        self.mlp = nn.Sequential(nn.Linear(width, out), nn.GELU(), nn.Linear(out, out))

    def forward(self, patches: Tensor, frames: int) -> Tensor:
        """Patches (B, N, C) of clips of `frames` frames -> tokens (B, 16·F, D)."""
        tokens: Tensor = self.mlp(tome.merge(patches, self.heads, FRAME_TOKENS * frames))
        return tokens

    def flops(self, frames: int, side: int) -> int:
        """Operations of one clip of frames of `side` × `side` patches."""
        tokens = FRAME_TOKENS * frames
        compared = tome.flops(frames * side**2, tokens, self.width // self.heads)
        return compared + 2 * tokens * self.out * (self.width + self.out)


class VideoChatFlashForCausalLM(Qwen2ForCausalLM):  # type: ignore[misc]
    """Qwen2 with the vision side inside its `model`, where the published names have it; `forward` is Qwen2's own."""

    config: VideoChatFlashConfig
    config_class = VideoChatFlashConfig

    def __init__(self, config: VideoChatFlashConfig) -> None:
        super().__init__(config)
        width, heads = config.mm_hidden_size, config.mm_vision_heads
        encoder = nn.ModuleDict({"encoder": UMT(width, config.vision_depth, heads)})
        self.model.vision_tower = nn.ModuleDict({"vision_tower": encoder})
        self.model.mm_projector = MergingProjector(width, heads, config.hidden_size)
        self.post_init()

    @property
    def vision(self) -> UMT:
        """The vision tower."""
        found: UMT = self.model.vision_tower["vision_tower"]["encoder"]
        return found

    @property
    def projector(self) -> MergingProjector:
        """What merges and projects its features."""
        found: MergingProjector = self.model.mm_projector
        return found

    def encode(self, pixels: Tensor) -> Tensor:
        """Normalised pixels (B, 3, F, height, width) of whole clips -> visual tokens (B, 16·F, D)."""
        tokens: Tensor = self.projector(self.vision(pixels), pixels.shape[2])
        return tokens

    def encode_flops(self, frames: int) -> int:
        """Operations of `encode` on one clip of `frames` frames."""
        side = self.config.frame_pixels // PATCH
        return self.vision.flops(frames, side) + self.projector.flops(frames, side)
