"""A built wheel runs without the checkout: the command line, the report, lmms-eval's plugin and tuning."""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.support import clips, one_process, rows

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
    install = ["install", "--no-deps", "--no-index", "--no-compile", "--target", str(folder), str(built)]
    subprocess.run([*pip, *install], check=True)
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


IMPORTED = """
import evalkit, methods
assert all(getattr(evalkit, name) is not None for name in evalkit.__all__)  # in a process that has loaded nothing else
from evalkit.config.compose import CONF
print(evalkit.__file__, methods.__file__, CONF)
"""
EVALUATED = (
    "benchmark.root=data",
    "methods=[uniform,retake]",
    "ratios=[0.5]",
    "sampling.frames=8",
    "backbone.device=cpu",
    "executor.workers=1",
    "report=false",
)
IS_REPORTED = "from pathlib import Path; print(Path('results/report.html').exists())"
TUNED = ("data=builtin", "method=lpcomp", "steps=1", "accumulate=1", "out=tuned", "backbone.device=cpu")
SMALL = ("builtin.cells=[8,4]", "builtin.per_sequence=8", "builtin.questions=1", "lora.rank=2")
PLUGIN = """
from importlib.metadata import entry_points
names = {e.name: e for e in entry_points(group='lmms_eval.models')}
found = names['evalkit'].load()
from evalkit.lmms_plugin import model
print(found.__code__.co_filename, model.__file__, found().simple_class_path)
"""


class Commands:
    """What commands gave that see the wheel and the libraries, and no checkout."""

    def __init__(self, installed: Path, here: Path) -> None:
        evalkit = str(installed / "bin" / "evalkit")
        each = {
            "imports": ("-c", IMPORTED),
            "run": (evalkit, "run", *EVALUATED),
            "before": ("-c", IS_REPORTED),
            "report": (evalkit, "report", "results"),
            "after": ("-c", IS_REPORTED),
            "help": (evalkit, "--help"),
            "settings": ("-m", "evalkit", "run", "--help"),
            "plugin": ("-c", PLUGIN),
        }
        if find_spec("peft"):
            each["tune"] = (evalkit, "tune", *TUNED, *SMALL)
        env = {"PYTHONPATH": str(installed), "PATH": "/usr/bin:/bin", "HOME": str(here), "OMP_NUM_THREADS": "1"}
        self._told, self._stderr = one_process.run(each, here, env)

    def __getitem__(self, name: str) -> str:
        """Output of a command, which must have ended well."""
        assert name in self._told, self._stderr[-3000:]
        assert self._told[name].code == 0, self._stderr[-3000:]
        return self._told[name].out


@pytest.fixture(scope="module")
def told(installed: Path, here: Path) -> Commands:
    return Commands(installed, here)


def test_what_is_imported_comes_from_the_wheel(installed: Path, told: Commands) -> None:
    for place in told["imports"].split():
        assert Path(place).is_relative_to(installed)
    packed = {file.relative_to(installed / "evalkit" / "conf") for file in (installed / "evalkit" / "conf").rglob("*")}
    assert packed >= {file.relative_to(ROOT / "conf") for file in (ROOT / "conf").rglob("*.yaml")}
    assert (installed / "evalkit" / "py.typed").is_file()


def test_an_evaluation_and_its_report(told: Commands, here: Path) -> None:
    assert "generated videos (VideoMME format)" in told["run"]
    assert told["before"].split() == ["False"]
    assert told["report"]
    assert told["after"].split() == ["True"]
    assert not list(here.glob("*.log"))
    assert "usage: evalkit" in told["help"]
    assert "== Settings" in told["settings"]


def test_lmms_evals_plugin(installed: Path, told: Commands) -> None:
    function, module, path = told["plugin"].splitlines()[-1].split()
    assert Path(function).is_relative_to(installed)
    assert Path(module).is_relative_to(installed)
    assert path == "evalkit.lmms_plugin.model.Evalkit"


def test_one_step_of_tuning(told: Commands, here: Path) -> None:
    pytest.importorskip("peft")
    assert told["tune"]
    assert (here / "tuned" / "weights" / "adapter_config.json").is_file()
