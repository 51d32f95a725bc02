"""From `--model_args` to the configuration that run_eval.py would compose from the same settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf

from evalkit.config import checks, compose
from evalkit.errors import ConfigError

KNOWN = ("backbone", "method", "ratio", "sampling", "reader", "share", "seed", "results_dir")
NEEDED = ("backbone", "method", "ratio")
ELSEWHERE = {
    "methods": "a model of lmms-eval is one method: method=NAME",
    "ratios": "a model of lmms-eval has one ratio: ratio=R",
    "benchmark": "lmms-eval's --tasks names the questions",
    "subset": "lmms-eval's --limit and --offset narrow a task",
    "protocol": "prompts and scores are those of the task",
    "reference": "a model of lmms-eval is one method: there is none to compare it with",
    "matched": "run_eval.py has it",
    "dry_run": "run_eval.py has it",
    "timing": "run_eval.py has it",
    "executor": "lmms-eval starts the processes that answer",
    "report": "run_eval.py has it",
    "print_tables": "run_eval.py has it",
    "experiment": "run_eval.py has it; give its settings one by one",
}


def parse_model_args(text: str) -> dict[str, str]:
    """`key=value,key=value` as a mapping, values as written."""
    found: dict[str, str] = {}
    for item in filter(None, map(str.strip, text.split(","))):
        key, equals, value = item.partition("=")
        if not equals or not key:
            raise ConfigError(
                f"--model_args: expected key=value,key=value without lists and without commas in a value, got {item!r} "
                f"in {text!r}; one method at one ratio a run: method=NAME,ratio=R"
            )
        if key in found:
            raise ConfigError(f"--model_args: expected {key} once, got it twice in {text!r}")
        found[key] = value
    return found


def composed(chosen: Mapping[str, Any]) -> DictConfig:
    """run_eval.py's configuration with these settings, e.g. {"method": "retake", "ratio": 0.25, "sampling.frames": 64}.

    Raises ConfigError for a setting that is missing, unknown, a list, or that lmms-eval makes itself.
    """
    for key, value in chosen.items():
        _check(key, value)
    missing = [key for key in NEEDED if key not in chosen]
    if missing:
        raise ConfigError(
            f"--model_args: expected {', '.join(f'{key}=…' for key in missing)}; "
            "for example backbone=tiny,method=retake,ratio=0.25"
        )
    try:
        cfg = compose.composed("config", [f"{k}={'null' if v is None else v}" for k, v in chosen.items()])
        checks.evaluation(cfg)
        with compose.explained("config"):
            OmegaConf.resolve(cfg)
    except ConfigError as error:
        raise ConfigError(f"--model_args: {error}") from error
    return cfg


def _check(key: str, value: Any) -> None:
    head = key.split(".")[0]
    if head in ELSEWHERE:
        raise ConfigError(f"--model_args: {key}={value} is not for a model: {ELSEWHERE[head]}")
    if head not in KNOWN:
        raise ConfigError(f"--model_args: expected settings of {', '.join(KNOWN)}, got {key}={value}")
    if isinstance(value, list | tuple | dict) or str(value).startswith(("[", "{")):
        raise ConfigError(f"--model_args: expected one value for {key}, got the list {value}; start one run for each")
