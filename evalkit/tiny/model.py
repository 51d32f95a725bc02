"""The small model: transformers' own Qwen2-VL classes with 2.3 million parameters."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evalkit.model.normalization import CLIP_MEAN, CLIP_STD
from evalkit.tiny import tokenizer

if TYPE_CHECKING:
    from transformers import Qwen2VLForConditionalGeneration

SIZE = 112  # pixels per side of a frame
GRID = 4  # visual tokens per side of a cell
WIDTH = 128
LAYERS = 8
RANDOM_LAYERS = 6  # of a checkpoint with random weights: enough for layers to differ
INIT = 0.06
EMBEDDING_STD = 0.5  # with 0.02 symbols are small against the residual stream, and training stays at chance


def random_checkpoint(folder: Path, seed: int, layers: int = RANDOM_LAYERS) -> Path:
    """Write a Qwen2-VL checkpoint folder with random weights from `seed`; the same bytes at every call."""
    save(random_model(seed, layers), folder)
    return folder


def random_model(seed: int, layers: int = LAYERS) -> Qwen2VLForConditionalGeneration:
    """A model with random weights from `seed`; the caller's random state stays as it was."""
    import torch
    from transformers import Qwen2VLForConditionalGeneration

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Qwen2VLForConditionalGeneration(_config(layers))
        torch.nn.init.normal_(model.get_input_embeddings().weight, std=EMBEDDING_STD)
        torch.nn.init.normal_(model.get_output_embeddings().weight, std=INIT)
    return model.eval()


def grown(model: Qwen2VLForConditionalGeneration, seed: int, layers: int) -> Qwen2VLForConditionalGeneration:
    """The model with `layers` decoder layers; new ones on top add nothing until they are trained."""
    import torch

    if layers == len(model.model.language_model.layers):
        return model
    before = len(model.model.language_model.layers)
    new = random_model(seed, layers)
    new.load_state_dict(model.state_dict(), strict=False)
    for layer in new.model.language_model.layers[before:]:
        torch.nn.init.zeros_(layer.self_attn.o_proj.weight)
        torch.nn.init.zeros_(layer.mlp.down_proj.weight)
    return new


def save(model: Qwen2VLForConditionalGeneration, folder: Path) -> None:
    """Write weights, config, tokenizer and preprocessor settings: everything that `from_pretrained` reads."""
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    tokenizer.save(folder)
    for name, kind in (("preprocessor_config.json", "image"), ("video_preprocessor_config.json", "video")):
        text = json.dumps(_pixels(kind), indent=2, sort_keys=True)
        (folder / name).write_text(text + "\n", encoding="utf-8")


def _config(layers: int) -> Any:
    from transformers import Qwen2VLConfig

    built = tokenizer.build()
    ids = {name: built.convert_tokens_to_ids(f"<|{name}|>") for name in ("im_start", "im_end", "endoftext")}
    text = {
        "vocab_size": -(-len(built) // 64) * 64,
        "hidden_size": WIDTH,
        "intermediate_size": 3 * WIDTH,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 32768,
        "initializer_range": INIT,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [8, 4, 4]},
        "bos_token_id": ids["im_start"],
        "eos_token_id": ids["im_end"],
        "pad_token_id": ids["endoftext"],
    }
    vision = {
        "depth": 2,
        "embed_dim": 96,
        "hidden_size": WIDTH,
        "mlp_ratio": 2,
        "num_heads": 4,
        "initializer_range": INIT,
    }
    roles = ("image_pad", "video_pad", "vision_start", "vision_end")
    image, video, start, end = (built.convert_tokens_to_ids(f"<|{name}|>") for name in roles)
    return Qwen2VLConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=image,
        video_token_id=video,
        vision_start_token_id=start,
        vision_end_token_id=end,
        initializer_range=INIT,
    )


def _pixels(kind: str) -> dict[str, Any]:
    """Preprocessor settings: frames of exactly 112×112, CLIP's normalisation, as Qwen2-VL has it."""
    return {
        f"{kind}_processor_type": f"Qwen2VL{kind.capitalize()}Processor",
        "image_mean": CLIP_MEAN,
        "image_std": CLIP_STD,
        "patch_size": 14,
        "temporal_patch_size": 2,
        "merge_size": 2,
        "size": {"shortest_edge": SIZE * SIZE, "longest_edge": SIZE * SIZE},
        "do_resize": True,
        "do_rescale": True,
        "do_normalize": True,
        "do_convert_rgb": True,
    }
