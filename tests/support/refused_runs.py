"""Runs that are refused before they have left anything."""

from __future__ import annotations

from pathlib import Path

import pytest

from evalkit.commands import run
from evalkit.errors import ConfigError
from tests.support import rows
from tests.support.configs import composed


def one_question(folder: Path) -> Path:
    """A data folder in MLVU's format; its video is never looked for."""
    rows.write_json(folder / "json" / "1_plotQA.json", [rows.mlvu_row()])
    return folder


def refused(data: Path, results: Path, *more: str) -> str:
    """The message of a run that is refused before it has left anything."""
    cfg = composed("benchmark=mlvu", f"benchmark.root={data}", f"results_dir={results}", "backbone=tiny_random", *more)
    with pytest.raises(ConfigError) as caught:
        run.run(cfg)
    assert not results.exists()
    message = str(caught.value)
    assert "\n" not in message
    return message
