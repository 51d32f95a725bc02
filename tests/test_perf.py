"""Scripts in perf/, which nothing else imports: what they name in evalkit is still there."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from evalkit.model.families.qwen2_vl import Qwen2VL
from methods.pivotkv import received

PERF = Path(__file__).parents[1] / "perf"
SCRIPTS = sorted(file.stem for file in PERF.glob("*.py"))


@pytest.fixture(autouse=True)
def beside_each_other(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As where a script is started: they import each other by bare names, which leave with the test."""
    monkeypatch.syspath_prepend(PERF)
    before = dict(sys.modules)
    yield
    for name in set(sys.modules) - set(before):
        if Path(getattr(sys.modules[name], "__file__", None) or "none").parent == PERF:
            del sys.modules[name]


@pytest.mark.parametrize("script", SCRIPTS)
def test_what_a_script_imports_is_there(script: str) -> None:
    assert isinstance(importlib.import_module(script), ModuleType)


def test_the_free_model_takes_the_place_of_what_the_engine_calls() -> None:
    """A method whose name is gone would be one that nobody calls, and the model would compute again."""
    own = importlib.import_module("free_model").Free
    replaced = {name for name in vars(own) if not name.startswith("_")}
    assert replaced == {"encode", "reads_together", "run", "logits"}
    assert replaced <= set(dir(Qwen2VL))


@pytest.mark.slow
def test_the_kernels_for_column_sums_say_what_pivotkv_says() -> None:
    """In Triton's interpreter, which must be asked for before Triton is imported."""
    pytest.importorskip("triton")
    command = [sys.executable, str(PERF / "gpu_column_sums.py"), "--rehearse"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("same tokens kept") == 6


def test_kernels_that_say_something_else_are_noticed() -> None:
    rehearse = importlib.import_module("gpu_column_sums").rehearse
    rehearse(received)
    with pytest.raises(SystemExit, match="differs by"):
        rehearse(lambda queries, keys: received(1.01 * queries, keys))
