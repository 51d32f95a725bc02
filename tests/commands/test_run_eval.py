"""run_eval.py as users start it, on a small folder of generated clips in the three formats."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from omegaconf import DictConfig

from evalkit.commands import run
from evalkit.commands.run_eval import STARTING
from evalkit.engine.answer import Engine
from evalkit.engine.timing import Timer
from evalkit.errors import ConfigError, DataError
from evalkit.runs.folder import ANSWERS, TIMING
from evalkit.tiny.model import random_checkpoint
from tests.support import clips, one_process, rows
from tests.support.answer_lines import without_measured
from tests.support.configs import composed

ROOT = Path(__file__).parents[2]
Texts = dict[str, dict[str, object]]  # by run folder and question
GRID = ["methods=[uniform,blind]", "ratios=[1.0,0.5]", "sampling.frames=8"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One VideoMME video with three questions, one MLVU and one LVBench video; one more whose file is missing."""
    root = tmp_path_factory.mktemp("data")
    clip = clips.make(root / "clip.mp4", frames=40, size=(112, 112))
    rows.write_parquet(root / "videomme" / rows.VIDEOMME_FILE, [rows.videomme_row(n) for n in (1, 2, 3)])
    rows.write_json(root / "mlvu" / "json" / "1_plotQA.json", [rows.mlvu_row(), rows.mlvu_row(video="gone.mp4")])
    rows.write_lines(root / "lvbench" / rows.LVBENCH_LINES, [rows.lvbench_line()])
    videos = ["videomme/data/vid-_001.mp4", "mlvu/video/1_plotQA/street_1.mp4"]
    videos.append(f"lvbench/videos/{rows.lvbench_line()['key']}.mp4")
    for name in videos:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(clip.read_bytes())
    for name in ("videomme", "mlvu", "lvbench"):
        rows.write_json(root / name / "GENERATED.json", {"version": "test"})
    return root


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights in two layers: which answers come does not matter here, and no reply ends before its limit."""
    return random_checkpoint(tmp_path_factory.mktemp("backbone") / "tiny", 0, layers=2)


def config(data: Path, results: Path, checkpoint: Path, *overrides: str) -> DictConfig:
    common = [f"benchmark.root={data}", f"results_dir={results}", f"backbone.path={checkpoint}", *GRID]
    return composed(*common, *overrides)


def lines(results: Path) -> dict[str, list[dict[str, object]]]:
    """Answers by run folder, relative to the results."""
    return {
        str(file.parent.relative_to(results)): [json.loads(line) for line in file.read_text().splitlines()]
        for file in sorted(results.rglob(ANSWERS))
    }


def texts(results: Path, only: str = "") -> Texts:
    """Replies; `only`: of runs whose folder has this in its path."""
    found = {run: answers for run, answers in lines(results).items() if only in run}
    return {run: {str(a["question_id"]): a["text"] for a in answers} for run, answers in found.items()}


@pytest.fixture(scope="module")
def results(data: Path, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of the whole grid."""
    folder = tmp_path_factory.mktemp("results")
    assert run.run(config(data, folder, checkpoint)).failed == 4  # the missing video, once per operating point
    return folder


