"""Configurations composed as run_eval.py does, but answered in the test's own process."""

from __future__ import annotations

from omegaconf import DictConfig

from evalkit.config import compose


def composed(*overrides: str) -> DictConfig:
    """conf/config.yaml with these settings; ConfigError for what it does not know.

    Worker processes take seconds to start, so a test says `executor.workers=N` where it wants them.
    """
    return compose.composed("config", ["executor.workers=1", *overrides])
