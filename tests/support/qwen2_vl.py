"""Qwen2-VL-7B's and Qwen2.5-VL-7B's published files, with few layers and random bfloat16 weights; a tiny Qwen2.5-VL."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForImageTextToText, Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from evalkit.tiny import tokenizer
from tests.support import published_widths, qwen_tokenizer

# as Qwen/Qwen2-VL-7B-Instruct and Qwen/Qwen2.5-VL-7B-Instruct publish them: what both have
TEXT: dict[str, Any] = {
    "attention_dropout": 0.0,
    "bos_token_id": 151643,
    "eos_token_id": 151645,
    "hidden_act": "silu",
    "hidden_size": 3584,
    "image_token_id": 151655,
    "initializer_range": 0.02,
    "intermediate_size": 18944,
    "max_window_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "rms_norm_eps": 1e-6,
    "rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]},
    "rope_theta": 1000000.0,
    "sliding_window": 32768,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.41.2",
    "use_cache": True,
    "use_sliding_window": False,
    "video_token_id": 151656,
    "vision_end_token_id": 151653,
    "vision_start_token_id": 151652,
    "vision_token_id": 151654,
    "vocab_size": 152064,
}
# what each has of its own
QWEN2: dict[str, Any] = {
    "architectures": ["Qwen2VLForConditionalGeneration"],
    "model_type": "qwen2_vl",
    "max_position_embeddings": 32768,
    "vision_config": {
        "embed_dim": 1280,
        "mlp_ratio": 4,
        "num_heads": 16,
        "in_chans": 3,
        "hidden_size": 3584,
        "patch_size": 14,
        "spatial_merge_size": 2,
        "spatial_patch_size": 14,
        "temporal_patch_size": 2,
    },
}
QWEN2_5: dict[str, Any] = {
    "architectures": ["Qwen2_5_VLForConditionalGeneration"],
    "model_type": "qwen2_5_vl",
    "max_position_embeddings": 128000,
    "vision_config": {
        "hidden_act": "silu",
        "hidden_size": 1280,
        "intermediate_size": 3420,
        "num_heads": 16,
        "in_chans": 3,
        "out_hidden_size": 3584,
        "patch_size": 14,
        "spatial_merge_size": 2,
        "spatial_patch_size": 14,
        "window_size": 112,
        "tokens_per_second": 2,
        "temporal_patch_size": 2,
    },
}
GENERATION = {
    "bos_token_id": 151643,
    "do_sample": True,
    "eos_token_id": [151645, 151643],
    "pad_token_id": 151643,
    "repetition_penalty": 1.05,
    "temperature": 0.1,
    "top_k": 1,
    "top_p": 0.001,
}
PIXELS = {
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_processor_type": "Qwen2VLImageProcessor",
    "image_std": [0.26862954, 0.26130258, 0.27577711],
    "max_pixels": 12845056,
    "merge_size": 2,
    "min_pixels": 3136,
    "patch_size": 14,
    "temporal_patch_size": 2,
}


def published(folder: Path, own: dict[str, Any], *, layers: int, depth: int) -> Path:
    """The files of QWEN2 or QWEN2_5 with `layers` decoder layers and `depth` vision blocks.

    Of Qwen2.5-VL's blocks the last one attends to the whole cell, the others within windows.
    """
    qwen_tokenizer.save(folder, qwen_tokenizer.QWEN2_VL)
    vision = own["vision_config"] | {"depth": depth}
    if "window_size" in vision:
        vision["fullatt_block_indexes"] = [depth - 1]
    settings = TEXT | own | {"num_hidden_layers": layers, "vision_config": vision}
    processor = {"processor_class": "Qwen2VLProcessor" if own is QWEN2 else "Qwen2_5_VLProcessor"}
    for name, value in (
        ("config", settings),
        ("generation_config", GENERATION),
        ("preprocessor_config", PIXELS | processor),
    ):
        (folder / f"{name}.json").write_text(json.dumps(value), encoding="utf-8")
    config = AutoConfig.from_pretrained(folder)
    return published_widths.write(
        folder, lambda: AutoModelForImageTextToText.from_config(config), named=_published_name
    )


def _published_name(name: str) -> str:
    """visual.… and model.…, as the files of transformers 4 have them."""
    return re.sub(r"^model\.visual\.", "visual.", re.sub(r"^model\.language_model\.", "model.", name))


def tiny_2_5(folder: Path, layers: int = 6) -> Path:
    """A Qwen2.5-VL that can be asked: `layers` of width 64, a windowed vision block and one over whole cells."""
    built = tokenizer.build()
    vocab = built.get_vocab()
    text = {
        "vocab_size": -(-len(built) // 64) * 64,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 4096,
        "initializer_range": 0.1,
        "eos_token_id": vocab["<|im_end|>"],
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [4, 2, 2]},
    }
    vision = {
        "depth": 2,
        "hidden_size": 32,
        "out_hidden_size": 64,
        "intermediate_size": 48,
        "num_heads": 2,
        "window_size": 56,
        "fullatt_block_indexes": [1],
        "tokens_per_second": 2,
        "initializer_range": 0.1,
    }
    ids = qwen_tokenizer.vision_ids(vocab)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = Qwen2_5_VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=False, **ids)
        model = Qwen2_5_VLForConditionalGeneration(config)
    model.eval().save_pretrained(folder)
    built.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(PIXELS), encoding="utf-8")
    return folder
