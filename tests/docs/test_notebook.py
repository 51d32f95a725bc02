"""The notebook runs from top to bottom, and the method that it grows spends what it is given."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.support.documents import text

EIGHT, THREE = "[::3][:8]", "[:3]"  # questions that each method is asked: of all of them the same is printed


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_it_runs(checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(checkout)
    notebook = ModuleType("notebook_new_method")
    monkeypatch.setitem(sys.modules, notebook.__name__, notebook)  # where dataclasses look up annotations
    cells = json.loads(text("docs/new_method.ipynb"))["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    assert sum(source.count(EIGHT) for source in code) == 1
    for source in code:
        exec(source.replace(EIGHT, THREE), vars(notebook))  # noqa: S102 – our own document
    shown = re.findall(r"^(\w+) +(\d) of 3 right, achieved ([\d.]+)", capsys.readouterr().out, re.M)
    assert [(name, achieved) for name, _, achieved in shown] == [
        ("Uniform", "1.000"),
        ("Uniform", "0.250"),
        ("Beginning", "0.250"),
        ("Changes", "0.250"),
        ("EvenChanges", "1.000"),
        ("EvenChanges", "0.250"),
        ("EvenChanges", "0.250"),
    ]
    dense, whole = shown[0][1], shown[4][1]
    assert dense == whole  # at ratio 1 the method changes nothing
