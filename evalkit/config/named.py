"""Backbones by the names of their files in conf/, for Python users."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf

from evalkit.config import build, checks, choices, compose
from evalkit.errors import ConfigError
from evalkit.model import load
from evalkit.model.checkpoint import locate, read_json

if TYPE_CHECKING:
    from evalkit.engine.backbone import Backbone
    from evalkit.model.checkpoint import Checkpoint

BUILTIN = "tiny"  # the file of conf/backbone that `builtin` stands for


def backbone(name: str, **options: Any) -> Backbone:
    """A backbone by the name of its file, `builtin`, a checkpoint folder or a hub id; options that are None stay.

    A folder or hub id takes the options and the sampling preset of the released backbone of its family, and the dtype
    that its own config.json names. Raises ConfigError.
    """
    file = BUILTIN if name == "builtin" else name
    given = {key: value for key, value in options.items() if value is not None}
    if file not in choices.names("backbone"):
        found = locate(name, options.get("revision"))
        file = _of_family(found)
        given = {"dtype": _dtype(found), **given, "name": _label(name), "path": name}
        given["revision"] = options.get("revision")  # never the one of the family's file
    cfg = compose.composed("config", [f"backbone={file}"])
    for key, value in given.items():
        OmegaConf.update(cfg, f"backbone.{key}", value, force_add=True)
    checks.evaluation(cfg)
    return replace(build.backbone(cfg), sampling=build.sampling(cfg))


def _of_family(found: Checkpoint) -> str:
    """The file of the released backbone whose options this checkpoint takes."""
    kind = load.family(found)
    if kind.released_backbone is None:
        raise ConfigError(
            f"backbone.path={found.name}: expected the class of its family, {kind.__name__}, to name the backbone "
            f"whose options other checkpoints take (released_backbone), one of {choices.listed('backbone')}"
        )
    return kind.released_backbone


def _dtype(found: Checkpoint) -> str:
    config = read_json(found, "config.json") or {}
    named = str(config.get("dtype") or config.get("torch_dtype") or "float32")
    return named if named in load.DTYPES else "float32"


def _label(name: str) -> str:
    """The last part of a path or hub id, as part of a path."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", Path(name).name).strip("-.")[:100] or "backbone"
