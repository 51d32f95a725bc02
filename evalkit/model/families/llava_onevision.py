"""LLaVA-OneVision (arXiv 2408.03326) through transformers' class: 196 tokens a frame, one newline after the video."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from evalkit.errors import ConfigError
from evalkit.model import separators
from evalkit.model.families.llava import Llava
from evalkit.model.siglip_tower import SiglipTower, bilinear

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evalkit.model.separators import Separators
    from evalkit.types import VisualTokens


class LlavaOnevision(Llava):
    """A checkpoint in the layout of llava-hf/llava-onevision-qwen2-7b-ov-hf."""

    released_backbone = "llava_onevision_7b"
    keeps_order = True  # the released order of methods decides ids; there are no newlines between rows

    @classmethod
    def of(cls, model: Any, tokenizer: Any, *, mean: Sequence[float], std: Sequence[float]) -> LlavaOnevision:
        """Around a loaded model; mean and deviation of pixel values in [0, 1].

        Raises ConfigError for a vision side that is read otherwise.
        """
        inner = model.model
        depth = _depth(model.config)
        tower = SiglipTower(inner.vision_tower, inner.multi_modal_projector, depth, bilinear, mean, std)
        return cls(model, inner.language_model, tokenizer, tower)

    def separators(self, tokens: VisualTokens) -> Separators | None:
        """One newline behind the whole video; it stays whatever is dropped."""
        return separators.ending(tokens, self.model.model.image_newline)


def _depth(config: Any) -> int:
    """Layers of the vision tower that are run: a feature is the output of the last of them."""
    layer, vision = config.vision_feature_layer, config.vision_config
    plain = isinstance(layer, int) and -vision.num_hidden_layers - 1 <= layer <= vision.num_hidden_layers
    if not plain or config.vision_feature_select_strategy != "full" or vision.model_type != "siglip_vision_model":
        raise ConfigError(
            "expected a SigLIP tower with all patches (vision_feature_select_strategy full) of one layer "
            f"(vision_feature_layer) in config.json, got {vision.model_type}, "
            f"{config.vision_feature_select_strategy} and {layer}"
        )
    return int(layer) if layer >= 0 else int(vision.num_hidden_layers) + 1 + int(layer)
