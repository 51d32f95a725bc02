"""Load a checkpoint. Safetensors only, from this machine only; nothing of the checkpoint's own code is run."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from safetensors import SafetensorError

from evalkit.errors import ConfigError
from evalkit.model import adapter as tuned
from evalkit.model import attention, generation, shared_weights, tensors
from evalkit.model.checkpoint import (
    Checkpoint,
    check_no_code,
    check_settings,
    locate,
    pixel_statistics,
    read_json,
    weight_files,
)
from evalkit.model.families.registry import FAMILIES, UNSUPPORTED
from evalkit.model.video_llm import VideoLLM
from evalkit.model.weights_identity import weights_identity

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
ROPES = {"none": None, "yarn4": 4.0}


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
    path: str | Checkpoint,
    *,
    dtype: str = "float32",
    device: str = "auto",
    rope: str = "none",
    threads: int | None = None,
    adapter: str | None = None,
    adapter_any_base: bool = False,
) -> VideoLLM:
    """Load a checkpoint of one of the families: a folder, or a hub id that is in the hub's cache.

    `rope`: `none` leaves the rotary embedding as it is in the checkpoint; `yarn4` really applies YaRN by 4, which
    ReTaKe's released configurations name without effect. `threads`: of torch on the CPU, for this process. `adapter`: a
    folder of tuned weights (evalkit.model.adapter) that change the checkpoint's; `adapter_any_base`: also where they
    were tuned on another one.

    Raises ConfigError for a folder that is missing or incomplete, another family, tensors that are not the model's or
    not finite, code of the checkpoint's own, an unknown dtype or rope, an adapter that does not fit, or a release of
    transformers that does not fill the cache that it is given.
    """
    found = locate(path)
    kind, config = _config(found, dtype)
    _stretch(kind, config, rope)
    names = tensors.headers(found, weight_files(found))
    if threads is not None:
        torch.set_num_threads(threads)
    tokenizer = _tokenizer(found, config)
    with explained(found), quiet():
        model, outcome = kind.from_checkpoint(
            found.folder,
            config=config,
            dtype=DTYPES[dtype],
            use_safetensors=True,
            ignore_mismatched_sizes=True,  # so that they are all named
            output_loading_info=True,
            attn_implementation=dict(zip(kind.parts, (attention.register(), "sdpa"), strict=True)),
        )
    tensors.check_outcome(found, outcome, names)
    generation.applied(model.generation_config)
    if adapter is not None:
        tuned.expect_base(adapter, weights_identity(found), any_base=adapter_any_base)
        model = tuned.apply(model, adapter)
    return _decoder(found, kind, model.to(pick_device(device)), tokenizer)


def load_beside(base: VideoLLM, path: str | Checkpoint, adapter: str, *, adapter_any_base: bool = False) -> VideoLLM:
    """What `load` gives with this adapter, beside `base`, which is the same checkpoint loaded without one.

    Computes the same; every tensor that the adapter leaves alone is `base`'s own and takes no memory of its own.
    Raises ConfigError for an adapter that does not fit.
    """
    found = locate(path)
    tuned.expect_base(adapter, weights_identity(found), any_base=adapter_any_base)
    model = shared_weights.tuned_beside(base.model, adapter)
    return _decoder(found, type(base), model.to(base.device), base.tokenizer)


def _decoder(found: Checkpoint, kind: type[VideoLLM], model: Any, tokenizer: Any) -> VideoLLM:
    mean, std = pixel_statistics(found, kind.mean, kind.std)
    tensors.check_finite(found, model)
    decoder = kind.of(model.eval(), tokenizer, mean=mean, std=std)
    decoder.probe()
    return decoder


def check(
    path: str | Checkpoint, *, dtype: str = "float32", adapter: str | None = None, adapter_any_base: bool = False
) -> dict[str, Any]:
    """Find what `load` would refuse, from settings and headers, with no weight read; ConfigError where it would.

    Where there is an adapter that says what it was tuned on, the checkpoint's weights are read for their identity.
    Returns what of generation_config.json changes greedy decoding.
    """
    found = locate(path)
    files = weight_files(found) if read_json(found, "config.json") else []
    model = skeleton(found, dtype=dtype).model
    _expect_tokenizer(found)
    pixel_statistics(found, (), ())
    with quiet():
        tensors.check(found, files, model)
    if adapter is not None:
        tuned.expect_fit(model, adapter)
        tuned.expect_base(adapter, weights_identity(found), any_base=adapter_any_base)
    return generation.applied(_generation_config(found, model.config))


def _generation_config(found: Checkpoint, config: Any) -> Any:
    """As from_pretrained has it: from generation_config.json, else from config.json."""
    from transformers import GenerationConfig

    with explained(found):
        if (found.folder / "generation_config.json").is_file():
            return GenerationConfig.from_pretrained(found.folder, local_files_only=True)
        return GenerationConfig.from_model_config(config)


def _stretch(kind: type[VideoLLM], config: Any, rope: str) -> None:
    """Give the configuration YaRN's parameters (arXiv 2309.00071) where asked for."""
    if rope not in ROPES:
        raise ConfigError(f"expected backbone.rope to be one of {sorted(ROPES)}, got {rope!r}")
    factor = ROPES[rope]
    if factor is not None:
        text = kind.text_config(config)
        original = kind.yarn_length or text.max_position_embeddings
        scaling = {"rope_type": "yarn", "factor": factor, "original_max_position_embeddings": original}
        text.max_position_embeddings = int(original * factor)
        text.rope_parameters = {**text.rope_parameters, **scaling}


