"""Where a checkpoint lies, and whether its files may be read. Nothing is downloaded; no code of its own is run."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from evalkit.errors import ConfigError

# of a hub repository: all that loading reads
SMALL = ("*.json", "*.jinja", "*.txt")
PATTERNS = (*SMALL, "model*.safetensors")
SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
# files whose `auto_map` names classes of the repository's own
SETTINGS = (
    "config.json",
    "generation_config.json",
    "tokenizer_config.json",
    "processor_config.json",
    "preprocessor_config.json",
    "video_preprocessor_config.json",
)


@dataclass(frozen=True)
class Checkpoint:
    """A folder with a checkpoint's files; where they came from the hub, a snapshot of its cache."""

    name: str  # folder or hub id, as it was asked for
    folder: Path
    commit: str | None = None  # of the hub's repository
    revision: str | None = None  # that was asked for
    setting: str = "backbone.path"  # where it was named

    @property
    def asked(self) -> str:
        """The setting that names it, as a user writes it."""
        return f"{self.setting}={self.name}"

    @property
    def remedy(self) -> str:
        """What to do where files are missing."""
        return "copy it whole" if self.commit is None else fetch_command(self.name, self.revision)


def fetch_command(repo: str, revision: str | None) -> str:
    """The command line that downloads a hub repository."""
    return f"python -m evalkit model fetch {repo}" + (f" --revision {revision}" if revision else "")


def locate(
    path: str | Checkpoint,
    revision: str | None = None,
    *,
    weights: bool = True,
    setting: str = "backbone.path",
) -> Checkpoint:
    """The folder of that path, or the cached snapshot of a hub id at `revision` (commit, branch or tag; None: main).

    `weights=False` is content with a snapshot that has none, which `skeleton` does not read. `setting`: what names it,
    for errors.

    Raises ConfigError where there is neither.
    """
    if isinstance(path, Checkpoint):
        return path
    folder = Path(path).expanduser()
    if folder.is_dir():
        return Checkpoint(path, folder, setting=setting)
    if folder.exists() or not HUB_ID.fullmatch(path):
        found = "a file" if folder.exists() else "no such folder"
        raise ConfigError(
            f"{setting}={path}: expected a checkpoint folder (config.json, {SINGLE}, tokenizer.json) or a hub id "
            f"(owner/name); that is {found}"
        )
    return _snapshot(path, revision, weights, setting)


def _snapshot(repo: str, revision: str | None, weights: bool, setting: str) -> Checkpoint:
    from huggingface_hub import constants, get_cached_repo_tree, snapshot_download
    from huggingface_hub.errors import IncompleteSnapshotError, LocalEntryNotFoundError

    command = fetch_command(repo, revision) + ("" if weights else " --no-weights")
    patterns = PATTERNS if weights else SMALL
    try:
        folder = snapshot_download(repo, revision=revision, local_files_only=True, allow_patterns=list(patterns))
    except IncompleteSnapshotError as error:
        wanted = [f.path for f in get_cached_repo_tree(repo, revision=revision) if is_read(f.path, patterns)]
        lost = [name for name in wanted if not (Path(error.snapshot_path) / name).is_file()]
        raise ConfigError(
            f"{setting}={repo}: {len(lost)} of {len(wanted)} files are not in the hub's cache yet "
            f"({', '.join(lost[:3])}{' …' if lost[3:] else ''}); to download them: {command}"
        ) from error
    except LocalEntryNotFoundError as error:
        at = f" at revision {revision}" if revision else ""
        raise ConfigError(
            f"{setting}={repo}: no such folder, and no such repository{at} in the hub's cache "
            f"({constants.HF_HUB_CACHE}); to download it: {command}"
        ) from error
    return Checkpoint(repo, Path(folder), Path(folder).name, revision, setting)


def is_read(name: str, patterns: Sequence[str] = PATTERNS) -> bool:
    """Whether loading reads a file of this name in a hub repository."""
    return any(fnmatch(name, pattern) for pattern in patterns)


def read_json(found: Checkpoint, name: str) -> dict[str, Any] | None:
    """The object in one of the checkpoint's files, None where there is no such file; ConfigError for anything else."""
    file = found.folder / name
    if not file.is_file():
        return None
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(f"{found.asked}: {name} is no JSON ({error}); {found.remedy}") from error
    if not isinstance(value, dict):
        raise ConfigError(f"{found.asked}: expected an object in {name}, got {str(value)[:40]!r}")
    return value


