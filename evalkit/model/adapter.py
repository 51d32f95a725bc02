"""Weights that were tuned on top of a checkpoint, in a folder of their own: a peft LoRA, or the tuned weights.

A LoRA folder is peft's own format (adapter_config.json, adapter_model.safetensors); the other holds model.safetensors
with some of the checkpoint's weights under the same names. Either may carry tuning.json: what it was made of.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from evalkit.errors import ConfigError

log = logging.getLogger(__name__)

BUILTIN = Path(__file__).parents[1] / "tiny" / "adapters"
NOTE = "tuning.json"
LORA = ("adapter_config.json", "adapter_model.safetensors")
WEIGHTS = "model.safetensors"


def peft() -> Any:
    """The library, which only adapters need.

    Raises ConfigError where it is not installed.
    """
    try:
        import peft as library
    except ImportError as error:
        raise ConfigError("LoRA adapters need peft, which is not installed: pip install 'evalkit[tune]'") from error
    return library


@contextmanager
def without_old_names() -> Iterator[None]:
    """While peft wraps a model: its newest release (0.21) asks by a name that transformers 5.24 warns of."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)
        yield


def locate(name: str) -> Path:
    """The folder that an adapter's name stands for: a path, or builtin/NAME, one of those that come with evalkit.

    Raises ConfigError where there is no such built-in one.
    """
    if not name.startswith("builtin/"):
        return Path(name).expanduser()
    known = sorted(f.name for f in BUILTIN.iterdir() if f.is_dir())
    if name.removeprefix("builtin/") not in known:
        raise ConfigError(f"adapter={name}: expected builtin/ and one of {known}, or a folder of tuned weights")
    return BUILTIN / name.removeprefix("builtin/")


def check(folder: str) -> Path:
    """The folder, if it holds tuned weights; ConfigError if not."""
    path = locate(folder)
    if not (path / WEIGHTS).is_file() and not all((path / name).is_file() for name in LORA):
        raise ConfigError(
            f"adapter={folder}: expected a folder with {' and '.join(LORA)}, or with {WEIGHTS}, as "
            "`python -m evalkit tune` leaves it in OUT/weights"
        )
    return path


def expect_fit(model: Any, folder: str) -> None:
    """ConfigError where the folder's weights do not fit a model like this one, which holds none (device `meta`)."""
    path = check(folder)
    with _explained(folder):
        if (path / LORA[0]).is_file():
            _with_lora(model, path)
            return
        expected = {name: list(weight.shape) for name, weight in model.state_dict().items()}
        with safe_open(path / WEIGHTS, framework="pt") as opened:
            shapes = {name: opened.get_slice(name).get_shape() for name in opened.keys()}  # noqa: SIM118 – no mapping
        wrong = [name for name, shape in shapes.items() if expected.get(name) != shape]
        if wrong:
            raise ValueError(f"no such weights, or of another shape: {wrong[:3]} and {len(wrong)} in all")


@contextmanager
def _explained(folder: str) -> Iterator[None]:
    try:
        yield
    except (KeyError, OSError, RuntimeError, SafetensorError, TypeError, UserWarning, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(
            f"adapter={folder}: expected weights that fit this backbone; {type(error).__name__}: {reason}"
        ) from error


def expect_base(folder: str, base: str, *, any_base: bool = False) -> None:
    """ConfigError where tuning.json says that the weights were tuned on others than those of identity `base`.

    With `any_base` a warning. A folder that does not say is taken as it is.
    """
    made = note(check(folder)).get("base", base)
    if made == base:
        return
    told = f"adapter={folder} was tuned on weights {made}, and those of this backbone are {base}"
    if not any_base:
        raise ConfigError(
            f"{told}: give the checkpoint that it was tuned on; backbone.adapter_any_base=true answers all the same"
        )
    log.warning("%s; backbone.adapter_any_base=true answers all the same", told)


def apply(model: Any, folder: str) -> Any:
    """The model with the folder's weights in it: a LoRA is merged, so that its layers stay plain ones.

    Raises ConfigError for a folder without tuned weights, or with weights that do not fit this model.
    """
    path = check(folder)
    with _explained(folder):
        if (path / LORA[0]).is_file():
            return _with_lora(model, path).merge_and_unload()
        return _replaced(model, path)


def changed(folder: str, names: Collection[str]) -> set[str]:
    """Which of a model's tensors, given by name, the folder's weights replace or change; read from their names alone.

    All of them where a tensor of the adapter belongs to none of the model's, or the kind of adapter is not known.
    """
    path = check(folder)
    lora = (path / LORA[0]).is_file()
    if lora and not _plain_lora(json.loads((path / LORA[0]).read_text(encoding="utf-8"))):
        return set(names)
    with safe_open(path / (LORA[1] if lora else WEIGHTS), framework="pt") as opened:
        keys = [_of_model(key) if lora else key for key in opened.keys()]  # noqa: SIM118 – no mapping
    found = [{name for name in names if name == key or name.startswith(f"{key}.")} for key in dict.fromkeys(keys)]
    return set[str]().union(*found) if all(found) else set(names)


def _plain_lora(config: dict[str, Any]) -> bool:
    return config.get("peft_type") == "LORA" and not config.get("layer_replication")


def _of_model(key: str) -> str:
    """The model's module or tensor that a tensor of a LoRA file belongs to."""
    return key.removeprefix("base_model.model.").split(".lora_")[0].replace(".base_layer", "")


def _with_lora(model: Any, path: Path) -> Any:
    with without_old_names():
        warnings.filterwarnings("error", message=".*missing adapter keys")
        found = peft().PeftModel.from_pretrained(
            model, str(path), local_files_only=True, low_cpu_mem_usage=model.device.type == "meta"
        )
    with safe_open(path / LORA[1], framework="pt") as opened:
        extra = set(opened.keys()) - set(peft().get_peft_model_state_dict(found, save_embedding_layers=True))
    if extra:
        raise ValueError(f"this backbone has no place for {sorted(extra)[:3]} and {len(extra)} in all")
    return found


def _replaced(model: Any, path: Path) -> Any:
    unknown = model.load_state_dict(load_file(path / WEIGHTS), strict=False).unexpected_keys
    if unknown:
        raise ValueError(f"no such weights: {unknown[:3]} and {len(unknown)} in all")
    return model


def note(folder: Path) -> dict[str, Any]:
    """What tuning.json says; nothing where there is none."""
    file = folder / NOTE
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return found


def save_lora(model: Any, folder: Path, settings: dict[str, Any]) -> None:
    """Write a PeftModel's adapter, and `settings` as tuning.json."""
    config = model.peft_config["default"]
    config.base_model_name_or_path, config.inference_mode = settings["backbone"], True
    folder.mkdir(parents=True)
    config.save_pretrained(str(folder))
    _write(peft().get_peft_model_state_dict(model, save_embedding_layers=False), folder / LORA[1])
    _write_note(folder, settings)


def save_weights(weights: dict[str, Any], folder: Path, settings: dict[str, Any]) -> None:
    """Write weights by their name in the checkpoint's model, and `settings` as tuning.json."""
    folder.mkdir(parents=True)
    _write(weights, folder / WEIGHTS)
    _write_note(folder, settings)


def _write(weights: dict[str, Any], file: Path) -> None:
    save_file({k: w.detach().cpu().contiguous() for k, w in weights.items()}, file, metadata={"format": "pt"})


def _write_note(folder: Path, settings: dict[str, Any]) -> None:
    (folder / NOTE).write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n", encoding="utf-8")
