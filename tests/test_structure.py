"""How the tests are laid out: rooms as in the package, shared things in tests/support, parity tools that run."""

from __future__ import annotations

import ast
import json
import shutil
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from tests.support import one_process, parity
from tests.support.golden import ROOT
from tests.support.order import LONGEST

TESTS = ROOT / "tests"
ROOMS = {folder.parent for folder in TESTS.glob("*/__init__.py")} - {TESTS / "support"}


def imported_tests(source: str, name: str = "tests.analysis.test_x") -> Iterator[str]:
    """Test modules, and conftest, that a module's source imports."""
    package = name.split(".")[:-1]
    for node in ast.walk(ast.parse(source)):
        found: list[str] = []
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = ".".join([*package[: len(package) + 1 - node.level], node.module or ""] if node.level else [])
            base = base.strip(".") or str(node.module)
            found = [base, *(f"{base}.{alias.name}" for alias in node.names)]
        for module in found:
            if module.startswith("tests.") and any(p == "conftest" or p.startswith("test_") for p in module.split(".")):
                yield module


def test_no_module_imports_a_test_module() -> None:
    files = [file for file in TESTS.rglob("*.py") if "golden" not in file.parts]
    assert len(files) > 100
    for file in [*files, *(ROOT / "perf").glob("*.py")]:
        name = ".".join(file.relative_to(ROOT).with_suffix("").parts)
        assert not list(imported_tests(file.read_text(encoding="utf-8"), name)), file


@pytest.mark.parametrize(
    "line",
    [
        "from tests.model.test_model import visual",
        "from tests.model import test_model",
        "import tests.model.test_model",
        "from .test_plots import grid",
        "from . import test_plots",
        "from ..model.test_model import visual",
        "from tests.conftest import ROOT",
    ],
)
def test_an_import_of_a_test_module_is_seen(line: str) -> None:
    assert list(imported_tests(line))
    assert not list(imported_tests("from tests.support.loop import engine\nfrom . import plots\nimport pytest"))


def test_rooms_are_those_of_the_package() -> None:
    rooms = {folder.parent.name for folder in (ROOT / "evalkit").glob("*/__init__.py")} | {"methods", "docs", "faults"}
    assert {"model", "engine", "analysis"} <= {room.name for room in ROOMS} <= rooms


def test_what_is_begun_first_exists() -> None:
    assert len(set(LONGEST)) == len(LONGEST)
    assert all((ROOT / file).is_file() for file in LONGEST)


def fast_tests(source: str) -> list[str]:
    """Names of a module's tests that `make test-fast` runs: neither the test nor its module is marked slow."""
    body = ast.parse(source).body
    marks = [
        ast.unparse(node.value) for node in body if isinstance(node, ast.Assign) and "pytestmark" in ast.unparse(node)
    ]
    if any("pytest.mark.slow" in mark for mark in marks):
        return []
    tests = [node for node in body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")]
    return [t.name for t in tests if "pytest.mark.slow" not in map(ast.unparse, t.decorator_list)]


@pytest.mark.parametrize("room", sorted(room.name for room in ROOMS))
def test_the_fast_part_is_of_every_room(room: str) -> None:
    assert [name for file in (TESTS / room).glob("test_*.py") for name in fast_tests(file.read_text(encoding="utf-8"))]


def test_what_is_slow_is_seen() -> None:
    slow = "@pytest.mark.slow\ndef test_a(): ...\n"
    assert fast_tests(slow + "def test_b(): ...") == ["test_b"]
    assert fast_tests("pytestmark = [pytest.mark.slow]\ndef test_b(): ...") == []


@pytest.mark.parametrize("name", [file.stem for file in (TESTS / "support").glob("parity*.py")])
def test_parity_tools_are_importable(name: str) -> None:
    assert import_module(f"tests.support.{name}")


@pytest.fixture
def case(small_golden: Path, tmp_path: Path) -> Path:
    """A folder with the first of ReTaKe's cases."""
    cases = json.loads((small_golden / "retake" / "cases.json").read_text())
    name = next(iter(cases))
    shutil.copytree(small_golden / "retake" / "model", tmp_path / "model")
    for file in (f"{name}.safetensors", parity.INPUTS):
        shutil.copy(small_golden / "retake" / file, tmp_path)
    (tmp_path / "cases.json").write_text(json.dumps({name: cases[name]}))
    return tmp_path


def test_a_case_that_differs_ends_with_1(case: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert parity.main(["retake", str(case)]) == 0
    assert "DIFFERS" not in capsys.readouterr().out
    (file,) = (f for f in case.glob("*.safetensors") if f.name != parity.INPUTS)
    trace = load_file(file)
    save_file({**trace, "step_logits": trace["step_logits"] + 0.1}, file)
    assert parity.main(["retake", str(case)]) == 1
    assert "DIFFERS" in capsys.readouterr().out


def test_a_folder_without_cases_ends_with_1(tmp_path: Path) -> None:
    (tmp_path / "cases.json").write_text("{}")
    assert parity.main(["retake", str(tmp_path)]) == 1


@pytest.mark.slow
def test_the_parity_script_runs(case: Path) -> None:
    command = [str(TESTS / "parity.py"), "retake", str(case)]
    told, stderr = one_process.run({"parity": command}, Path(ROOT.anchor), {})
    assert told["parity"].code == 0, stderr
    assert told["parity"].out.startswith("ok"), told["parity"].out[:200]
