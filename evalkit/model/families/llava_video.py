"""LLaVA-Video (arXiv 2410.02713): 13 × 13 tokens a frame, and a newline behind every row of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from evalkit.errors import ConfigError
from evalkit.model import separators
from evalkit.model.checkpoint import read_json
from evalkit.model.families.llava import Llava
from evalkit.model.families.llava_video_model import LlavaVideoConfig, LlavaVideoForCausalLM
from evalkit.model.siglip_tower import SiglipTower, average

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evalkit.model.checkpoint import Checkpoint
    from evalkit.model.separators import Separators
    from evalkit.types import VisualTokens


class LlavaVideo(Llava):
    """A checkpoint in the layout of lmms-lab/LLaVA-Video-7B-Qwen2.

    Pooling is the average of 2 × 2 patches whatever config.json says, as every evaluation that we know of sets it
    (source: lmms-eval's llava_vid). The sentence about the video's length that training put before a question is not
    added, as lmms-eval's default has it.
    """

    config_class = LlavaVideoConfig
    model_class = LlavaVideoForCausalLM
    own_code = True
    released_backbone = "llava_video_7b"
    parts = ("", "vision_config")  # the language model's settings are the checkpoint's; the vision side has no section

    @classmethod
    def of(cls, model: Any, tokenizer: Any, *, mean: Sequence[float], std: Sequence[float]) -> LlavaVideo:
        """Around a loaded model; mean and deviation of pixel values in [0, 1]."""
        depth = model.config.vision_depth
        tower = SiglipTower(model.vision, model.model.mm_projector, depth, average, mean, std)
        return cls(model, model.model, tokenizer, tower)

    @classmethod
    def read_config(cls, found: Checkpoint) -> Any:
        """The checkpoint's configuration. ConfigError for another model of LLaVA-Video's `model_type`."""
        settings = read_json(found, "config.json") or {}
        newlines = settings.get("mm_newline_position")
        if newlines != "grid":
            raise ConfigError(
                f"backbone.path={found.name}: expected mm_newline_position grid in config.json, got {newlines!r}: of "
                "the models of this model_type LLaVA-Video is supported; for LLaVA-OneVision take a checkpoint of "
                "llava-hf"
            )
        # not by from_pretrained, which warns of the published model_type: in transformers `llava` is another model
        return cls.config_class.from_dict({**settings, "model_type": cls.config_class.model_type})

    def separators(self, tokens: VisualTokens) -> Separators | None:
        """A newline behind every row that has a token left."""
        return separators.newlines(tokens, self.model.model.image_newline)
