"""A built wheel runs without the checkout: the command line, the report, lmms-eval's plugin and tuning."""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.support import clips, rows

ROOT = Path(__file__).parents[1]
NEEDED = ("pyproject.toml", "setup.py", "README.md", "LICENSE")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(int(version("setuptools").split(".")[0]) < 77, reason="building needs setuptools>=77 (.[dev])"),
]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the wheel's packages and its script lie."""
    source, folder = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("installed")
    for name in NEEDED:
        shutil.copy(ROOT / name, source)
    for name in ("conf", "evalkit", "methods"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    wheel = [
        "wheel",
        str(source),
        "--no-deps",
        "--no-index",
        "--no-build-isolation",
        "--wheel-dir",
        str(source / "dist"),
    ]
    subprocess.run([*pip, *wheel], check=True)
    (built,) = (source / "dist").glob("evalkit-*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--no-index", "--target", str(folder), str(built)], check=True)
    return folder


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with a small question set."""
    folder = tmp_path_factory.mktemp("elsewhere")
    rows.write_parquet(folder / "data" / "videomme" / rows.VIDEOMME_FILE, [rows.videomme_row(n) for n in (1, 2)])
    rows.write_json(folder / "data" / "videomme" / "GENERATED.json", {"version": "test"})
    (folder / "data" / "videomme" / "data").mkdir()
    clips.make(folder / "data" / "videomme" / "data" / "vid-_001.mp4", frames=40, size=(112, 112))
    return folder


def start(installed: Path, here: Path, *command: str) -> str:
    """Output of a command that sees the wheel and the libraries, and no checkout."""
    env = {"PYTHONPATH": str(installed), "PATH": "/usr/bin:/bin", "HOME": str(here), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=here, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout + done.stderr


def evalkit(installed: Path, here: Path, *words: str) -> str:
    return start(installed, here, sys.executable, str(installed / "bin" / "evalkit"), *words)


def test_what_is_imported_comes_from_the_wheel(installed: Path, here: Path) -> None:
    code = (
        "import evalkit, methods\n"
        "from evalkit.config.compose import CONF\n"
        "print(evalkit.__file__, methods.__file__, CONF)\n"
    )
    for place in start(installed, here, sys.executable, "-c", code).split():
        assert Path(place).is_relative_to(installed)
    packed = {file.relative_to(installed / "evalkit" / "conf") for file in (installed / "evalkit" / "conf").rglob("*")}
    assert packed >= {file.relative_to(ROOT / "conf") for file in (ROOT / "conf").rglob("*.yaml")}
    assert (installed / "evalkit" / "py.typed").is_file()


def test_an_evaluation_and_its_report(installed: Path, here: Path) -> None:
    words = (
        "benchmark.root=data",
        "methods=[uniform,retake]",
        "ratios=[0.5]",
        "sampling.frames=8",
        "backbone.device=cpu",
        "report=false",
    )
    assert "generated videos (VideoMME format)" in evalkit(installed, here, "run", *words)
    assert not (here / "results" / "report.html").exists()
    evalkit(installed, here, "report", "results")
    assert (here / "results" / "report.html").is_file()
    assert not list(here.glob("*.log"))
    assert "usage: evalkit" in evalkit(installed, here, "--help")
    assert "== Settings" in start(installed, here, sys.executable, "-m", "evalkit", "run", "--help")


def test_lmms_evals_plugin(installed: Path, here: Path) -> None:
    code = (
        "from importlib.metadata import entry_points\n"
        "names = {e.name: e for e in entry_points(group='lmms_eval.models')}\n"
        "found = names['evalkit'].load()\n"
        "from evalkit.lmms_plugin import model\n"
        "print(found.__code__.co_filename, model.__file__, found().simple_class_path)\n"
    )
    function, module, path = start(installed, here, sys.executable, "-c", code).splitlines()[-1].split()
    assert Path(function).is_relative_to(installed)
    assert Path(module).is_relative_to(installed)
    assert path == "evalkit.lmms_plugin.model.Evalkit"


def test_one_step_of_tuning(installed: Path, here: Path) -> None:
    pytest.importorskip("peft")
    words = ("data=builtin", "method=lpcomp", "steps=1", "accumulate=1", "out=tuned", "backbone.device=cpu")
    small = ("builtin.cells=[8,4]", "builtin.per_sequence=8", "builtin.questions=1", "lora.rank=2")
    evalkit(installed, here, "tune", *words, *small)
    assert (here / "tuned" / "weights" / "adapter_config.json").is_file()
