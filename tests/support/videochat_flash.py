"""A small random VideoChat-Flash checkpoint with the published names: tensors, config.json as on the hub, tokenizer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from evalkit.model.families.videochat_flash_model import VideoChatFlashConfig, VideoChatFlashForCausalLM
from evalkit.tiny import tokenizer
from tests.support import published_widths, qwen_tokenizer

PIXELS = 96  # per side of a frame: 6 × 6 patches, which merging takes to 16
SIZES = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32768,
    "mm_hidden_size": 32,
    "mm_vision_layers": 3,
    "mm_vision_heads": 2,
    "mm_frame_pixels": PIXELS,
}
# what the published file has beside sizes
PUBLISHED = {
    "architectures": ["VideoChatFlashQwenForCausalLM"],
    "auto_map": {
        "AutoConfig": "modeling_videochat_flash.VideoChatFlashQwenConfig",
        "AutoModel": "modeling_videochat_flash.VideoChatFlashQwenForCausalLM",
    },
    "model_type": "videochat_flash_qwen",
    "image_aspect_ratio": "anyres_nopad",
    "llm_compress_layer_list": [24],
    "llm_compress_type": "attention",
    "llm_image_token_ratio_list": [1.0, 0.5],
    "mm_llm_compress": False,
    "mm_newline_position": "nothing",
    "mm_patch_merge_type": "spatial_nopad",
    "mm_pos_num_frames": 8,
    "mm_projector_type": "tome16_mlp_hd64",
    "mm_vision_select_layer": -2,
    "mm_vision_tower": "umt-hd-large",
    "rope_scaling": None,
    "rope_theta": 1000000.0,
    "sliding_window": 131072,
    "tie_word_embeddings": True,
    "transformers_version": "4.40.1",
    "use_sliding_window": False,
    "vision_encode_type": "video_image",
}


def settings(**changes: Any) -> dict[str, Any]:
    """A config.json in the words of the published one."""
    built = tokenizer.build()
    ids = {"eos_token_id": built.convert_tokens_to_ids("<|im_end|>"), "vocab_size": -(-len(built) // 64) * 64}
    return {**PUBLISHED, **SIZES, **ids, "mm_local_num_frames": 4, "torch_dtype": "float32", **changes}


def random_model(seed: int = 0, **changes: Any) -> VideoChatFlashForCausalLM:
    """Large random weights, so that what is seen, and from where, shows in the logits."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = VideoChatFlashConfig(**settings(**changes), initializer_range=0.15)
        model = VideoChatFlashForCausalLM(config)
        for name, weight in model.named_parameters():
            if name.endswith("bias"):
                torch.nn.init.normal_(weight, std=0.1)
        torch.nn.init.normal_(model.model.embed_tokens.weight, std=0.5)
    return model.eval()


def published(folder: Path, *, layers: int, depth: int) -> Path:
    """The 2B checkpoint's widths, frame size and files; `layers` decoder layers, `depth` blocks run, in bfloat16."""
    sizes = {"hidden_size": 1536, "intermediate_size": 8960, "num_attention_heads": 12, "vocab_size": 151936}
    sizes |= {"num_hidden_layers": layers, "mm_hidden_size": 1024, "mm_vision_layers": depth + 1}
    own = settings(**sizes, mm_vision_heads=16, mm_frame_pixels=None, torch_dtype="bfloat16")
    ids = qwen_tokenizer.QWEN2
    qwen_tokenizer.save(folder, ids)
    own |= {"bos_token_id": ids["<|endoftext|>"], "eos_token_id": ids["<|im_end|>"]}
    (folder / "config.json").write_text(json.dumps(own))
    config = VideoChatFlashConfig(**json.loads(json.dumps(own)))
    return published_widths.write(folder, lambda: VideoChatFlashForCausalLM(config), named=published_widths.untied)


def random_checkpoint(folder: Path, seed: int = 0, **changes: Any) -> Path:
    """Write the checkpoint's folder."""
    folder.mkdir(parents=True, exist_ok=True)
    random_model(seed, **changes).save_pretrained(folder)
    tokenizer.save(folder)
    (folder / "config.json").write_text(json.dumps(settings(**changes)))
    return folder
