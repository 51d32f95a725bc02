"""From `key=value` settings to the objects of a tuning. Every error names the setting and what to do."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from evalkit.config import build, checks, compose
from evalkit.errors import ConfigError, DataError
from evalkit.method import OperatingPoint

if TYPE_CHECKING:
    import torch

    from evalkit.engine.frame_encoder import FrameEncoder
    from evalkit.tune.conversations import Skipped

BUILTIN = "builtin"
VERBS = ("select", "evict")  # that tuning does not run
PLACES = ("out", "videos", "workers")  # settings that can change without another result


def composed(overrides: Sequence[str]) -> DictConfig:
    """conf/tune.yaml with these settings. ConfigError for a name or value that it does not know."""
    cfg = compose.composed("tune", overrides)
    checks.tuning(cfg)
    with compose.explained("tune"):
        OmegaConf.resolve(cfg)
    _check(cfg)
    return cfg


def _check(cfg: DictConfig) -> None:
    if cfg.data is None:
        raise ConfigError("expected data=builtin, or data=FILE with videos=DIR")
    if cfg.data == BUILTIN and cfg.steps is None:
        raise ConfigError("data=builtin has no end: expected steps=N")
    if cfg.data != BUILTIN and not Path(cfg.data).expanduser().is_file():
        raise ConfigError(f"expected data=builtin or a JSON file of conversations, got data={cfg.data}, no such file")
    if cfg.data != BUILTIN and cfg.videos is None:
        raise ConfigError(f"data={cfg.data} needs videos=DIR, the folder of its videos")
    if cfg.backbone.adapter is not None:
        raise ConfigError(
            "tuning starts from a checkpoint: expected backbone.adapter=null, or start=DIR to go on from "
            f"tuned weights; got {cfg.backbone.adapter}"
        )
    if cfg.start is not None and cfg.tuned != "full":
        raise ConfigError(f"start={cfg.start} goes on from weights of tuned=full: expected tuned=full, got {cfg.tuned}")
    if cfg.objective == "states" and cfg.data != BUILTIN:
        raise ConfigError(
            "objective=states needs to know what each visual token shows: expected data=builtin, or objective=answers"
        )


def point(cfg: DictConfig) -> OperatingPoint:
    """The method at its ratio. ConfigError where it drops nothing between layers, or intervenes elsewhere, too."""
    (found,) = build.points(cfg)
    if not found.method.overrides("prune"):
        raise ConfigError(f"method={found.name} drops no tokens between layers: there is nothing to tune a model for")
    other = [verb for verb in VERBS if found.method.overrides(verb)]
    if other:
        raise ConfigError(
            f"method={found.name} also intervenes in {', '.join(other)}, which tuning does not run: name the part that "
            "drops tokens between layers alone (of xcomp: lpcomp)"
        )
    return found


def device(cfg: DictConfig) -> torch.device:
    """Where the weights are tuned. ConfigError for a dtype that it cannot tune in."""
    from evalkit.model.load import pick_device

    found = pick_device(cfg.backbone.device)
    allowed = ("float32",) if found.type == "cpu" else ("float32", "bfloat16")
    if cfg.backbone.dtype not in allowed:
        raise ConfigError(
            f"expected backbone.dtype={' or '.join(allowed)} for tuning on {found.type}, got {cfg.backbone.dtype}"
        )
    return found


def data(cfg: DictConfig, frame_encoder: FrameEncoder, point: OperatingPoint) -> tuple[Any, list[Skipped]]:
    """The samples, and the rows that were left out. DataError where none is left."""
    if cfg.data == BUILTIN:
        from evalkit.tune.builtin import Builtin

        samples = Builtin(frame_encoder, point, seed=cfg.seed, **cfg.builtin)
        if cfg.objective == "states":
            samples.expect_every_cell()
        return samples, []
    from evalkit.tune import conversations

    rows, skipped = conversations.read(Path(cfg.data).expanduser(), Path(cfg.videos).expanduser())
    good, undecodable = conversations.probed(rows)
    skipped += undecodable
    if not good:
        reason = f"the first: {skipped[0].reason}" if skipped else "the file is empty"
        raise DataError(f"data={cfg.data}: expected rows to learn from, got {len(skipped)}, none of use; {reason}")
    return conversations.Conversations(good, frame_encoder, point), skipped


def record(cfg: DictConfig, point: OperatingPoint, weights: str) -> dict[str, Any]:
    """config.yaml of a tuning: its settings, what they were applied to, and nothing about where it lies."""
    from evalkit.model import adapter
    from evalkit.model.weights_identity import weights_identity
    from evalkit.runs import identity

    plain = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(plain, dict)
    kept = {str(k): v for k, v in plain.items() if k not in PLACES}
    if cfg.data != BUILTIN:
        file = Path(cfg.data).expanduser()
        kept["data"] = {"file": file.name, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()[:16]}
    if cfg.start is not None:
        kept["start"] = weights_identity(str(adapter.check(cfg.start)))
    return {**kept, "method": {"name": point.name, **identity.method(point.method)}, "weights": weights}
