"""Whether a configuration will need workers, told before the libraries are loaded that could say how many fit."""

from __future__ import annotations

from omegaconf import DictConfig

from evalkit import machine
from evalkit.engine.executor import forking


def expected(cfg: DictConfig) -> bool:
    """Whether this configuration, which nobody has checked yet, seems to ask for workers that can be forked."""
    executor, backbone = cfg.get("executor") or {}, cfg.get("backbone") or {}
    workers, device = executor.get("workers"), backbone.get("device")
    several = (machine.cores() > 1 and backbone.get("threads") == 1) if workers is None else workers != 1
    on_cpu = device == "cpu" or (device == "auto" and not machine.has_gpu())
    return executor.get("name") == "local" and several and on_cpu and not cfg.get("dry_run") and forking.possible()
