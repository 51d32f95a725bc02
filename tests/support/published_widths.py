"""Checkpoints of published widths with few layers: random half-precision weights in shards, made in a second or two."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BLOBS = "blobs"  # the folder with what the shards are links to
_SHARD_BYTES = 600 * 10**6  # a larger tensor has a shard of its own
_SCALE = 0.02
_PERIOD = 1_000_003  # a prime, so that rows of a matrix differ
_VOCABULARY, _ENDS = 100_000, 1024  # rows of a matrix that is one of a vocabulary, and how many at each end are random
_DTYPES = {torch.bfloat16: "BF16", torch.float16: "F16"}


def write(
    folder: Path,
    model: Callable[[], torch.nn.Module],
    *,
    named: Callable[[str], str | None] = str,
    dtype: torch.dtype = torch.bfloat16,
) -> Path:
    """Random weights for the tensors of what `model` makes, in shards with an index.

    `named`: the published name of a tensor, from the one in the model; None: the files have none. Values repeat after
    a million. Of a matrix with a row for each token the first and last thousand rows are random, which are those of the
    words and of the special tokens; the others are zero and holes of the file: writing a vocabulary of 152,000 whole
    would cost more than the rest of a test. The shards are links to files called by a hash, as in the hub's cache,
    whose gigabytes nobody reads to know them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with torch.device("meta"):
        own = {key: tensor.shape for key, tensor in model().state_dict().items()}
    shapes = {name: shape for key, shape in own.items() if (name := named(key)) is not None}
    values = torch.empty(_PERIOD).normal_(std=_SCALE, generator=torch.Generator().manual_seed(0))
    shards = _shards({key: shape.numel() * dtype.itemsize for key, shape in shapes.items()})
    names = [f"model-{place:05}-of-{len(shards):05}.safetensors" for place in range(1, len(shards) + 1)]
    (folder / BLOBS).mkdir()
    for name, keys in zip(names, shards, strict=True):
        blob = folder / BLOBS / hashlib.sha256(name.encode()).hexdigest()
        _save(blob, {key: shapes[key] for key in keys}, values, dtype)
        (folder / name).symlink_to(blob)
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


def _save(file: Path, shapes: dict[str, torch.Size], values: torch.Tensor, dtype: torch.dtype) -> None:
    """A safetensors file; what is not written is zero."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    starts, end = [], 0
    for name, shape in shapes.items():
        starts.append(end)
        end += shape.numel() * dtype.itemsize
        header[name] = {"dtype": _DTYPES[dtype], "shape": [*shape], "data_offsets": [starts[-1], end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    weights, scales = (x.to(dtype).view(torch.int16).numpy().tobytes() for x in (values, values + 1.0))
    with file.open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        data = stream.tell()
        for start, (name, shape) in zip(starts, shapes.items(), strict=True):
            for offset, size in _random_parts(shape, dtype.itemsize):
                stream.seek(data + start + offset)
                _repeated(stream, scales if "norm" in name and name.endswith("weight") else weights, size)
        stream.truncate(data + end)


def _random_parts(shape: torch.Size, itemsize: int) -> Iterator[tuple[int, int]]:
    """Where in a tensor's bytes random ones are, and how many."""
    whole = shape.numel() * itemsize
    if len(shape) == 2 and shape[0] > _VOCABULARY:
        ends = _ENDS * shape[1] * itemsize
        yield from ((0, ends), (whole - ends, ends))
    else:
        yield 0, whole


def _repeated(stream: BinaryIO, period: bytes, size: int) -> None:
    for _ in range(size // len(period)):
        stream.write(period)
    stream.write(period[: size % len(period)])
