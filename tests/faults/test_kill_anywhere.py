"""Runs that are killed or stopped at any moment: no answer is lost, none is given twice, and the same command goes on.

The moments are drawn with a seed from all those that an undisturbed run comes to.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from evalkit.runs.folder import ANSWERS
from evalkit.tiny.model import random_checkpoint
from tests.support import clips, rows, small_ray
from tests.support.answer_lines import MEASURED, counted, without_measured
from tests.support.golden import ROOT
from tests.support.stopped_runs import Ended, Runs

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

pytestmark = pytest.mark.slow

POINTS = ("start-up", "decode", "prefill", "half a line", "write", "flush", "rename", "tables", "reading back")
OF_THE_PARENT = tuple(point for point in POINTS if point not in ("decode", "prefill"))  # where workers do those
TABLES = ("accuracy.csv", "accuracy.md", "differences.csv")
QUESTIONS = 3
LAYERS = 2  # what is stored, and when, depends on no more of them


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A grid of two methods at one ratio: two questions on one video, one on another."""
    root = tmp_path_factory.mktemp("data")
    random_checkpoint(root / "tiny", 0, LAYERS)
    videos = ["street_1.mp4", "street_1.mp4", "street_2.mp4"]
    asked = [rows.mlvu_row(video=name, duration=0.96, question=f"What is seen {n}?") for n, name in enumerate(videos)]
    rows.write_json(root / "json" / "1_plotQA.json", asked)
    (root / "video" / "1_plotQA").mkdir(parents=True)
    for name in set(videos):
        clips.make(root / "video" / "1_plotQA" / name, frames=24, size=(56, 56))
    return [
        "benchmark=mlvu",
        f"benchmark.root={root}",
        f"backbone.path={root / 'tiny'}",
        "backbone.device=cpu",
        "executor.workers=1",
        "methods=[uniform,retake]",
        "ratios=[0.5]",
        "sampling.frames=8",
        "report=false",
        "protocol=xcomp",
    ]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, settings: list[str]) -> Iterator[Runs]:
    started = Runs(tmp_path_factory.mktemp("runs"), settings)
    yield started
    started.close()


class Undisturbed:
    """What a run leaves when nothing happens to it."""

    def __init__(self, ended: Ended, results: Path) -> None:
        self.passed = ended.passed
        self.answers, self.tables = answers(results), tables(results)


