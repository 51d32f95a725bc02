"""Small random LLaVA-OneVision and LLaVA-Video checkpoints in the published layouts."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import torch
from transformers import LlavaOnevisionConfig, LlavaOnevisionForConditionalGeneration

from evalkit.model.families.llava_video_model import LlavaVideoConfig, LlavaVideoForCausalLM
from evalkit.tiny import tokenizer
from tests.support import published_widths, qwen_tokenizer

PIXELS, PATCH = 45, 6  # 7 × 7 patches, as odd as 27 × 27: 4 × 4 tokens bilinear, 3 × 3 averaged
TEXT = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32768,
}
VISION = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 2, "image_size": PIXELS}
# what the published config.json of LLaVA-Video has beside sizes; in transformers `llava` is the type of another model
PUBLISHED_VIDEO = {
    "architectures": ["LlavaQwenForCausalLM"],
    "image_aspect_ratio": "anyres_max_9",
    "mm_newline_position": "grid",
    "mm_patch_merge_type": "spatial_unpad",
    "mm_projector_type": "mlp2x_gelu",
    "mm_resampler_type": None,
    "mm_spatial_pool_mode": "bilinear",
    "mm_vision_select_feature": "patch",
    "mm_vision_select_layer": -2,
    "mm_vision_tower": "google/siglip-so400m-patch14-384",
    "model_type": "llava",
    "rope_scaling": None,
    "rope_theta": 1000000.0,
    "tie_word_embeddings": False,
    "transformers_version": "4.40.0.dev0",
    "use_mm_proj": True,
    "use_sliding_window": False,
}
# as both 7B checkpoints are published: Qwen2-7B, and SigLIP so400m at 384 pixels without the layers that are not run
TEXT_7B = {
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "max_position_embeddings": 32768,
    "max_window_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "sliding_window": 131072,
}
VISION_7B = {
    "hidden_size": 1152,
    "image_size": 384,
    "intermediate_size": 4304,
    "num_attention_heads": 16,
    "patch_size": 14,
}
GENERATION = {  # Qwen2's
    "bos_token_id": 151643,
    "do_sample": True,
    "eos_token_id": [151645, 151643],
    "pad_token_id": 151643,
    "repetition_penalty": 1.05,
    "temperature": 0.7,
    "top_k": 20,
    "top_p": 0.8,
}
PIXELS_7B: dict[str, Any] = {
    "do_convert_rgb": True,
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "image_mean": [0.5] * 3,
    "image_std": [0.5] * 3,
    "resample": 3,
    "size": {"height": 384, "width": 384},
}
# of llava-hf's checkpoint: parts of its names, as they stand in transformers 5 and as they are published
_PUBLISHED_NAMES = (
    (r"^model\.language_model\.", "language_model.model."),
    (r"^lm_head\.", "language_model.lm_head."),
    (r"^(model\.)?vision_tower\.(vision_model\.)?", "vision_tower.vision_model."),
    (r"^model\.", ""),
)


def _ids() -> dict[str, int]:
    built = tokenizer.build()
    return {"eos_token_id": built.convert_tokens_to_ids("<|im_end|>"), "vocab_size": -(-len(built) // 64) * 64}


def _randomised(model: Any) -> Any:
    """Large random weights, so that what is seen, and from where, shows in the logits."""
    for name, weight in model.named_parameters():
        torch.nn.init.normal_(weight, std=0.5 if "embed" in name or "newline" in name else 0.15)
        if "norm" in name and name.endswith("weight"):
            torch.nn.init.normal_(weight, mean=1.0, std=0.1)
    return model.eval()


def onevision_config(**changes: Any) -> LlavaOnevisionConfig:
    """The published settings at a tiny size."""
    built = tokenizer.build()
    return LlavaOnevisionConfig(
        text_config={"model_type": "qwen2", "rope_theta": 1e6, "tie_word_embeddings": False, **TEXT, **_ids()},
        vision_config={
            "model_type": "siglip_vision_model",
            "num_hidden_layers": 3,
            "patch_size": PATCH,
            "vision_use_head": False,
            **VISION,
        },
        image_token_index=built.convert_tokens_to_ids("<|image_pad|>"),
        video_token_index=built.convert_tokens_to_ids("<|video_pad|>"),
        **changes,
    )


def random_onevision(seed: int = 0, **changes: Any) -> LlavaOnevisionForConditionalGeneration:
    """transformers' own class with random weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _randomised(LlavaOnevisionForConditionalGeneration(onevision_config(**changes)))


def published_name(name: str) -> str:
    """A tensor's name in llava-hf's files: language_model.model.…, vision_tower.vision_model.…, image_newline."""
    return next((re.sub(now, then, name) for now, then in _PUBLISHED_NAMES if re.match(now, name)), name)


