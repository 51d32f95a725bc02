"""evalkit against lmms-eval: questions per CPU second and per wall second, with equal answers.

python perf/against_lmms_eval.py [--data DIR] [--videos 12] [--questions 1 3 15] [--runs 1]     a table into RESULTS.md
python perf/against_lmms_eval.py --quick     two videos, 1 and 3 questions, one operating point; records nothing

`python -m evalkit data make` first: it takes the generated videos in LVBench's format, which have 15 questions each.
lmms-eval runs a plain model of its own plugin form (lmms_child.py), evalkit what run_eval.py runs (evalkit_child.py);
both with the same checkpoint, frames, prompts and greedy decoding, lmms-eval's with right positions. Answers of the
operating points that both have are asserted equal before anything is compared.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from measure import record, table

from evalkit import machine
from evalkit.data.benchmarks import load
from tests.support import lmms_eval_slice as theirs
from tests.support.rows import LVBENCH_LINES

ROOT = Path(__file__).parents[1]
NAME = "lvbench"
GOALS = {1: 1.0, 3: 2.9, 15: 12.0}  # questions a video -> questions per CPU second, times lmms-eval's
WORKERS, WALL = 2, 1.8  # with so many worker processes, the goal per wall second is so many times that
NOTE = """
Generated videos in LVBench's format, {videos} of them, {frames} frames of 112×112 pixels each; built-in checkpoint,
greedy decoding. lmms-eval {lmms_eval}: a plain model of its plugin form, which reads, processes and generates for each
question, with {threads} threads; it reads by evalkit's own reader, in the rows "own reader" by lmms-eval's (PyAV).
evalkit: `run_eval.py executor.workers=1 decode.ahead=0` with one method at one ratio: a cache of all tokens (uniform at
1), of {quarter} frames (uniform at 0.25; lmms-eval's model then reads as few), of a quarter of the tokens (retake at
0.25, against the dense model, as lmms-eval has no compression). CPU seconds are user and system of all processes, from
the end of the first video to that of the last, so without loading; evalkit's hold run folders, each answer synced to
disk. Per s: wall seconds from loaded models to the last answer, evalkit's by {workers} worker processes. Medians of
{runs} in turn, each row from processes of its own. All replies of the uniform rows were asserted equal, with right
positions handed to lmms-eval's model; transformers' own positions, which let text begin inside the video's span of
time, change {changed} of {total} of its replies. Load average when it began: {load:.1f} on {cores} cores; where other
work ran, CPU seconds count and wall seconds do not.
"""


@dataclass(frozen=True)
class Point:
    """One operating point of evalkit, and what lmms-eval can do against it."""

    method: str
    ratio: float
    frames: int  # of lmms-eval's model
    equal: bool  # whether answers must be equal
    reader: str = "evalkit"  # of lmms-eval's model


def points(frames: int) -> list[Point]:
    """Those that are compared."""
    return [
        Point("uniform", 1.0, frames, equal=True),
        Point("uniform", 1.0, frames, equal=True, reader="lmms_eval"),
        Point("uniform", 0.25, frames // 4, equal=True),
        Point("retake", 0.25, frames, equal=False),
    ]


@dataclass(frozen=True)
class Ran:
    """One process: its replies in the order of the questions, and what they cost."""

    replies: list[str]
    questions_per_cpu_s: float
    questions_per_s: float


class Comparison:
    """The same questions for both, in a folder."""

    def __init__(self, folder: Path, questions: int, args: argparse.Namespace) -> None:
        self.folder, self.questions, self.frames, self.threads = folder, questions, args.frames, args.threads
        self.slice = asked(args.data.resolve() / NAME, folder, args.videos, questions)
        self._runs = 0

    def theirs(self, point: Point, positions: str = "right") -> Ran:
        """lmms-eval's model."""
        words = ["lmms_child.py", self.slice.tasks, f"{NAME}_slice", self._out(), "plain", "--warm", self.questions]
        words += ["--frames", point.frames, "--reader", point.reader, "--positions", positions]
        found = self._run([*words, "--threads", self.threads])
        return self._ran(found, found["replies"])

    def ours(self, point: Point, workers: int) -> Ran:
        """evalkit's run."""
        words = ["evalkit_child.py", self._out(), f"benchmark={NAME}", f"benchmark.root={self.folder / 'data' / NAME}"]
        words += [f"methods=[{point.method}]", f"ratios=[{point.ratio}]", f"executor.workers={workers}"]
        words += [f"sampling.frames={self.frames}", "decode.ahead=0", f"results_dir={self.folder / str(self._runs)}"]
        found = self._run(words)
        return self._ran(found, [found["replies"][question.id] for question in self.slice.questions[NAME]])

    def _out(self) -> Path:
        self._runs += 1
        return self.folder / f"{self._runs}.json"

    def _run(self, words: Sequence[object]) -> dict[str, Any]:
        script, *others = map(str, words)
        done = theirs.python(self.slice, str(ROOT / "perf" / script), *others, cwd=self.folder)
        if done.returncode:
            raise SystemExit(f"{' '.join(map(str, words))} ended with {done.returncode}:\n{done.stderr[-3000:]}")
        found: dict[str, Any] = json.loads((self.folder / f"{self._runs}.json").read_text(encoding="utf-8"))
        return found

    def _ran(self, found: dict[str, Any], replies: list[str]) -> Ran:
        (_, begun), (warm, _), (cpu, ended) = found["marks"]
        return Ran(replies, (len(replies) - self.questions) / (cpu - warm), len(replies) / (ended - begun))


