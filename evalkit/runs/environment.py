"""environment.json: versions, machine and weights of a run. None of it decides whether two runs are the same."""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = (
    "evalkit",
    "torch",
    "torchvision",
    "transformers",
    "lmms-eval",
    "av",
    "torchcodec",
    "decord",
    "numpy",
    "pandas",
)


def provenance(config: Mapping[str, Any], device: str) -> dict[str, Any]:
    """The process's environment, and which weights were loaded (their identity, adapter included)."""
    backbone = config.get("backbone", {})
    weights = {
        "identity": config.get("identity_parts", {}).get("weights"),
        "path": backbone.get("path"),
        "commit": backbone.get("commit"),
        "adapter": config.get("adapter", {}).get("path", backbone.get("adapter")),
    }
    return {**environment(device), "weights": weights}


@cache
def environment(device: str) -> dict[str, Any]:
    """Versions and machine, determined once for all run folders of a process."""
    return {
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "device": device,
        "versions": {name: package_version(name) for name in PACKAGES},
        "git": git_state(),
    }


def package_version(name: str) -> str | None:
    """Installed version of a distribution, None where it is absent."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def git_state() -> dict[str, Any] | None:
    """Commit of evalkit's checkout and whether it has uncommitted changes; None outside a checkout."""
    here = Path(__file__).parent
    try:
        commit = _git(here, "rev-parse", "HEAD")
        return {"commit": commit, "dirty": bool(_git(here, "status", "--porcelain", "--untracked-files=no"))}
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(folder: Path, *args: str) -> str:
    out = subprocess.run(["git", "-C", str(folder), *args], capture_output=True, text=True, check=True)  # noqa: S607 – the user's own git
    return out.stdout.strip()
