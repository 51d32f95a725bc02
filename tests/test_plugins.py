"""Other packages add methods, benchmarks, protocols, backbones, readers and trackers without an edit here."""

from __future__ import annotations

import inspect
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from evalkit import plugins
from evalkit.config import build, choices
from evalkit.errors import ConfigError
from evalkit.plugins import Registry
from evalkit.runs import identity
from methods.pivotkv import PivotKV
from methods.uniform import Uniform
from tests.support import clips, one_process
from tests.support.configs import composed

ROOT = Path(__file__).parents[1]
PACKAGE = Path(__file__).parent / "plugin_package"
CLASH = r"the name 'uniform' is given by evalkit and by other 2\.0; uninstall one"
Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """A distribution of entry points alone: install(name, version, group, entry="module:object")."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(name: str, version: str, group: str, **points: str) -> None:
        folder = tmp_path / f"{name.replace('-', '_')}-{version}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        lines = [f"{key} = {value}" for key, value in points.items()]
        (folder / "entry_points.txt").write_text("\n".join([f"[evalkit.{group}]", *lines]) + "\n")
        plugins.installed.cache_clear()

    yield write
    plugins.installed.cache_clear()


def registry(group: str = "readers") -> Registry[object]:
    own = {"first": "math:sqrt", "broken": "no_such_module:x"}
    return Registry(group, own, check=callable, expected="a function", remedy="pip install {name}")


def test_evalkits_own_and_others_are_one_list(install: Install) -> None:
    install("my-package", "0.1", "readers", second="math:floor", another="math:ceil")
    found = registry()
    assert list(found) == ["first", "broken", "another", "second"]
    assert found.listed() == "first, broken (evalkit), another, second (my-package 0.1)"
    assert (found.entry("first").foreign, found.entry("second").foreign) == (False, True)
    assert found["second"] is found["second"]
    with pytest.raises(ConfigError, match=r"^reader: expected one of first, .*second \(my-package 0\.1\); got 'third'"):
        found["third"]


def test_nothing_is_imported_before_it_is_chosen(install: Install) -> None:
    install("my-package", "0.1", "readers", second="no_such_module:read", number="math:pi")
    found = registry()
    assert "second" in found
    with pytest.raises(ConfigError, match=r"reader second \(my-package 0\.1\) needs no_such_module:read.*install my-p"):
        found["second"]
    with pytest.raises(ConfigError, match=r"reader broken \(evalkit\) needs .*: pip install broken"):
        found["broken"]
    with pytest.raises(ConfigError, match=r"reader number .*: expected math:pi to be a function, got 3\.14"):
        found["number"]


def test_an_entry_that_does_not_know_its_name(install: Install) -> None:
    install("my-package", "0.1", "protocols", mine="evalkit.data.protocols.official:PROTOCOL")
    found: Registry[object] = Registry("protocols", {}, check=lambda _: True, expected="one", named=True)
    with pytest.raises(ConfigError, match="expected its `name` to be that of its entry point, got 'official'"):
        found["mine"]


@pytest.mark.parametrize("group", ["methods", "readers"])
def test_a_name_that_is_taken_is_an_error(group: str, install: Install) -> None:
    name = {"methods": "uniform", "readers": "first"}[group]
    install("other", "2.0", group, **{name: "math:floor"})
    with pytest.raises(ConfigError, match=CLASH.replace("uniform", name)):
        _ = list(registry()) if group == "readers" else choices.names("method")


def test_two_other_packages_clash(install: Install) -> None:
    install("other", "2.0", "readers", second="math:floor")
    install("third", "1.0", "readers", second="math:ceil")
    with pytest.raises(ConfigError, match=r"'second' is given by (other 2\.0 and by third|third 1\.0 and by other)"):
        list(registry())


def test_what_a_methods_entry_point_may_load(install: Install) -> None:
    install(
        "my-package",
        "0.1",
        "methods",
        a_class="methods.uniform:Uniform",
        settings="tests.test_plugins:SETTINGS",
        file="tests.test_plugins:FILE",
        wrong="math:floor",
    )
    assert dict(choices.settings("method", "a_class")) == {
        "_target_": "methods.uniform.Uniform",
        "max_frames": None,
        "name": "a_class",
    }
    assert dict(choices.settings("method", "settings")) == {**SETTINGS, "name": "settings"}
    assert choices.settings("method", "file")._target_ == "methods.uniform.Uniform"
    assert build.points(composed("methods=[settings]", "ratios=[1.0]"))[0].method == Uniform(max_frames=4)
    with pytest.raises(ConfigError, match=r"method wrong \(my-package 0\.1\): expected math:floor to be settings"):
        choices.settings("method", "wrong")


SETTINGS = {"_target_": "methods.uniform.Uniform", "max_frames": 4}
FILE = ROOT / "conf" / "method" / "uniform.yaml"


def test_a_class_needs_no_registration() -> None:
    entry = "methods=[uniform, {_target_: methods.pivotkv.PivotKV, name: mine, pivots: released}]"
    first, second = build.points(composed(entry, "ratios=[0.5]"))
    assert (first.name, second.name, second.method) == ("uniform", "mine", PivotKV(pivots="released"))
    with pytest.raises(ConfigError, match="method: expected a name"):
        build.points(composed("methods=[{_target_: methods.pivotkv.PivotKV}]"))
    with pytest.raises(ConfigError, match=r"method x: .*no_such"):
        build.points(composed("methods=[{_target_: no_such.Class, name: x}]"))


# ---- a whole package


@pytest.fixture(scope="module")
def packaged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the package of tests/plugin_package is installed: by setuptools alone, which needs no network."""
    source, target = tmp_path_factory.mktemp("source") / "package", tmp_path_factory.mktemp("site")
    shutil.copytree(PACKAGE, source)
    command = [sys.executable, "-W", "ignore", "-c", "from setuptools import setup; setup()", "-q"]
    command += ["egg_info", "--egg-base", str(target), "build_py", "--build-lib", str(target)]
    subprocess.run(command, cwd=source, check=True, capture_output=True)
    return target


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two videos, two questions on each."""
    folder = tmp_path_factory.mktemp("counting")
    for name in "ab":
        clips.make(folder / f"{name}.mp4", frames=48, size=(56, 56))
    asked = [(video, k) for video in "ab" for k in range(2)]
    rows = [{"video": f"{v}.mp4", "question": f"How many? {k}", "options": ["1", "2"], "answer": "A"} for v, k in asked]
    (folder / "questions.json").write_text(json.dumps(rows))
    return folder


CONTRACT = """
import pickle
from evalkit.config import build, compose
from evalkit.data import protocols
from evalkit.engine.executor.description import description
from evalkit.testing import contract
from first_half.method import FirstHalf
test_first_half = contract(FirstHalf())
def test_a_worker_can_be_told_of_it():
    words = ["backbone=tiny_small_chunks", "protocol=terse", "reader=counted", "method=first_half"]
    cfg = compose.composed("config", words)
    told = description(build.setup(cfg, protocols.get(cfg.protocol)), "cpu", 1, ())
    there, points = pickle.loads(pickle.dumps([told, build.points(cfg)]))
    assert (there.protocol, there.setup["reader"], there.setup["backbone"].chunk_cells) == ("terse", "counted", 4)
    assert points[0].method == FirstHalf()