@pytest.fixture(scope="module")
def undisturbed(runs: Runs, settings: list[str], tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    results = tmp_path_factory.mktemp("undisturbed")
    ended = runs.run([*settings, f"results_dir={results}"])
    assert ended.code == 0, ended.said
    return Undisturbed(ended, results)


def answers(results: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """Each line, without what depends on which questions were asked together."""
    return {
        key: {**line, "ledger": counted(line["ledger"], but=("shared_prefix", "seconds_shared", *MEASURED))}
        for key, line in without_measured(results).items()
    }


def tables(results: Path) -> dict[str, str]:
    return {name: (results / name).read_text() for name in TABLES}


def stored(results: Path) -> dict[str, list[dict[str, Any]]]:
    """Whole lines of each run folder."""
    return {
        file.parent.name: [json.loads(line) for line in file.read_bytes().split(b"\n")[:-1]]
        for file in results.rglob(ANSWERS)
    }


def drawn(undisturbed: Undisturbed, seed: int, points: Sequence[str] = POINTS) -> list[tuple[str, int]]:
    """A moment at each point, in any order."""
    draw = Random(seed)
    points = draw.sample(points, len(points))
    return [(point, draw.randint(1, undisturbed.passed[point])) for point in points]


def campaign(
    runs: Runs,
    settings: list[str],
    results: Path,
    undisturbed: Undisturbed,
    moments: list[tuple[str, int]],
    defect: str = "",
) -> int:
    """Kill a run at one moment after the other, and finish it; how often it was killed.

    What was stored before stands after each kill, no answer that was given is missing, and in the end all is as if
    nothing had happened.
    """
    here, killed = [*settings, f"results_dir={results}"], 0
    for moment in moments:
        before = stored(results)
        ended = runs.run(here, moment, signal.SIGKILL, defect)
        after = stored(results)
        assert all(after[name][: len(lines)] == lines for name, lines in before.items())
        if ended.code == -signal.SIGKILL:
            killed += 1
            point, number = moment
            given = sum(map(len, after.values())) - sum(map(len, before.values()))
            if point in ("half a line", "write"):
                assert given == number - 1
        else:  # it did not come to this moment
            assert ended.code == 0, ended.said
    ended = runs.run(here, defect=defect)
    assert ended.code == 0, ended.said
    assert answers(results) == undisturbed.answers
    assert tables(results) == undisturbed.tables
    return killed


@pytest.mark.parametrize("seed", range(3))
def test_killed_anywhere_it_goes_on(
    seed: int, runs: Runs, settings: list[str], undisturbed: Undisturbed, tmp_path: Path
) -> None:
    """Nine moments, of which those before the run's own last answer are always reached."""
    assert set(undisturbed.passed) == set(POINTS)
    assert len(undisturbed.answers) == 2 * QUESTIONS
    assert campaign(runs, settings, tmp_path, undisturbed, drawn(undisturbed, seed)) >= 4


@pytest.mark.parametrize("seed", range(3, 6))
def test_killed_anywhere_with_worker_processes_it_goes_on(
    seed: int, runs: Runs, settings: list[str], undisturbed: Undisturbed, tmp_path: Path
) -> None:
    """Seven moments of the process that writes."""
    moments = drawn(undisturbed, seed, OF_THE_PARENT)
    assert campaign(runs, [*settings, "executor.workers=2"], tmp_path, undisturbed, moments) >= 3


def test_killed_anywhere_with_ray_it_goes_on(
    runs: Runs, settings: list[str], undisturbed: Undisturbed, tmp_path: Path
) -> None:
    """Two moments of the driver; the cluster goes on without it, as one of several nodes does."""
    pytest.importorskip("ray")
    moments = [("write", Random(6).randint(2, 5)), ("tables", 1)]
    with small_ray.cluster(cores=1) as address:
        of_ray = ["executor=ray", "executor.workers=1", f"executor.address={address}"]
        here = [*(word for word in settings if not word.startswith("executor.")), *of_ray]
        assert campaign(runs, here, tmp_path, undisturbed, moments) == 2


@pytest.mark.parametrize(
    ("defect", "moment"), [("answers are kept back", ("write", 4)), ("torn lines stay", ("half a line", 3))]
)
def test_without_its_protection_answers_are_lost(
    defect: str, moment: tuple[str, int], runs: Runs, settings: list[str], undisturbed: Undisturbed, tmp_path: Path
) -> None:
    """The negative control."""
    with pytest.raises(AssertionError):
        campaign(runs, settings, tmp_path, undisturbed, [moment], defect)


@pytest.mark.parametrize(
    ("sent", "point"), [(signal.SIGINT, "prefill"), (signal.SIGTERM, "decode"), (signal.SIGHUP, "tables")]
)
def test_a_signal_ends_a_run_with_one_line(
    sent: signal.Signals, point: str, runs: Runs, settings: list[str], undisturbed: Undisturbed, tmp_path: Path
) -> None:
    here = [*settings, f"results_dir={tmp_path}"]
    ended = runs.run(here, (point, undisturbed.passed[point]), sent)
    assert ended.code == 128 + sent, ended.said
    assert "Traceback" not in ended.said
    assert ended.said.splitlines()[-1].startswith("stopped: answers given so far are stored")
    if sent is signal.SIGINT:
        assert runs.run(here).code == 0
        assert answers(tmp_path) == undisturbed.answers


INTERRUPTED_IMPORT = """
import signal, sys
class Finder:
    def find_spec(self, name, *_):
        if name == "hydra":
            signal.raise_signal(signal.SIGTERM)
sys.meta_path.insert(0, Finder())
sys.argv = ["run_eval.py"]
import runpy
runpy.run_path("run_eval.py", run_name="__main__")
"""


def test_a_signal_before_anything_is_loaded() -> None:
    command = [sys.executable, "-c", INTERRUPTED_IMPORT]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 128 + signal.SIGTERM, ended.stderr
    assert ended.stderr.startswith("stopped: answers given so far are stored")
    assert len(ended.stderr.splitlines()) == 1
