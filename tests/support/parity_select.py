"""Read a trace of a whole frame selection, `select_*.safetensors` and the JSON beside it.

Such traces were kept aside, and their names are not known to the last letter: what a reader may reasonably expect is
looked for under several names, in the JSON and among the tensors; what is not in the trace itself is taken from the
other traces of its folder, which share weights and prompt.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

CHOSEN = ("select", "sel", "topk", "top_k", "indices", "idx", "frame_idx", "frame_indices", "kept")  # first letters
SCORES = ("clip_scores", "pass_scores", "chunk_scores", "scores")
FEATURES = ("image_features", "features", "frame_features", "video_features")
REPEATS = ("n_repeat", "n_repeats", "n_rep", "num_repeats", "repeats", "repeat")
STARTS = ("starts", "chunk_starts", "pass_starts")
FRAMES = ("frames", "n_frames", "num_frames", "F")


@dataclass(frozen=True)
class SelectTrace:
    """What a trace holds."""

    frames: int | None
    features: Tensor | None  # (F, 16, D)
    chosen: dict[str, list[int]]  # by name: ascending
    scores: dict[int, Tensor]  # by pass: (layers, clips)
    starts: list[int] | None  # first frame of each pass
    repeats: int
    clip: int
    skip: int
    ids: list[int] | None
    at: int  # position of the video in `ids`
    header: int  # and of the assistant's header


def read(file: Path) -> SelectTrace:
    """Raises KeyError where not even the folder's other traces hold what the question is."""
    held: dict[str, Any] = {**_folder(file), **_json(file), **load_file(file)}
    own = {**_json(file), **load_file(file)}
    features = _first(own, FEATURES)
    if features is not None and features.ndim == 2:
        features = features.view(-1, 16, features.shape[-1])
    chosen = {key: _indices(value) for key, value in own.items() if _names_frames(key.lower()) and _listed(value)}
    ids = _first(held, ("input_ids",))
    frames = _first(own, FRAMES)
    starts = _first(own, STARTS)
    return SelectTrace(
        frames=len(features) if features is not None else None if frames is None else int(frames),
        features=features,
        chosen=chosen,
        scores=_scores(own),
        starts=None if starts is None else [int(start) for start in starts],
        repeats=int(_first(own, REPEATS) or 2),
        clip=int(held.get("clip_frames", 8)),
        skip=int(held["query_bias"]),
        ids=None if ids is None else [int(i) for i in ids],
        at=int(held["image_position"]),
        header=int(held["assistant_index"]),
    )


def _json(file: Path) -> dict[str, Any]:
    beside = file.with_suffix(".json")
    return _flat(json.loads(beside.read_text())) if beside.exists() else {}


def _flat(settings: dict[str, Any]) -> dict[str, Any]:
    """Groups of settings, one level down, as if they stood above."""
    inner = {key: v for group in settings.values() if isinstance(group, dict) for key, v in group.items()}
    return {**inner, **{key: v for key, v in settings.items() if not isinstance(v, dict)}}


def _folder(file: Path) -> dict[str, Any]:
    """The prompt of the clip scores beside it."""
    found: dict[str, Any] = {}
    for other in sorted(file.parent.glob("clip_scores_*.json")):
        found |= {key: v for key, v in json.loads(other.read_text()).items() if not isinstance(v, dict)}
        found["input_ids"] = load_file(other.with_suffix(".safetensors"))["input_ids"]
    return found


def _first(held: dict[str, Any], names: tuple[str, ...]) -> Any:
    return next((held[name] for name in names if name in held), None)


def _names_frames(key: str) -> bool:
    named = key.startswith(CHOSEN) or "select" in key
    return named and not key.startswith(SCORES) and "layer" not in key


def _listed(value: Any) -> bool:
    """Whether it may be frame numbers, or a mask over frames."""
    if isinstance(value, Tensor):
        return value.ndim == 1 and not value.is_floating_point()
    return isinstance(value, list) and bool(value) and all(isinstance(i, int) for i in value)


def _indices(value: Any) -> list[int]:
    found = torch.as_tensor(value)
    return sorted((found.nonzero()[:, 0] if found.dtype == torch.bool else found).tolist())


def _scores(own: dict[str, Any]) -> dict[int, Tensor]:
    """One tensor a pass, numbered by its name or its order, or one (passes, layers, clips) for all."""
    named = {key: v for key, v in own.items() if key.lower().startswith(SCORES) and isinstance(v, (Tensor, list))}
    held = {key: torch.as_tensor(v) for key, v in named.items()}
    whole = [v for v in held.values() if v.ndim == 3]
    if whole:
        return dict(enumerate(whole[0]))
    parts = {key: v for key, v in held.items() if v.ndim == 2}
    numbers = {key: int(found[-1]) for key in parts if (found := re.findall(r"\d+", key))}
    if len(set(numbers.values())) == len(parts):
        return {numbers[key]: v for key, v in sorted(parts.items(), key=lambda part: numbers[part[0]])}
    return dict(enumerate(v for _, v in sorted(parts.items())))
