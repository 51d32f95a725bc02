"""Worker processes on the built-in model and its videos: a set's smallest subset, by one process and by two."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from evalkit.config import build
from tests.support.answer_lines import without_measured
from tests.support.configs import composed

pytestmark = pytest.mark.slow


def answers(data: Path, results: Path, workers: int) -> dict[tuple[str, str], dict[str, Any]]:
    """What one run gives."""
    words = ["subset=ci-50", "methods=[retake]", "ratios=[0.25]", f"executor.workers={workers}"]
    words += ["benchmark=videomme", f"benchmark.root={data / 'videomme'}"]
    _, failed = build.grid(composed(f"results_dir={results}", *words)).run()
    assert failed == 0
    return without_measured(results)


def test_two_processes_answer_as_one(builtin_data: Path, tmp_path: Path) -> None:
    one, two = (answers(builtin_data, tmp_path / str(n), n) for n in (1, 2))
    assert len(one) >= 50
    assert len({line["text"] for line in one.values()}) > 3
    assert two == one
