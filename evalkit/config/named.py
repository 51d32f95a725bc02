"""Backbones by the names of their files in conf/, for Python users."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf

from evalkit.config import build, checks, choices, compose
from evalkit.model import load
from evalkit.model.checkpoint import locate, read_json

if TYPE_CHECKING:
    from evalkit.engine.backbone import Backbone
    from evalkit.model.checkpoint import Checkpoint

BUILTIN = "tiny"  # the file of conf/backbone that `builtin` stands for
BY_FAMILY = {  # model_type -> whose options a checkpoint takes
    "qwen2_vl": "qwen2_vl_7b",
    "qwen2_5_vl": "qwen2_5_vl_7b",
    "qwen3_vl": "qwen3_vl_8b",
    "llava_onevision": "llava_onevision_7b",
    "llava_qwen": "llava_video_7b",
}


def backbone(name: str, **options: Any) -> Backbone:
    """A backbone by the name of its file, `builtin`, a checkpoint folder or a hub id; options that are None stay.

    A folder or hub id takes the options and the sampling preset of the released backbone of its family, and the dtype
    that its own config.json names. Raises ConfigError.
    """
    file = BUILTIN if name == "builtin" else name
    given = {key: value for key, value in options.items() if value is not None}
    if file not in choices.names("backbone"):
        found = locate(name, options.get("revision"))
        family = (read_json(found, "config.json") or {}).get("model_type")
        file = BY_FAMILY.get(str(family), BY_FAMILY["qwen2_vl"])
        given = {"dtype": _dtype(found), **given, "name": _label(name), "path": name}
        given["revision"] = options.get("revision")  # never the one of the family's file
    cfg = compose.composed("config", [f"backbone={file}"])
    for key, value in given.items():
        OmegaConf.update(cfg, f"backbone.{key}", value)
    checks.evaluation(cfg)
    return replace(build.backbone(cfg), sampling=build.sampling(cfg))


def _dtype(found: Checkpoint) -> str:
    config = read_json(found, "config.json") or {}
    named = str(config.get("dtype") or config.get("torch_dtype") or "float32")
    return named if named in load.DTYPES else "float32"


def _label(name: str) -> str:
    """The last part of a path or hub id, as part of a path."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", Path(name).name).strip("-.")[:100] or "backbone"
