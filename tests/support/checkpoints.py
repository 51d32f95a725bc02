"""Checkpoints as they are published – flat config.json, shards with an index, sampling settings – at a tiny size."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
INDEX = "model.safetensors.index.json"
# what Qwen2.5-VL's published file says, with the tiny tokenizer's ids
GENERATION = {
    "bos_token_id": 931,
    "pad_token_id": 931,
    "do_sample": True,
    "eos_token_id": [933, 931],
    "repetition_penalty": 1.05,
    "temperature": 0.1,
    "top_p": 0.001,
    "top_k": 1,
}


def edit(folder: Path, name: str, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change a JSON file in place."""
    value = json.loads((folder / name).read_text()) if (folder / name).exists() else {}
    change(value)
    (folder / name).write_text(json.dumps(value))


def rewrite(folder: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> None:
    """Change the tensors of model.safetensors."""
    tensors = change(load_file(folder / "model.safetensors"))
    save_file(
        {k: w.contiguous().clone() for k, w in tensors.items()}, folder / "model.safetensors", metadata={"format": "pt"}
    )


def copied(checkpoint: Path, folder: Path) -> Path:
    return Path(shutil.copytree(checkpoint, folder))


def published(checkpoint: Path, folder: Path) -> Path:
    """The same weights in the layout of Qwen/Qwen2-VL-7B-Instruct."""
    copied(checkpoint, folder)
    edit(folder, "config.json", _flat)
    (folder / "generation_config.json").write_text(json.dumps(GENERATION))
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    where = {name: SHARDS[i >= len(names) // 2] for i, name in enumerate(names)}
    for shard in SHARDS:
        save_file({k: tensors[k] for k in names if where[k] == shard}, folder / shard, metadata={"format": "pt"})
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": where}))
    return folder


def _flat(config: dict[str, Any]) -> None:
    """Text settings beside vision_config, rotary settings in the words of transformers 4."""
    text = config.pop("text_config")
    rope = text.pop("rope_parameters")
    kept = {key: value for key, value in text.items() if key not in ("model_type", "dtype", "layer_types")}
    config |= kept | {"torch_dtype": "bfloat16", "rope_theta": rope["rope_theta"]}
    config["rope_scaling"] = {"type": "mrope", "mrope_section": rope["mrope_section"]}
    config["vision_config"].pop("model_type", None)