PREPROCESSORS = ("video_preprocessor_config.json", "preprocessor_config.json")  # the first that names them counts


def pixel_statistics(
    found: Checkpoint, mean: Sequence[float], std: Sequence[float]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of pixel values, from the checkpoint where it names them, else those that are given.

    Raises ConfigError for a file that is no JSON, and for values by which no picture can be normalised.
    """
    for name in PREPROCESSORS:
        settings = read_json(found, name) or {}
        if any(settings.get(key) is not None for key in ("image_mean", "image_std")):
            return _channels(found, name, settings, "image_mean"), _channels(found, name, settings, "image_std")
    return tuple(mean), tuple(std)


def _channels(found: Checkpoint, name: str, settings: dict[str, Any], key: str) -> tuple[float, ...]:
    """One number for each of red, green and blue; deviations are above 0."""
    values, above = settings.get(key), key == "image_std"
    numbers = values if isinstance(values, list) and len(values) == 3 else []
    if not numbers or not all(type(v) in (int, float) and math.isfinite(v) and (v > 0 or not above) for v in numbers):
        raise ConfigError(
            f"backbone.path={found.name}: {name}: expected {key} with three numbers{' above 0' if above else ''}, got "
            f"{values!r}; {found.remedy}"
        )
    return tuple(numbers)


def check_settings(found: Checkpoint) -> None:
    """ConfigError for a folder without config.json, and for one that wants its own code, or other weights, loaded."""
    config = read_json(found, "config.json")
    if (found.folder / "adapter_config.json").is_file():
        raise ConfigError(
            f"{found.asked} holds a LoRA (adapter_config.json): give the checkpoint that it changes as "
            "backbone.path and this folder as backbone.adapter, or merge the two"
        )
    if config is None:
        raise ConfigError(
            f"{found.asked}: expected a checkpoint folder (config.json, {SINGLE}, tokenizer.json), it has "
            f"no config.json; {found.remedy}"
        )
    for key, why in (
        ("quantization_config", "quantised weights, which are not supported: give a checkpoint in bfloat16 or float32"),
        ("transformers_weights", f"other weight files than {SINGLE}: rename them, and delete that entry"),
    ):
        if config.get(key):
            raise ConfigError(f"{found.asked}: {key} in config.json asks for {why}")


def check_no_code(found: Checkpoint) -> None:
    """ConfigError where the checkpoint asks for code of its own."""
    for name in SETTINGS:
        mapped = (read_json(found, name) or {}).get("auto_map")
        if mapped:
            raise ConfigError(
                f"{found.asked}: auto_map in {name} asks for code of the repository's own ({mapped}); "
                "evalkit runs none. Where transformers' own classes can read the checkpoint, delete that entry in a "
                "copy of the folder"
            )


def weight_files(found: Checkpoint) -> list[Path]:
    """The safetensors files that hold the weights.

    Raises ConfigError where there are none, or where the index names others than there are.
    """
    if (found.folder / SINGLE).is_file():
        return [found.folder / SINGLE]
    index = read_json(found, INDEX)
    if index is None:
        raise ConfigError(f"{found.asked}: {_without_safetensors(found)}")
    mapped = index.get("weight_map")
    if not isinstance(mapped, dict) or not mapped or not all(isinstance(name, str) for name in mapped.values()):
        raise ConfigError(f"{found.asked}: expected {INDEX} with a weight_map of tensors to file names")
    names = sorted(set(mapped.values()))
    missing = [name for name in names if Path(name).name != name or not (found.folder / name).is_file()]
    if missing:
        raise ConfigError(
            f"{found.asked}: {len(missing)} of {len(names)} weight files that {INDEX} names are missing: "
            f"{', '.join(missing[:5])}{' …' if missing[5:] else ''}; {found.remedy}"
        )
    return [found.folder / name for name in names]


def _without_safetensors(found: Checkpoint) -> str:
    pickles = sorted(file.name for pattern in PICKLES for file in found.folder.glob(pattern))
    if not pickles:
        return f"expected {SINGLE} or {INDEX} in the folder, found neither; {found.remedy}"
    return (
        f"expected {SINGLE} or {INDEX}, found pickled weights ({', '.join(pickles[:3])}), which are never loaded: they "
        "may run any code. Convert them where you trust them: load the model with transformers and save_pretrained() it"
    )