def onevision_published(folder: Path, *, layers: int, depth: int) -> Path:
    """The 7B checkpoint's widths and files: `layers` decoder layers, `depth` of the tower; random, in float16."""
    text = {"model_type": "qwen2", "rope_theta": 1e6, "tie_word_embeddings": False, "torch_dtype": "bfloat16"}
    text |= {"bos_token_id": 151643, "eos_token_id": 151645, "num_hidden_layers": layers, "vocab_size": 152000}
    vision = {"model_type": "siglip_vision_model", "num_hidden_layers": depth, "vision_use_head": False}
    qwen_tokenizer.save(folder, qwen_tokenizer.LLAVA_HF)
    settings = {
        "architectures": ["LlavaOnevisionForConditionalGeneration"],
        "model_type": "llava_onevision",
        "image_token_index": 151646,
        "projector_hidden_act": "gelu",
        "text_config": text | TEXT_7B,
        "tie_word_embeddings": False,
        "torch_dtype": "float16",
        "transformers_version": "4.45.0.dev0",
        "use_image_newline_parameter": True,
        "video_token_index": 151647,
        "vision_aspect_ratio": "anyres_max_9",
        "vision_config": vision | VISION_7B,
        "vision_feature_layer": -1,
        "vision_feature_select_strategy": "full",
    }
    generation = {"_from_model_config": True, "bos_token_id": 151643, "eos_token_id": 151645}
    frames = {"image_processor_type": "LlavaOnevisionVideoProcessor"}
    own = {"config": settings, "generation_config": generation, "video_preprocessor_config": PIXELS_7B | frames}
    own["preprocessor_config"] = PIXELS_7B | {"image_processor_type": "LlavaOnevisionImageProcessor", "do_pad": True}
    _write_files(folder, own)
    config = LlavaOnevisionConfig(**json.loads(json.dumps(settings)))
    return published_widths.write(
        folder,
        lambda: LlavaOnevisionForConditionalGeneration(config),
        named=published_name,
        dtype=torch.float16,
    )


def video_published(folder: Path, *, layers: int, depth: int) -> Path:
    """The 7B checkpoint's widths and files; random, in bfloat16."""
    qwen_tokenizer.save(folder, qwen_tokenizer.LLAVA)
    sizes = {"num_hidden_layers": layers, "vocab_size": 152064, "mm_hidden_size": 1152}
    ids = {"bos_token_id": 151643, "eos_token_id": 151645}
    settings = {**PUBLISHED_VIDEO, **TEXT_7B, **ids, **sizes, "torch_dtype": "bfloat16"}
    settings |= {"mm_vision_layers": depth + 1}  # not published: as many as the tower has
    processor = {"image_processor_type": "SiglipImageProcessor", "processor_class": "LlavaProcessor"}
    own = {"config": settings, "generation_config": GENERATION, "preprocessor_config": PIXELS_7B | processor}
    _write_files(folder, own)
    return published_widths.write(folder, lambda: LlavaVideoForCausalLM(native_config(settings)))


def _write_files(folder: Path, files: dict[str, Any]) -> None:
    for name, value in files.items():
        (folder / f"{name}.json").write_text(json.dumps(value), encoding="utf-8")


def native_config(settings: dict[str, Any]) -> LlavaVideoConfig:
    """What a config.json of LLaVA-Video says; its `model_type` is not our class's."""
    own: dict[str, Any] = json.loads(json.dumps(settings))
    return LlavaVideoConfig(**{key: value for key, value in own.items() if key != "model_type"})


def video_settings(**changes: Any) -> dict[str, Any]:
    """A config.json in the words of the published one."""
    sizes = {
        "mm_hidden_size": 32,
        "mm_vision_layers": 4,
        "mm_vision_heads": 2,
        "mm_vision_intermediate": 48,
        "mm_patch_pixels": PATCH,
        "mm_frame_pixels": PIXELS,
    }
    return {**PUBLISHED_VIDEO, **TEXT, **_ids(), **sizes, "torch_dtype": "float32", **changes}


def random_video(seed: int = 0, **changes: Any) -> LlavaVideoForCausalLM:
    """The native class with random weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _randomised(LlavaVideoForCausalLM(native_config(video_settings(**changes))))


def write(folder: Path, model: Any, settings: dict[str, Any] | None = None) -> Path:
    """A checkpoint's folder; `settings` in the place of the config.json that transformers writes."""
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    tokenizer.save(folder)
    normalised = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "size": {"height": PIXELS, "width": PIXELS}}
    (folder / "preprocessor_config.json").write_text(json.dumps(normalised))
    if settings is not None:
        (folder / "config.json").write_text(json.dumps(settings))
    return folder
