"""Configurations composed as run_eval.py does."""

from __future__ import annotations

from omegaconf import DictConfig

from evalkit.config import compose


def composed(*overrides: str) -> DictConfig:
    """conf/config.yaml with these settings; ConfigError for what it does not know."""
    return compose.composed("config", overrides)
