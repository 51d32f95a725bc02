"""What evalkit costs beside decoding, encoding and the language model: each question, a resumed run, --help.

python perf/harness.py [--videos 900] [--runs 3] [--quick]     a table into RESULTS.md; --quick: 90 videos, no table

Questions are answered by the engine and the run folder that run_eval.py uses, on a model whose frames, features and
layers cost nothing; beside it lmms-eval with its `dummy` model and the same questions. Then `run_eval.py` is started
on the finished run.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from free_model import FreeSetup
from measure import Mark, mark, record, table

from evalkit.commands.run import tables
from evalkit.config import build
from evalkit.config.compose import composed
from evalkit.data.benchmarks import load
from evalkit.engine.executor.base import InProcess
from evalkit.types import Answer
from tests.support import lmms_eval_slice as theirs
from tests.support.rows import VIDEOMME_FILE, touch, videomme_row, write_parquet

ROOT = Path(__file__).parents[1]
NAME, PER_VIDEO = "videomme", 3
A_QUESTION, RESUMED, HELP = 1.0, 1.0, 1.0  # bars: ms, s, s
NOTE = """
CPU: user and system, of all processes; medians of {runs}. A question: {questions} about {videos} videos of no content
in Video-MME's format, uniform at 1, 128 frames, 64 temporal cells, 8 layers, from a loaded model and task to the tables
of the run: all that evalkit does but decoding, the vision encoder and the layers. Its stages are then bookkeeping
alone: position ids and entries of each layer counted; outside of them are plans, frames held, prompts and their tokens,
costs, reading of replies, answers written and synced to disk, tables. lmms-eval {lmms_eval}: the same questions with
its `dummy` model, from requests to results, no prompt tokenized and nothing stored. Resumed: `run_eval.py` on the
finished run, less the same on a run of {few} answers, which is the start-up. Load average when it began: {load:.1f}.
"""


def questions(root: Path, videos: int) -> Path:
    """Rows in Video-MME's format, and empty files for their videos."""
    rows = [videomme_row(number) for number in range(1, videos * PER_VIDEO + 1)]
    write_parquet(root / VIDEOMME_FILE, rows)
    for video in {row["videoID"] for row in rows}:
        touch(root / "data" / f"{video}.mp4")
    (root / "GENERATED.json").write_text('{"version": "none"}', encoding="utf-8")
    return root


def settings(root: Path, results: Path) -> list[str]:
    """Of run_eval.py."""
    point = ["methods=[uniform]", "ratios=[1.0]", "executor.workers=1", "report=false"]
    return [f"benchmark={NAME}", f"benchmark.root={root}", f"results_dir={results}", *point]


@dataclass(frozen=True)
class Spent:
    """CPU and wall seconds of one run from a loaded model to its tables, and the CPU seconds of stages in it."""

    cpu: float
    wall: float
    stages: float  # decoding, encoding, selecting, prefill and reply, which here are bookkeeping alone


def answered(root: Path, results: Path) -> Spent:
    """Run the grid on the model that costs nothing, and leave the finished run behind."""
    grid = build.grid(composed("config", settings(root, results)))
    setup: Any = FreeSetup(**{field.name: getattr(grid.setup, field.name) for field in fields(grid.setup)})
    setup.engine.frame_encoders([None])
    assert setup.record  # hashes the weights: start-up, as what loads the tokenizer and lmms-eval's task
    setup.expect_prompts(NAME)
    setup.check_settings(grid.benchmarks)
    free = replace(grid, setup=setup, executor=InProcess())
    before = mark()
    folders, failed = free.run()
    found = tables(folders, free.results_dir)
    cpu, wall = between(before, mark())
    if failed:
        raise SystemExit(f"{results}: {failed} questions failed")
    return Spent(cpu, wall, sum(stage_seconds(run.answers) for run in found.runs))


def stage_seconds(answers: Sequence[Answer]) -> float:
    """Seconds of the engine's stages; what questions about one video share, once."""
    shared, own = {}, 0.0
    for answer in answers:
        assert answer.ledger is not None
        assert answer.ledger.own_seconds is not None
        own += answer.ledger.own_seconds
        shared[answer.video_id] = answer.ledger.seconds.total - answer.ledger.own_seconds
    return own + sum(shared.values())