def family(path: str | Checkpoint) -> type[VideoLLM]:
    """The family of a checkpoint, by its configuration alone. ConfigError as `load`."""
    return _config(locate(path), "float32")[0]


def skeleton(path: str | Checkpoint, *, dtype: str = "float32", tokenizer: bool = False) -> VideoLLM:
    """The model's shape without its weights: sizes can be read off, nothing can be computed.

    With `tokenizer`, prompts can be written.
    """
    found = locate(path)
    kind, config = _config(found, dtype)
    if tokenizer:
        _expect_tokenizer(found)
    with explained(found), torch.device("meta"):
        model = kind.empty(config, DTYPES[dtype])
    return kind.of(model, _tokenizer(found, config) if tokenizer else None, mean=kind.mean, std=kind.std)


def _config(found: Checkpoint, dtype: str) -> tuple[type[VideoLLM], Any]:
    """The checkpoint's family and configuration."""
    if dtype not in DTYPES:
        raise ConfigError(f"expected backbone.dtype to be one of {sorted(DTYPES)}, got {dtype!r}")
    check_settings(found)
    name = str((read_json(found, "config.json") or {}).get("model_type"))
    if name not in FAMILIES:
        why = next((f": {reason}" for start, reason in UNSUPPORTED.items() if name.startswith(start)), "")
        raise ConfigError(f"{found.asked}: expected a checkpoint of {FAMILIES.listed()}, got model_type {name!r}{why}")
    kind = FAMILIES[name]
    if not kind.own_code:
        check_no_code(found)
    with explained(found):
        return kind, kind.read_config(found)


@contextmanager
def explained(found: Checkpoint) -> Iterator[None]:
    """What transformers finds wrong with a file, on one line."""
    from huggingface_hub.errors import StrictDataclassError

    odd = (AssertionError, AttributeError, KeyError, OSError, SafetensorError, TypeError, ValueError)
    try:
        yield
    except (*odd, StrictDataclassError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(
            f"{found.asked}: expected a checkpoint (config.json, *.safetensors, tokenizer.json) that "
            f"transformers can load; {type(error).__name__}: {reason}"
        ) from error


@contextmanager
def quiet() -> Iterator[None]:
    """No progress bar for loading, as the run has one of its own, and no report of what is raised as an error."""
    from transformers.utils import logging

    shown, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if shown:
            logging.enable_progress_bar()


def _has_tokenizer(found: Checkpoint) -> bool:
    return any(found.folder.glob("*token*")) or (found.folder / "vocab.json").exists()


def _expect_tokenizer(found: Checkpoint) -> None:
    if not _has_tokenizer(found):
        raise ConfigError(f"{found.asked}: expected a tokenizer (tokenizer.json); {found.remedy}")


def _tokenizer(found: Checkpoint, config: Any) -> Any:
    from transformers import AutoTokenizer

    if not _has_tokenizer(found):
        return None  # weights alone, as in parity traces: the caller feeds ids
    options = {"config": config, "trust_remote_code": False}
    with quiet():
        try:
            return AutoTokenizer.from_pretrained(found.folder, local_files_only=True, **options)
        except Exception as error:  # a garbled file gives an Exception of no class of its own
            raise ConfigError(
                f"backbone.path={found.name}: expected a tokenizer that transformers can load (tokenizer.json); "
                f"{type(error).__name__}: {' '.join(str(error).split())}; {found.remedy}"
            ) from error
