"""Where the traces of released reference code lie."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden"
NAMED = os.environ.get("EVALKIT_GOLDEN")
WHOLE = Path(NAMED) if NAMED else ROOT.parent / "shared" / "golden"


def traces(folder: Path, *, required: bool) -> Path:
    """The folder; where it is missing the test fails if it is required, else it is skipped."""
    if not folder.is_dir():
        (pytest.fail if required else pytest.skip)(f"no golden traces at {folder}")
    return folder