def test_a_grid_fills_one_folder_per_cell_and_writes_tables(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = lines(results)
    assert len(runs) == 3 * 4
    assert all(run.startswith("generated-") for run in runs)
    assert sum(len(answers) for answers in runs.values()) == (3 + 2 + 1) * 4
    for name in ("accuracy.csv", "accuracy.md", "budget.csv", "budget.md"):
        text = (results / name).read_text()
        assert "generated videos (VideoMME format)" in text
        assert "VideoMME" not in text.replace("(VideoMME format)", "")
    failed = [a for answers in runs.values() for a in answers if a["status"] == "failed"]
    assert {a["question_id"] for a in failed} == {"1_plotQA:1"}
    assert all("gone.mp4" in str(a["error"]) for a in failed)


@pytest.mark.slow
def test_a_second_start_answers_only_what_is_missing(
    results: Path, data: Path, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = shutil.copytree(results, tmp_path / "results")
    before = lines(results)
    asked: list[str] = []
    answers = Engine.answers

    def watched(self: Engine, pending, following=None):  # type: ignore[no-untyped-def]
        asked.extend(q.id for questions in pending.values() for q in questions)
        return answers(self, pending, following)

    monkeypatch.setattr(Engine, "answers", watched)
    assert run.run(config(data, results, checkpoint)).failed == 4
    assert asked == ["1_plotQA:1"] * 4  # the failed rows alone
    after = lines(results)
    assert {run: len(a) for run, a in after.items()} != {run: len(a) for run, a in before.items()}
    cut = next(iter(results.rglob(ANSWERS)))
    cut.write_text("".join(line + "\n" for line in cut.read_text().splitlines()[:1]))
    asked.clear()
    run.run(config(data, results, checkpoint))
    assert len(asked) == 4 + len(before[str(cut.parent.relative_to(results))]) - 1


@pytest.mark.slow
def test_without_sharing_the_answers_and_folders_are_the_same(
    results: Path, data: Path, checkpoint: Path, tmp_path: Path
) -> None:
    """Of the set with several questions about a video."""
    words = ("benchmark=videomme", f"benchmark.root={data / 'videomme'}", "share=false")
    run.run(config(data, tmp_path, checkpoint, *words))
    assert len(texts(tmp_path)) == 4
    assert texts(tmp_path) == texts(results, "generated-videomme")


@pytest.mark.slow
def test_timing_comes_after_the_answers_and_changes_no_folder(
    results: Path, data: Path, checkpoint: Path, tmp_path: Path
) -> None:
    """One readable video in each set: one line for each run, and the tables take their seconds from there."""
    run.run(config(data, tmp_path, checkpoint, "ratios=[0.5]", "timing=2"))
    assert texts(tmp_path) == texts(results, "-r0.5-")
    measured = [json.loads(file.read_text()) for file in tmp_path.rglob(TIMING)]  # the missing video is not drawn
    assert len(measured) == 3 * 2
    assert {(line["status"], line["videos"], line["conditions"]["device"]) for line in measured} == {("ok", 2, "cpu")}
    spent = pd.read_csv(tmp_path / "budget.csv")
    assert set(spent[spent["group"] == "all"]["seconds"]) == {"timed"}
    assert set(pd.read_csv(results / "budget.csv")["seconds"]) == {"shared"}


@pytest.mark.slow
def test_workers_give_the_same_answers(
    results: Path, data: Path, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the same folders, with the same tables; what is timed afterwards is alone."""
    monkeypatch.setattr(Engine, "answers", None)  # nothing is answered in this process
    left: list[int] = []
    monkeypatch.setattr(Timer, "measure", lambda *_: left.append(len(multiprocessing.active_children())) or 0)
    words = ["executor.workers=2", "timing=1"]
    assert run.run(config(data, tmp_path, checkpoint, *words)).failed == 4
    one, many = without_measured(results), without_measured(tmp_path)
    assert many == one
    assert len(many) == 24
    assert (tmp_path / "accuracy.csv").read_text() == (results / "accuracy.csv").read_text()
    assert set(left) == {0}
    changed = without_measured(tmp_path)  # negative control
    next(iter(changed.values()))["prompt"] = "another"
    assert changed != one


STOPPED = """
import signal, sys
from types import ModuleType
from evalkit.commands import run_eval
from evalkit.engine.executor import forking
sent, folder, forking.LIBRARIES = int(sys.argv[1]), sys.argv[2], ()  # the process of workers starts, and loads nothing
signal.signal(sent, signal.SIG_DFL)  # which a shell may have had ignored
run = sys.modules["evalkit.commands.run"] = ModuleType("run")  # in its place: nothing that takes seconds to import
run.run = lambda cfg: signal.raise_signal(sent)
sys.exit(run_eval.main([f"results_dir={folder}"]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_run_with_one_line(sent: signal.Signals, tmp_path: Path) -> None:
    command = [sys.executable, "-c", STOPPED, str(int(sent)), str(tmp_path)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 128 + sent, ended.stderr
    assert ended.stderr.startswith(f"{STARTING}\n")
    assert ended.stderr.splitlines()[-1].startswith("stopped: answers given so far are stored")
    assert "Traceback" not in ended.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    "override", ["seed=1", "sampling.frames=6", "backbone.dtype=bfloat16", "ratios=[0.5]", "methods=[lowres]"]
)
def test_what_changes_answers_changes_the_folder(
    override: str, results: Path, data: Path, checkpoint: Path, tmp_path: Path
) -> None:
    """By one operating point of the finished grid, and the same with one setting more."""
    one = ["benchmark=lvbench", "methods=[uniform]", "ratios=[1.0]"]
    run.run(config(data / "lvbench", tmp_path, checkpoint, *one, override))
    new, old = set(lines(tmp_path)), set(lines(results))
    assert new
    if override == "ratios=[0.5]":
        assert new < old
    else:
        assert not new & old


def test_dry_run_runs_nothing(data: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run.run(config(data, tmp_path, checkpoint, "dry_run=true")).folders == ()
    out = capsys.readouterr().out
    assert not list(tmp_path.iterdir())
    assert "KV MB" in out
    assert "generated videos (MLVU format)" in out


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("methods=[nonsense]", "nonsense"),
        ("ratios=[0]", r"\(0, 1\]"),
        ("ratios=[1.5]", r"\(0, 1\]"),
        ("ratios=[half]", "half"),
        ("protocol=guess", "lmms_eval"),
        ("reader=eyes", "pyav"),
        ("timing=-1", "timing=8"),
        ("backbone.device=cuda:7", "device"),
    ],
)
def test_wrong_settings_are_explained(
    override: str, message: str, data: Path, checkpoint: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        run.run(config(data, tmp_path, checkpoint, override))


def test_real_benchmarks_need_a_root(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"benchmark\.root=DIR"):
        run.run(config(tmp_path, tmp_path, checkpoint, "benchmark=mlvu", "benchmark.root=null"))
    with pytest.raises(DataError, match="nowhere"):
        run.run(config(tmp_path / "nowhere", tmp_path, checkpoint, "benchmark=mlvu"))


@pytest.mark.slow
def test_the_command_line(data: Path, checkpoint: Path, results: Path, tmp_path: Path) -> None:
    """A Hydra sweep fills the same folders with the same answers; its exit code."""
    command = ["run_eval.py", "-m", "method=uniform,blind", "ratio=0.5", "sampling.frames=8", "executor.workers=1"]
    command += [f"benchmark.root={data}", f"backbone.path={checkpoint}", f"results_dir={tmp_path}", "report=false"]
    told, said = one_process.run({"sweep": command}, ROOT, os.environ)
    assert told["sweep"].code == 3, said[-2000:]
    assert texts(tmp_path) == texts(results, "-r0.5-")
    assert set(pd.read_csv(tmp_path / "budget.csv")["method"]) == {"uniform", "blind"}  # of the whole sweep


@pytest.mark.slow
def test_trackers_are_checked_before_a_run_and_told_after_it(data: Path, tmp_path: Path, checkpoint: Path) -> None:
    with pytest.raises(ConfigError, match="tracker: expected one of tensorboard"):
        run.run(config(data, tmp_path / "results", checkpoint, "trackers=[nowhere]"))
    assert not (tmp_path / "results").exists()
    pytest.importorskip("tensorboard")
    few = ["benchmark=lvbench", "ratios=[0.5]", "trackers=[tensorboard]"]
    outcome = run.run(config(data / "lvbench", tmp_path / "results", checkpoint, *few))
    assert len(outcome.folders) == 2
    logged = {file.parent.name for file in (tmp_path / "results" / "tensorboard").rglob("events.out.tfevents.*")}
    assert logged == {folder.name for folder in outcome.folders}