"""


class Commands:
    """What commands gave of a process that finds this checkout and the package."""

    def __init__(self, packaged: Path, data: Path, folder: Path) -> None:
        self.results, self.log = folder / "results", folder / "runs.txt"
        methods = "methods=[uniform,first_half,{_target_: first_half.method.FirstHalf, name: mine, share: 0.5}]"
        run = ["run", "benchmark=counting", f"benchmark.root={data}", "backbone=tiny_small_chunks", "protocol=terse"]
        run += ["reader=counted", "trackers=[text_file]", f"+tracker.text_file.file={self.log}", "print_tables=true"]
        run += ["report=false", methods, "ratios=[0.5]", "sampling.frames=8", f"results_dir={self.results}"]
        score = ["score", "counting", "--annotations", str(data), "--answers", str(self.results / "**/mine-*/*.jsonl")]
        verify = ["data", "verify", "counting", "--root", str(data), "--out", str(folder)]
        dry = ["run", "method=first_half", "method.share=0.5", "benchmark=counting", f"benchmark.root={data}"]
        dry += ["ratio=0.5", "protocol=official", "dry_run=true", f"results_dir={folder / 'dry'}"]
        (folder / "test_mine.py").write_text(CONTRACT)
        each = {
            "run": [*run, "executor.workers=1"],
            "report": ["report", str(self.results)],
            "score": score,
            "verify": verify,
            "dry": dry,
            "wrong": ["run", "method=first_hald"],
        }
        told = {name: ["-m", "evalkit", *words] for name, words in each.items()}
        told["contract"] = ["-m", "pytest", "-q", "-p", "no:cacheprovider", str(folder / "test_mine.py")]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(packaged)])}
        self.told, self.stderr = one_process.run(told, ROOT, environment)

    def expect(self, codes: dict[str, int]) -> None:
        """Exit codes."""
        found = {name: told.code for name, told in self.told.items() if name in codes}
        assert found == codes, self.stderr + "".join(self.told[name].out for name in found)


@pytest.fixture(scope="module")
def commands(packaged: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Commands:
    return Commands(packaged, data, tmp_path_factory.mktemp("commands"))


@pytest.mark.slow
def test_a_package_runs_and_is_reported(commands: Commands) -> None:
    """All six kinds in one run; then the tables, the report, a score and a check of its data."""
    commands.expect({"run": 0, "report": 0, "score": 0, "verify": 0})
    assert "protocol terse 1" in commands.told["run"].out
    assert "read by first_half" in commands.stderr
    assert {line.split("-r")[0] for line in commands.log.read_text().split()} == {"uniform", "first_half", "mine"}
    folders = {file.parent.name.split("-r")[0]: file for file in commands.results.rglob("answers.jsonl")}
    lines = {name: file.read_text().splitlines() for name, file in folders.items()}
    assert {name: len(answers) for name, answers in lines.items()} == {"uniform": 4, "first_half": 4, "mine": 4}
    assert json.loads(lines["first_half"][0])["ledger"]["ratio_achieved"] == 0.5
    assert "Counting" in (commands.results / "report.html").read_text(encoding="utf-8")
    scored = commands.told["score"].out
    assert "official 1" in scored  # the benchmark's own protocol beside that of the package
    assert "terse 1" in scored
    assert "retake 1" not in scored
    assert "2 videos checked, 0 missing, 0 broken" in commands.told["verify"].out


@pytest.mark.slow
def test_a_package_is_chosen_by_name_and_keeps_the_contract(commands: Commands) -> None:
    commands.expect({"dry": 0, "wrong": 2, "contract": 0})
    assert "Counting" in commands.told["dry"].out
    assert "first_half" in commands.told["dry"].out
    assert "xcomp (evalkit), first_half (first-half 0.1); got 'first_hald'" in commands.stderr
    assert "5 passed" in commands.told["contract"].out


# ---- the identity of a run


def test_the_source_of_other_packages_is_part_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from evalkit.data import benchmarks, protocols

    assert identity.foreign_source(protocols.get("official"), benchmarks.REGISTRY["mlvu"]) == ""
    monkeypatch.syspath_prepend(str(PACKAGE))
    import first_half.benchmark
    import first_half.method
    import first_half.protocol

    spec, protocol = first_half.benchmark.SPEC, first_half.protocol.PROTOCOL
    before = [identity.foreign_source(spec), identity.foreign_source(protocol)]
    assert "" not in before
    assert before[0] != before[1]
    source = identity.source(first_half.method.FirstHalf)
    edited = Path(first_half.benchmark.__file__).read_text() + "# edited"
    getsource = inspect.getsource
    monkeypatch.setattr(inspect, "getsource", lambda m: edited if m is first_half.benchmark else getsource(m))
    assert [identity.foreign_source(spec) != before[0], identity.foreign_source(protocol) != before[1]] == [True, False]
    assert identity.source(first_half.method.FirstHalf) == source


def test_a_method_of_another_package_made_of_ours_follows_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """A class outside `methods` that is a PivotKV changes its identity with PivotKV's source."""
    from methods import pivotkv

    theirs = type("Theirs", (PivotKV,), {"__module__": __name__})
    before, getsource = identity.source(theirs), inspect.getsource
    monkeypatch.setattr(inspect, "getsource", lambda m: getsource(m) + ("#" if m is pivotkv else ""))
    assert identity.source(theirs) != before
