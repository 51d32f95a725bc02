"""Checkpoints of published widths with few layers: random bfloat16 weights in shards, made in seconds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import save_file

if TYPE_CHECKING:
    from collections.abc import Callable

_SHARD_BYTES = 600 * 10**6  # a larger tensor has a shard of its own
_SCALE = 0.02
_PERIOD = 1_000_003  # a prime, so that rows of a matrix differ


def write(
    folder: Path,
    model: Callable[[], torch.nn.Module],
    *,
    named: Callable[[str], str | None] = str,
    dtype: torch.dtype = torch.bfloat16,
) -> Path:
    """Random weights for the tensors of what `model` makes, in shards with an index.

    `named`: the published name of a tensor, from the one in the model; None: the files have none. Values repeat after
    a million: so many random numbers as a vocabulary of 152,000 takes would cost more than the rest of a test.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with torch.device("meta"):
        own = {key: tensor.shape for key, tensor in model().state_dict().items()}
    shapes = {name: shape for key, shape in own.items() if (name := named(key)) is not None}
    values = torch.empty(_PERIOD).normal_(std=_SCALE, generator=torch.Generator().manual_seed(0)).to(dtype)
    shards = _shards({key: shape.numel() * dtype.itemsize for key, shape in shapes.items()})
    names = [f"model-{place:05}-of-{len(shards):05}.safetensors" for place in range(1, len(shards) + 1)]
    for name, keys in zip(names, shards, strict=True):
        tensors = {key: _filled(shapes[key], values, around=float(_is_scale(key))) for key in keys}
        save_file(tensors, folder / name, metadata={"format": "pt"})
    where = {key: name for name, keys in zip(names, shards, strict=True) for key in keys}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))
    return folder


def untied(name: str) -> str | None:
    """The name of a tensor where the output layer is the embedding, and no tensor of its own."""
    return None if name == "lm_head.weight" else name


def _shards(sizes: dict[str, int]) -> list[list[str]]:
    """Names in their order, cut before a shard grows over its limit."""
    shards: list[list[str]] = [[]]
    for key in sizes:
        if shards[-1] and sum(sizes[name] for name in [*shards[-1], key]) > _SHARD_BYTES:
            shards.append([])
        shards[-1].append(key)
    return shards


def _is_scale(key: str) -> bool:
    return "norm" in key and key.endswith("weight")


def _filled(shape: torch.Size, values: torch.Tensor, *, around: float) -> torch.Tensor:
    found = values.repeat(-(-shape.numel() // len(values)))[: shape.numel()].view(shape)
    return found + around if around else found