def asked(data: Path, root: Path, videos: int, questions: int) -> theirs.Slice:
    """The first questions of the first videos, for both; files are linked."""
    own = root / "data" / NAME
    own.mkdir(parents=True)
    lines = [json.loads(line) for line in (data / LVBENCH_LINES).read_text(encoding="utf-8").splitlines()[:videos]]
    short = [line for line in lines if len(line["qa"]) < questions]
    if len(lines) < videos or short:
        raise SystemExit(f"{data}: expected {videos} videos with {questions} questions; python -m evalkit data make")
    text = "".join(json.dumps(line | {"qa": line["qa"][:questions]}) + "\n" for line in lines)
    (own / LVBENCH_LINES).write_text(text, encoding="utf-8")
    for name in ("videos", "GENERATED.json"):
        (own / name).symlink_to(data / name)
    found = load(NAME, own)[0].questions
    theirs.as_theirs(root, NAME, found)
    return theirs.Slice(root / "data", root / "tasks", root / "home", {NAME: found})


def compared(own: Comparison, point: Point, runs: int) -> dict[str, object]:
    """One row, once answers have been found equal."""
    spent: list[tuple[Ran, Ran, Ran]] = []
    for _ in range(runs):
        spent.append((own.theirs(point), own.ours(point, 1), own.ours(point, WORKERS)))
        their, one, more = (ran.replies for ran in spent[-1])
        if one != more or (point.equal and one != their):
            raise SystemExit(f"{point}, {own.questions} a video: other answers, the times say nothing")
    cpu = [statistics.median(ran[side].questions_per_cpu_s for ran in spent) for side in (0, 1)]
    wall = [statistics.median(ran[side].questions_per_s for ran in spent) for side in (0, 2)]
    goal = GOALS.get(own.questions)
    reader = "" if point.reader == "evalkit" else " (own reader)"
    return {
        "questions a video": own.questions,
        "evalkit": f"{point.method} at {point.ratio:g}",
        "lmms-eval": f"{point.frames} frames{reader}",
        "lmms-eval per CPU s": cpu[0],
        "evalkit per CPU s": cpu[1],
        "CPU ratio": cpu[1] / cpu[0],
        "CPU goal": verdict(cpu[1] / cpu[0], goal),
        "lmms-eval per s": wall[0],
        f"evalkit, {WORKERS} workers, per s": wall[1],
        "wall ratio": wall[1] / wall[0],
        "wall goal": verdict(wall[1] / wall[0], goal and WALL * goal),
    }


def verdict(ratio: float, goal: float | None) -> str:
    """Whether a goal is held; "" where there is none."""
    return "" if goal is None else f"≥ {goal:.3g} {'held' if ratio >= goal else 'missed'}"


def changed(own: Comparison, point: Point) -> tuple[int, int]:
    """How many answers of lmms-eval's model transformers' own positions change, and of how many."""
    right, wrong = own.theirs(point).replies, own.theirs(point, "transformers").replies
    return sum(a != b for a, b in zip(right, wrong, strict=True)), len(right)


def main() -> None:
    """All rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT / "data" / "builtin")
    parser.add_argument("--videos", type=int, default=12)
    parser.add_argument("--questions", type=int, nargs="+", default=sorted(GOALS))
    parser.add_argument("--frames", type=int, default=128)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument(
        "--threads", type=int, default=1, help="of lmms-eval's model; evalkit's processes have one each"
    )
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    load, dense = os.getloadavg()[0], points(args.frames)[0]
    if args.quick:
        args.videos, args.questions = 2, [1, 3]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for questions in args.questions:
            own = Comparison(Path(folder) / str(questions), questions, args)
            rows += [compared(own, point, args.runs) for point in ([dense] if args.quick else points(args.frames))]
        different, total = changed(own, dense)
    note = NOTE.format(
        videos=args.videos,
        frames=args.frames,
        quarter=args.frames // 4,
        lmms_eval=version("lmms-eval"),
        threads=args.threads,
        runs=args.runs,
        workers=WORKERS,
        changed=different,
        total=total,
        load=load,
        cores=machine.cores(),
    ).strip()
    title = "Against lmms-eval: questions per second with equal answers (CPU)"
    print(f"{table(rows)}\n\n{note}" if args.quick else record(title, rows, note))


if __name__ == "__main__":
    main()
