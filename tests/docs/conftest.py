"""A clone in which documents can be followed."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from tests.support.documents import ROOT


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory, builtin_data: Path) -> Path:
    """A folder that looks like a fresh clone with the videos of the smallest subset; what is run writes here."""
    folder = tmp_path_factory.mktemp("checkout")
    for entry in ROOT.iterdir():
        if not entry.name.startswith(".") and entry.name not in ("data", "results", "build", "dist"):
            (folder / entry.name).symlink_to(entry)
    shutil.copytree(builtin_data, folder / "data" / "builtin")
    (folder / "bin").mkdir()
    python = folder / "bin" / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')  # a link would lose the virtual environment
    python.chmod(0o755)
    return folder
