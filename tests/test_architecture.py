"""The arrow of dependencies: conf → methods → evalkit → libraries, and the rooms inside evalkit."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
WORDS = {"evalkit.types", "evalkit.method", "evalkit.ledger", "evalkit.errors"}
# room -> rooms that it may import from, beside the words and itself
ALLOWED = {
    "data": set(),
    "model": set(),
    "tiny": {"model", "data"},
    "engine": {"data", "model", "evidence", "tiny", "trackers"},
    "evidence": {"data"},
    "trackers": {"evidence"},
    "tune": {"data", "model", "engine", "tiny"},
}
HEAVY = {"torch", "transformers", "lmms_eval", "pandas", "av", "datasets", "matplotlib", "scipy", "jinja2", "PIL"}
TRACKERS = {"tensorboard", "wandb", "mlflow"}


def imports(file: Path, *, top_level: bool = False) -> Iterator[str]:
    """Names of the modules that a file imports."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    for node in tree.body if top_level else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def sources(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def test_evalkit_knows_no_method() -> None:
    assert sources("evalkit")
    for file in sources("evalkit"):
        assert not [m for m in imports(file) if m.split(".")[0] == "methods"], file


@pytest.mark.parametrize("room", sorted(ALLOWED))
def test_rooms_import_only_what_they_may(room: str) -> None:
    for file in sources(f"evalkit/{room}"):
        for module in imports(file):
            parts = module.split(".")
            if parts[0] == "evalkit" and len(parts) > 1 and (ROOT / "evalkit" / parts[1]).is_dir():
                assert parts[1] == room or parts[1] in ALLOWED[room], f"{file} imports {module}"


def test_words_import_nothing_heavy() -> None:
    for word in WORDS:
        file = ROOT / f"{word.replace('.', '/')}.py"
        assert not {m.split(".")[0] for m in imports(file, top_level=True)} & HEAVY, file


def test_only_models_import_transformers() -> None:
    for file in [*sources("evalkit"), *sources("methods")]:
        room = file.relative_to(ROOT).parts[1]
        if room not in {"model", "tiny", "tune"}:
            assert "transformers" not in {m.split(".")[0] for m in imports(file)}, file


def test_lmms_eval_is_imported_on_demand() -> None:
    theirs = ROOT / "evalkit" / "lmms_plugin" / "model.py"  # the class that lmms-eval itself imports by name
    for file in set(sources("evalkit")) - {theirs}:
        assert "lmms_eval" not in {m.split(".")[0] for m in imports(file, top_level=True)}, file


@pytest.mark.parametrize("command", [["-m", "evalkit", "--help"], ["run_eval.py", "--help"]])
def test_help_imports_nothing_heavy(command: list[str]) -> None:
    """What makes --help slow is imports; time itself is not asserted."""
    code = (
        "import runpy, sys\n"
        f"sys.argv = {command[-2:]!r}\n"
        "try:\n"
        f"    {'runpy.run_module' if command[0] == '-m' else 'runpy.run_path'}({command[-2]!r}, run_name='__main__')\n"
        "except SystemExit as stop:\n"
        "    assert not stop.code, stop.code\n"
        f"print('HEAVY', sorted({HEAVY | TRACKERS!r} & set(sys.modules)))\n"
    )
    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "HEAVY []" in out.stdout, out.stdout[-300:]
    assert "usage" in out.stdout.lower() or "settings" in out.stdout.lower()