def between(before: Mark, after: Mark) -> tuple[float, float]:
    """CPU and wall seconds."""
    return after[0] - before[0], after[1] - before[1]


def command(*words: str) -> tuple[float, float]:
    """CPU and wall seconds of a command of this checkout."""
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, *words], cwd=ROOT, env=environment, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return cpu, time.perf_counter() - start


def dummy(folder: Path, root: Path) -> tuple[float, float]:
    """CPU and wall seconds of lmms-eval's evaluation of these questions with its `dummy` model."""
    found = load(NAME, root)[0].questions
    theirs.as_theirs(folder, NAME, found)
    slice_ = theirs.Slice(root, folder / "tasks", folder / "home", {NAME: found})
    words = [str(slice_.tasks), f"{NAME}_slice", str(folder / "out.json"), "dummy"]
    done = theirs.python(slice_, str(ROOT / "perf" / "lmms_child.py"), *words, cwd=folder)
    if done.returncode:
        raise SystemExit(f"lmms-eval ended with {done.returncode}:\n{done.stderr[-3000:]}")
    out = json.loads((folder / "out.json").read_text(encoding="utf-8"))
    assert out["documents"] == len(found)
    first, last = out["evaluation"]
    return between(first, last)


def median(runs: int, call: Callable[[int], tuple[float, float]]) -> tuple[float, float]:
    """Medians of CPU and wall seconds."""
    spent = [call(number) for number in range(runs)]
    cpu, wall = (statistics.median(column) for column in zip(*spent, strict=True))
    return cpu, wall


def rows(folder: Path, videos: int, runs: int) -> Iterator[dict[str, object]]:
    """All of them."""
    roots = {count: questions(folder / f"data{count}", count) for count in (1, videos)}
    n = videos * PER_VIDEO
    free = [answered(roots[videos], folder / f"answered{run}") for run in range(runs)]
    cpu, wall, beside = (
        1e3 * statistics.median(values) / n
        for values in zip(*[(one.cpu, one.wall, one.cpu - one.stages) for one in free], strict=True)
    )
    yield row("evalkit, a question", [cpu, wall], "ms")
    yield row("of it outside the engine's stages", [beside, None], "ms", A_QUESTION)
    spent = median(runs, lambda run: dummy(folder / f"theirs{run}", roots[videos]))
    yield row("lmms-eval's dummy, a question", [1e3 * seconds / n for seconds in spent], "ms")
    answered(roots[1], folder / "few")
    few = median(runs, lambda _: command("run_eval.py", *settings(roots[1], folder / "few")))
    many = median(runs, lambda _: command("run_eval.py", *settings(roots[videos], folder / "answered0")))
    yield row("start-up of run_eval.py", few, "s")
    yield row(f"resumed, {n:,} answers", [m - f for m, f in zip(many, few, strict=True)], "s", RESUMED)
    for words in (("run_eval.py", "--help"), ("-m", "evalkit", "--help")):
        yield row(" ".join(words), median(runs, lambda _, words=words: command(*words)), "s", HELP)  # type: ignore[misc]


def row(what: str, spent: Sequence[float | None], unit: str, bar: float | None = None) -> dict[str, object]:
    """One measurement against its bar."""
    cpu, wall = spent
    assert cpu is not None
    verdict = "" if bar is None else f"≤ {bar:g} {unit} {'held' if cpu <= bar else 'missed'}"
    return {"what": what, "CPU": cpu, "wall": "" if wall is None else wall, "unit": unit, "bar (CPU)": verdict}


def main() -> None:
    """Measure everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=900)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    load_average = os.getloadavg()[0]
    if args.quick:
        args.videos, args.runs = 90, 1
    with tempfile.TemporaryDirectory() as folder:
        found = list(rows(Path(folder), args.videos, args.runs))
    note = NOTE.format(
        runs=args.runs,
        questions=args.videos * PER_VIDEO,
        videos=args.videos,
        lmms_eval=version("lmms-eval"),
        few=PER_VIDEO,
        load=load_average,
    ).strip()
    print(
        f"{table(found)}\n\n{note}"
        if args.quick
        else record("Harness: a question, a resumed run, --help (CPU)", found, note)
    )


if __name__ == "__main__":
    main()
