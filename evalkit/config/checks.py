"""Settings of the wrong type or out of range, found before anything is read, loaded or written.

Light but for what only evalkit.model.load can say: run_eval.py calls `light` before it loads torch and transformers.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from evalkit.config import compose
from evalkit.data import readers
from evalkit.errors import ConfigError

Rule = tuple[str, Callable[[Any], bool]]  # what is expected, and whether a value is that

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")  # one part of a path, and never . or ..


def number(value: Any) -> bool:
    """An integer or a finite decimal; true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def name(key: str, value: Any) -> str:
    """The name, which becomes part of a path. ConfigError for any that could lead out of its folder."""
    if not isinstance(value, str) or not NAME.fullmatch(value):
        raise ConfigError(
            f"{key}: expected a name of at most 100 letters, digits, '_', '-' and '.', the first a letter or a digit, "
            f"as it becomes part of a path; got {value!r}"
        )
    return value


def whole(least: int, *, optional: bool = False) -> Rule:
    """An integer from `least` on."""
    text = f"an integer from {least} on{', or null' if optional else ''}"
    return text, lambda v: (optional and v is None) or (number(v) and isinstance(v, int) and v >= least)


def between(low: float, high: float = math.inf, *, closed: bool = True) -> Rule:
    """A number in [low, high), or in (low, high)."""
    text = f"a number {'from' if closed else 'above'} {low:g}{' on' if closed and high < math.inf else ''}"
    text += f", below {high:g}" if high < math.inf else ""
    return text, lambda v: number(v) and low <= v < high and (closed or v > low)


def among(*values: str) -> Rule:
    """One of these words."""
    return f"one of {', '.join(values)}", lambda v: v in values


TRUTH: Rule = ("true or false", lambda v: isinstance(v, bool))
TEXT: Rule = ("a text", lambda v: isinstance(v, str) and v != "")
DEADLINE = between(0, 864_000, closed=False)  # seconds, of ten days: no system call waits for twenty-five

COMMON: Mapping[str, Rule] = {
    # null: not set, as in a backbone of another package
    "backbone.adapter_any_base": (TRUTH[0], lambda v: v is None or TRUTH[1](v)),
    "backbone.threads": whole(1, optional=True),
    "backbone.chunk_cells": whole(1),
    "backbone.encode_cells": whole(1),
    "backbone.pooling_head": ("a folder, a hub id, or null", lambda v: v is None or TEXT[1](v)),
    "seed": whole(0),
}
EVALUATION: Mapping[str, Rule] = {
    "share": TRUTH,
    "max_failed": whole(1, optional=True),
    "dry_run": TRUTH,
    "results_dir": ("a folder, one of digits alone as ./3", TEXT[1]),
    "executor.name": among("local", "ray"),
    "executor.workers": whole(1, optional=True),
    "executor.deadline": DEADLINE,
    "executor.address": ("auto, HOST:PORT, or null", lambda v: v is None or TEXT[1](v)),
    "executor.gpus_per_worker": ("1, a fraction of 1, 0, or null", lambda v: v is None or (number(v) and 0 <= v <= 1)),
    "decode.ahead": whole(0, optional=True),
    "decode.deadline": (f"{DEADLINE[0]}, or null", lambda v: v is None or DEADLINE[1](v)),
    "decode.tolerate_short": TRUTH,
}
TUNING: Mapping[str, Rule] = {
    "objective": ("objective=answers or objective=states", among("answers", "states")[1]),
    "compared": whole(1, optional=True),
    "depth": whole(1, optional=True),
    "start": ("a folder of tuned weights, or null", lambda v: v is None or TEXT[1](v)),
    "tuned": ("tuned=lora or tuned=full", among("lora", "full")[1]),
    "lora.rank": whole(1),
    "lora.alpha": between(0, closed=False),
    "lora.dropout": between(0, 1),
    "projector": TRUTH,
    "workers": whole(0),
    "epochs": between(0, closed=False),
    "steps": whole(1, optional=True),
    "accumulate": whole(1),
    "rate": between(0, closed=False),
    "warmup": between(0, 1),  # as a share of the steps
    "weight_decay": between(0),
    "clip": between(0),
    "checkpointing": TRUTH,
    "save_every": whole(1),
    "log_every": whole(1),
    "builtin.per_sequence": whole(1),
    "builtin.questions": whole(1),
    "builtin.dense": whole(0),
    "builtin.uncompressed": ("a share from 0 to 1", lambda v: number(v) and 0 <= v <= 1),
    "builtin.cells": ("a list of integers", lambda v: isinstance(v, ListConfig) and all(whole(1)[1](n) for n in v)),
}


def evaluation(cfg: DictConfig) -> None:
    """Those of conf/config.yaml. ConfigError names the setting, what was expected and what came."""
    light(cfg)
    _check_loading(cfg)


def light(cfg: DictConfig) -> None:
    """Those of `evaluation` that need no library; it checks them once more."""
    compose.check_names(cfg, "config")
    _check(cfg, {**COMMON, **EVALUATION}, names=("backbone", "benchmark"))


def tuning(cfg: DictConfig) -> None:
    """Those of conf/tune.yaml, likewise."""
    compose.check_names(cfg, "tune")
    if cfg.get("method") is None:
        raise ConfigError("expected method=NAME, a method that drops tokens between layers, such as method=lpcomp")
    _check(cfg, {**COMMON, **TUNING}, names=("backbone", "method"))
    _check_loading(cfg)


def timed_videos(value: Any) -> int:
    """The setting `timing`; ConfigError unless it is an integer from 0 on."""
    if not whole(0)[1](value):
        raise ConfigError(
            f"timing: expected how many videos to time each method and ratio on (0: none), got {value!r}; e.g. timing=8"
        )
    return int(value)


def workers(value: Any) -> int | None:
    """The argument `workers`; ConfigError unless it is an integer from 1 on, or None."""
    expected, holds = whole(1, optional=True)
    if not holds(value):
        raise ConfigError(f"workers: expected {expected.replace('null', 'None')}, got {value!r}")
    return None if value is None else int(value)


def _check(cfg: DictConfig, rules: Mapping[str, Rule], names: tuple[str, ...]) -> None:
    for group in names:
        name(f"{group}.name", cfg[group].get("name"))
    _hold(cfg, rules)
    readers.REGISTRY.entry(cfg.reader)


def _hold(cfg: DictConfig, rules: Mapping[str, Rule]) -> None:
    for key, (expected, holds) in rules.items():
        value = OmegaConf.select(cfg, key)
        if not holds(value):
            raise ConfigError(f"{key}: expected {expected}, got {value!r}")


def _check_loading(cfg: DictConfig) -> None:
    from evalkit.model import load

    _hold(cfg, {"backbone.dtype": among(*load.DTYPES), "backbone.rope": among(*load.ROPES)})
    load.pick_device(cfg.backbone.device)
