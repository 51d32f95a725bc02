"""Random Qwen3-VL checkpoints: a tiny one, and one of the published widths with few layers, in shards."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerFast, Qwen3VLConfig, Qwen3VLForConditionalGeneration

from evalkit.tiny import tokenizer
from tests.support import published_widths, qwen_tokenizer

# as Qwen/Qwen3-VL-4B-Instruct publishes them
TEXT_4B: dict[str, Any] = {
    "attention_bias": False,
    "attention_dropout": 0.0,
    "head_dim": 128,
    "hidden_act": "silu",
    "hidden_size": 2560,
    "initializer_range": 0.02,
    "intermediate_size": 9728,
    "max_position_embeddings": 262144,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "rms_norm_eps": 1e-6,
    "rope_scaling": {"mrope_interleaved": True, "mrope_section": [24, 20, 20], "rope_type": "default"},
    "rope_theta": 5000000,
    "tie_word_embeddings": True,
    "vocab_size": 151936,
}
VISION_4B: dict[str, Any] = {
    "hidden_act": "gelu_pytorch_tanh",
    "hidden_size": 1024,
    "in_channels": 3,
    "initializer_range": 0.02,
    "intermediate_size": 4096,
    "num_heads": 16,
    "num_position_embeddings": 2304,
    "out_hidden_size": 2560,
    "patch_size": 16,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
}
GENERATION = {
    "do_sample": True,
    "top_k": 20,
    "top_p": 0.8,
    "repetition_penalty": 1.0,
    "temperature": 0.7,
}
PIXELS = {
    "do_resize": True,
    "do_rescale": True,
    "do_normalize": True,
    "do_convert_rgb": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
    "merge_size": 2,
    "patch_size": 16,
    "temporal_patch_size": 2,
    "size": {"shortest_edge": 4096, "longest_edge": 25165824},
}
# no system turn of its own, unlike Qwen2-VL's
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'video' %}<|vision_start|><|video_pad|><|vision_end|>"
    "{% elif 'text' in part %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def tiny(folder: Path, layers: int = 6) -> Path:
    """Layers of width 64, three levels of deepstack features, heads wider than width / heads."""
    text = {
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 24,
        "max_position_embeddings": 4096,
        "initializer_range": 0.1,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [4, 4, 4]},
    }
    vision = {
        "depth": 4,
        "hidden_size": 32,
        "out_hidden_size": 64,
        "intermediate_size": 48,
        "num_heads": 2,
        "num_position_embeddings": 36,
        "deepstack_visual_indexes": [0, 1, 2],
        "initializer_range": 0.1,
    }
    built = _tokenizer()
    text["vocab_size"] = -(-len(built) // 64) * 64
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Qwen3VLForConditionalGeneration(_config(built.get_vocab(), text, vision, tie_word_embeddings=False))
        for name, weight in model.named_parameters():  # norms of Qwen3 start as the identity, and would hide a mistake
            if name.endswith("norm.weight") or ".norm" in name:
                weight.data.add_(torch.randn_like(weight), alpha=0.2)
    model.eval().save_pretrained(folder)
    built.save_pretrained(folder)
    _write_settings(built.get_vocab(), folder)
    return folder


def published(folder: Path, *, layers: int, depth: int) -> Path:
    """The 4B checkpoint's widths and files with `layers` decoder layers and `depth` blocks; random bfloat16 weights."""
    qwen_tokenizer.save(folder, qwen_tokenizer.QWEN2_VL, chat_template=CHAT_TEMPLATE)
    vision = VISION_4B | {"depth": depth, "deepstack_visual_indexes": [*range(min(3, depth))]}
    ids = qwen_tokenizer.QWEN2_VL
    config = _config(ids, TEXT_4B | {"num_hidden_layers": layers}, vision, tie_word_embeddings=True)
    config.save_pretrained(folder)
    flat = json.loads((folder / "config.json").read_text())
    rope = flat["text_config"].pop("rope_parameters")
    flat["text_config"] |= {"rope_theta": rope.pop("rope_theta"), "rope_scaling": rope}  # as transformers 4 wrote it
    (folder / "config.json").write_text(json.dumps(flat))
    _write_settings(ids, folder)
    return published_widths.write(
        folder, lambda: Qwen3VLForConditionalGeneration(config), named=published_widths.untied
    )


def _tokenizer() -> PreTrainedTokenizerFast:
    built = tokenizer.build()
    built.chat_template = CHAT_TEMPLATE
    return built


def _config(vocab: dict[str, int], text: dict[str, Any], vision: dict[str, Any], **more: Any) -> Qwen3VLConfig:
    ids = qwen_tokenizer.vision_ids(vocab)
    return Qwen3VLConfig(text_config=text | {"eos_token_id": vocab["<|im_end|>"]}, vision_config=vision, **ids, **more)


def _write_settings(vocab: dict[str, int], folder: Path) -> None:
    ends = [vocab[token] for token in ("<|im_end|>", "<|endoftext|>")]
    generation = GENERATION | {"eos_token_id": ends, "pad_token_id": ends[1]}
    (folder / "generation_config.json").write_text(json.dumps(generation))
    kinds = {"preprocessor_config": {"image_processor_type": "Qwen2VLImageProcessorFast"}}
    kinds["video_preprocessor_config"] = {"video_processor_type": "Qwen3VLVideoProcessor"}
    for name, kind in kinds.items():
        (folder / f"{name}.json").write_text(json.dumps(PIXELS | kind))
