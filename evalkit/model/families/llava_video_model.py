"""LLaVA-Video (arXiv 2410.02713) as a transformers model: SigLIP and a projector inside transformers' Qwen2.

Tensors have the names of the published checkpoints (lmms-lab/LLaVA-Video-7B-Qwen2), so that none is renamed. The code
that reads those checkpoints elsewhere is not run.
"""

from __future__ import annotations

import torch
from torch import nn
from transformers import Qwen2Config, Qwen2ForCausalLM, SiglipVisionConfig, SiglipVisionModel

from evalkit.model.families.native_config import expect


class LlavaVideoConfig(Qwen2Config):  # type: ignore[misc]
    """Settings of the language model, with those of the vision side beside them; the last five are not published.

    Raises ValueError for a vision side that is built otherwise.
    """

    model_type = "llava_qwen"

    mm_vision_tower: str = "google/siglip-so400m-patch14-384"
    mm_hidden_size: int = 1152
    mm_vision_select_layer: int = -2  # the layer whose output is used, from the end
    mm_projector_type: str = "mlp2x_gelu"
    mm_newline_position: str = "grid"
    mm_vision_layers: int = 27  # those included that are not run
    mm_vision_heads: int = 16
    mm_vision_intermediate: int = 4304
    mm_patch_pixels: int = 14  # per side
    mm_frame_pixels: int = 384  # per side

    def __post_init__(self, **kwargs: object) -> None:
        super().__post_init__(**kwargs)
        expect(
            self,
            {"mm_vision_tower": ("google/siglip-so400m-patch14-384",), "mm_projector_type": ("mlp2x_gelu",)},
        )

    @property
    def vision_depth(self) -> int:
        """Layers of the vision tower that are run, which are those that checkpoints hold."""
        return self.mm_vision_layers + self.mm_vision_select_layer + 1

    def siglip(self) -> SiglipVisionConfig:
        """Settings of the vision tower, without its pooling head."""
        return SiglipVisionConfig(
            hidden_size=self.mm_hidden_size,
            intermediate_size=self.mm_vision_intermediate,
            num_hidden_layers=self.vision_depth,
            num_attention_heads=self.mm_vision_heads,
            image_size=self.mm_frame_pixels,
            patch_size=self.mm_patch_pixels,
            vision_use_head=False,
            attn_implementation="sdpa",
        )


class LlavaVideoForCausalLM(Qwen2ForCausalLM):  # type: ignore[misc]
    """Qwen2 with the vision side inside its `model`, where the published names have it; `forward` is Qwen2's own."""

    config: LlavaVideoConfig
    config_class = LlavaVideoConfig

    def __init__(self, config: LlavaVideoConfig) -> None:
        super().__init__(config)
        width = config.hidden_size
        tower = SiglipVisionModel(config.siglip())
        self.model.vision_tower = nn.ModuleDict({"vision_tower": nn.ModuleDict({"vision_model": tower})})
        self.model.mm_projector = nn.Sequential(
            nn.Linear(config.mm_hidden_size, width), nn.GELU(), nn.Linear(width, width)
        )
        self.model.image_newline = nn.Parameter(torch.zeros(width))
        self.post_init()

    @property
    def vision(self) -> SiglipVisionModel:
        """The vision tower."""
        return self.model.vision_tower["vision_tower"]["vision_model"]
