"""Load a checkpoint folder or hub id. Safetensors only; nothing of the checkpoint's own code is run."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from evalkit.errors import ConfigError
from evalkit.model import adapter as tuned
from evalkit.model import attention
from evalkit.model.families.qwen2_vl import CLIP_MEAN, CLIP_STD, FAMILIES, Qwen2VL

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
ROPES = {"none": None, "yarn4": 4.0}
WHOLE_FILE_BYTES = 256 * 2**20  # larger weight files are identified by samples of their bytes
SAMPLES = 64


def pick_device(name: str) -> torch.device:
    """`auto` is CUDA where present, else the CPU. ConfigError for a device that is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if not re.fullmatch(r"cpu|cuda(:\d+)?", str(name)):
        raise ConfigError(f"backbone.device: expected auto, cpu, cuda or cuda:N, got {name!r}")
    device, found = torch.device(name), torch.cuda.device_count()
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"backbone.device={name}, but torch {torch.__version__} sees no CUDA device; use auto or cpu")
    if device.type == "cuda" and (device.index or 0) >= found:
        raise ConfigError(
            f"backbone.device={name}, but torch sees {found} CUDA devices: expected cuda:0 to cuda:{found - 1}"
        )
    return device


def load(
    path: str,
    *,
    dtype: str = "float32",
    device: str = "auto",
    rope: str = "none",
    threads: int | None = None,
    adapter: str | None = None,
) -> Qwen2VL:
    """Load a Qwen2-VL or Qwen2.5-VL checkpoint.

    `rope`: `none` leaves the rotary embedding as it is in the checkpoint; `yarn4` really applies YaRN by 4, which
    ReTaKe's released configurations name without effect. `threads`: of torch on the CPU, for this process. `adapter`: a
    folder of tuned weights (evalkit.model.adapter) that change the checkpoint's.

    Raises ConfigError for a folder that is missing or incomplete, another family, an unknown dtype or rope, or an
    adapter that does not fit.
    """
    from transformers import AutoModelForImageTextToText

    config = _stretched(_config(path, dtype), rope)
    if threads is not None:
        torch.set_num_threads(threads)
    with _explained(path), _quiet():
        model = AutoModelForImageTextToText.from_pretrained(
            path,
            config=config,
            dtype=DTYPES[dtype],
            use_safetensors=True,
            attn_implementation={"text_config": attention.register(), "vision_config": "sdpa"},
        )
        tokenizer = _tokenizer(path)
    if adapter is not None:
        model = tuned.apply(model, adapter, weights_identity(path))
    mean, std = _normalisation(path)
    return FAMILIES[config.model_type](model.to(pick_device(device)).eval(), tokenizer, mean=mean, std=std)


def _stretched(config: Any, rope: str) -> Any:
    """The configuration with YaRN's parameters (arXiv 2309.00071) where asked for."""
    if rope not in ROPES:
        raise ConfigError(f"expected backbone.rope to be one of {sorted(ROPES)}, got {rope!r}")
    if ROPES[rope] is not None:
        text = config.text_config
        original = text.max_position_embeddings
        scaling = {"rope_type": "yarn", "factor": ROPES[rope], "original_max_position_embeddings": original}
        text.rope_parameters = {**text.rope_parameters, **scaling}
    return config


def skeleton(path: str, *, dtype: str = "float32") -> Qwen2VL:
    """The model's shape without its weights: sizes can be read off, nothing can be computed."""
    from transformers import AutoModelForImageTextToText

    config = _config(path, dtype)
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(config, dtype=DTYPES[dtype])
    return FAMILIES[config.model_type](model, None)


def _config(path: str, dtype: str) -> Any:
    from transformers import AutoConfig

    if dtype not in DTYPES:
        raise ConfigError(f"expected backbone.dtype to be one of {sorted(DTYPES)}, got {dtype!r}")
    with _explained(path):
        config = AutoConfig.from_pretrained(path)
    if config.model_type not in FAMILIES:
        raise ConfigError(f"{path}: expected a checkpoint of {sorted(FAMILIES)}, got model_type {config.model_type!r}")
    return config


@contextmanager
def _explained(path: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"backbone.path={path}: expected a checkpoint folder (config.json, *.safetensors, tokenizer.json) or a hub "
            f"id that can be reached; {type(error).__name__}: {error}"
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """No progress bar for loading: the run has one of its own."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _tokenizer(path: str) -> Any:
    from transformers import AutoTokenizer

    folder = Path(path)
    if folder.is_dir() and not any(folder.glob("*token*")) and not (folder / "vocab.json").exists():
        return None  # weights alone, as in parity traces: the caller feeds ids
    return AutoTokenizer.from_pretrained(path)


def _normalisation(path: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of pixel values, from the checkpoint where it says so."""
    for name in ("video_preprocessor_config.json", "preprocessor_config.json"):
        found = _file(path, name)
        if found is not None:
            settings = json.loads(found.read_text(encoding="utf-8"))
            if "image_mean" in settings and "image_std" in settings:
                return tuple(settings["image_mean"]), tuple(settings["image_std"])
    return CLIP_MEAN, CLIP_STD


def _file(path: str, name: str) -> Path | None:
    from transformers.utils import cached_file

    local = Path(path) / name
    if Path(path).is_dir():
        return local if local.exists() else None
    found = cached_file(path, name, _raise_exceptions_for_missing_entries=False)
    return Path(found) if found else None


def weights_identity(path: str, adapter: str | None = None) -> str:
    """A hash of a checkpoint's config, tokenizer and weights, and of those of an adapter; never of where they lie.

    Weight files over 256 MB are read at 64 evenly spaced places and at both ends.
    """
    base = _identity(path)
    if adapter is None:
        return base
    return hashlib.sha256(f"{base}+{_identity(str(tuned.check(adapter)))}".encode()).hexdigest()[:16]


def _identity(path: str) -> str:
    folder = Path(path)
    if not folder.is_dir():
        from huggingface_hub import snapshot_download

        folder = Path(
            snapshot_download(path, local_files_only=True, allow_patterns=["*.json", "*.safetensors", "*.txt"])
        )
    digest = hashlib.sha256()
    names = sorted(f for f in folder.iterdir() if f.suffix in {".json", ".jinja", ".safetensors", ".txt"})
    for file in names:
        digest.update(f"{file.name}:{file.stat().st_size}:".encode())
        _update(digest, file)
    return digest.hexdigest()[:16]


def _update(digest: Any, file: Path) -> None:
    size = file.stat().st_size
    with file.open("rb") as stream:
        if size <= WHOLE_FILE_BYTES:
            digest.update(stream.read())
            return
        block = 2**16
        for i in range(SAMPLES + 1):
            stream.seek(i * (size - block) // SAMPLES)
            digest.update(stream.read(block))
