"""evalkit against lmms-eval: questions per CPU second and per wall second, with equal answers.

python perf/against_lmms_eval.py [--data DIR] [--videos 12] [--runs 1] [--wall] [--points dense …]     into RESULTS.md
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
import textwrap
from collections.abc import Iterator, Sequence
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
greedy decoding. lmms-eval {lmms_eval}: a plain model of its plugin form, which reads, processes and generates for
each question on {threads} thread. It reads by lmms-eval's `read_video` (PyAV, its default), which decodes every frame
up to the last one; in the rows "evalkit's reader" by that instead, so that reading is not compared, and for those
there is no goal. It shares nothing between questions, so that its rate is measured once, over {most} questions a
video. evalkit: `run_eval.py executor.workers=1 decode.ahead=0` with one method at one ratio: a cache of all tokens
(uniform at 1), of {quarter} frames (uniform at 0.25; lmms-eval's model then reads as few), of a quarter of the tokens
(retake at 0.25, against the dense model, as lmms-eval has no compression). CPU seconds are user and system of all
processes, from the end of the first video to that of the last, so without loading; evalkit's hold its run folders,
each answer synced to disk. Medians of {runs} in turn, each from a process of its own. {wall} All replies of the
uniform rows were asserted equal, with right positions handed to lmms-eval's model; transformers' own positions, which
let text begin inside the video's span of time, change {changed} of {total} of its replies. Load average when it
began: {load:.1f} on {cores} cores.
"""
WALL_NOTE = f"Per s: wall seconds from loaded models to the last answer, evalkit's by {WORKERS} worker processes."
NO_WALL = "Wall seconds by worker processes: not measured."


@dataclass(frozen=True)
class Point:
    """One operating point of evalkit, and what lmms-eval can do against it."""

    method: str
    ratio: float
    share: float = 1.0  # of the frames that lmms-eval's model reads
    reader: str = "evalkit"  # of lmms-eval's model; the goals are about its own

    @property
    def equal(self) -> bool:
        """Whether answers must be: both see the same tokens."""
        return self.method == "uniform"


POINTS = {
    "dense": Point("uniform", 1.0, reader="lmms_eval"),
    "same_reader": Point("uniform", 1.0),
    "fewer_frames": Point("uniform", 0.25, share=0.25),
    "retake": Point("retake", 0.25),
}


@dataclass(frozen=True)
class Ran:
    """One process: its replies by question, and how many a second."""

    replies: dict[str, str]
    per_cpu_s: float
    per_s: float

    @classmethod
    def of(cls, found: dict[str, Any], replies: dict[str, str], first: int) -> Ran:
        """`first`: questions about the first video."""
        (_, begun), (warm, _), (cpu, ended) = found["marks"]
        return cls(replies, (len(replies) - first) / (cpu - warm), len(replies) / (ended - begun))


class Processes:
    """Starts both sides on the same questions, in a folder."""

    def __init__(self, folder: Path, args: argparse.Namespace) -> None:
        self.folder, self.args, self._started = folder, args, 0
        self.slices = {n: asked(args.data.resolve() / NAME, folder / str(n), args.videos, n) for n in args.questions}
        self.most = max(args.questions)
        self.right: dict[Point, dict[str, str]] = {}  # replies of lmms-eval's model with right positions

    def theirs(self, point: Point, positions: str = "right") -> Ran:
        """lmms-eval's model with most questions: it shares nothing between them, so that others cost the same."""
        most = self.slices[self.most]
        words = ["lmms_child.py", most.tasks, f"{NAME}_slice", self._out(), "plain", "--warm", self.most]
        words += ["--frames", int(point.share * self.args.frames), "--reader", point.reader]
        found = self._run([*words, "--positions", positions, "--threads", self.args.threads])
        ids = [question.id for question in most.questions[NAME]]
        replies = dict(zip(ids, found["replies"], strict=True))
        if positions == "right":
            self.right[point] = replies
        return Ran.of(found, replies, self.most)

    def ours(self, point: Point, questions: int, workers: int) -> Ran:
        """evalkit's run."""
        out = self._out()
        words = ["evalkit_child.py", out, f"benchmark={NAME}", f"benchmark.root={self.slices[questions].root / NAME}"]
        words += [f"methods=[{point.method}]", f"ratios=[{point.ratio}]", f"sampling.frames={self.args.frames}"]
        words += [f"executor.workers={workers}", "decode.ahead=0", f"results_dir={out.with_suffix('')}"]
        found = self._run(words)
        return Ran.of(found, found["replies"], questions)

    def _out(self) -> Path:
        self._started += 1
        return self.folder / f"{self._started}.json"

    def _run(self, words: Sequence[object]) -> dict[str, Any]:
        script, *others = map(str, words)
        print(f"{self._started}: {' '.join(others)}", file=sys.stderr, flush=True)
        done = theirs.python(self.slices[self.most], str(ROOT / "perf" / script), *others, cwd=self.folder)
        if done.returncode:
            raise SystemExit(f"{' '.join(map(str, words))} ended with {done.returncode}:\n{done.stderr[-3000:]}")
        found: dict[str, Any] = json.loads((self.folder / f"{self._started}.json").read_text(encoding="utf-8"))
        return found


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


def compared(run: Processes, name: str) -> Iterator[dict[str, object]]:
    """The rows of one operating point, once answers have been found equal."""
    point, counts = POINTS[name], run.args.questions
    workers = [1, *([WORKERS] if run.args.wall else [])]
    their, ours = [], []
    for _ in range(run.args.runs):
        their.append(run.theirs(point))
        ours.append({(n, w): run.ours(point, n, w) for n in counts for w in workers})
        for (count, some), ran in ours[-1].items():
            expected = their[-1].replies if point.equal else ours[-1][run.most, 1].replies
            if any(expected[question] != reply for question, reply in ran.replies.items()):
                raise SystemExit(f"{name}, {count} a video, {some} workers: other answers, the times say nothing")
    reader = ", evalkit's reader" if point.reader == "evalkit" else ""
    for count in counts:
        cpu = [statistics.median(r.per_cpu_s for r in side) for side in (their, [r[count, 1] for r in ours])]
        goal = GOALS.get(count) if point.reader == "lmms_eval" else None
        row: dict[str, object] = {
            "questions a video": count,
            "evalkit": f"{point.method} at {point.ratio:g}",
            "lmms-eval": f"{int(point.share * run.args.frames)} frames{reader}",
            "lmms-eval per CPU s": cpu[0],
            "evalkit per CPU s": cpu[1],
            "CPU ratio": cpu[1] / cpu[0],
            "CPU goal": verdict(cpu[1] / cpu[0], goal),
        }
        if run.args.wall:
            wall = [statistics.median(r.per_s for r in side) for side in (their, [r[count, WORKERS] for r in ours])]
            row |= {"lmms-eval per s": wall[0], f"evalkit, {WORKERS} workers, per s": wall[1]}
            row |= {"ratio": wall[1] / wall[0], "goal": verdict(wall[1] / wall[0], goal and WALL * goal)}
        yield row


def verdict(ratio: float, goal: float | None) -> str:
    """Whether a goal is held; "" where there is none."""
    return "" if goal is None else f"≥ {goal:.3g} {'held' if ratio >= goal else 'missed'}"


def changed(run: Processes) -> tuple[int, int]:
    """How many answers of lmms-eval's model transformers' own positions change, and of how many."""
    point, right = next(iter(run.right.items()))
    wrong = run.theirs(point, positions="transformers").replies
    return sum(right[question] != wrong[question] for question in right), len(right)


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
    parser.add_argument("--points", nargs="+", choices=list(POINTS), default=list(POINTS))
    parser.add_argument("--wall", action="store_true", help="wall seconds with worker processes, too: a quiet machine")
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    load_average = os.getloadavg()[0]
    if args.quick:
        args.videos, args.questions, args.points = 2, [1, 3], ["dense"]
    with tempfile.TemporaryDirectory() as folder:
        run = Processes(Path(folder), args)
        rows = [row for name in args.points for row in compared(run, name)]
        different, total = changed(run)
    note = " ".join(NOTE.split()).format(
        videos=args.videos,
        frames=args.frames,
        quarter=args.frames // 4,
        lmms_eval=version("lmms-eval"),
        threads=args.threads,
        runs=args.runs,
        most=run.most,
        wall=(WALL_NOTE if args.wall else NO_WALL),
        changed=different,
        total=total,
        load=load_average,
        cores=machine.cores(),
    )
    title = "Against lmms-eval: questions per second with equal answers (CPU)"
    note = textwrap.fill(note, 120)
    print(f"{table(rows)}\n\n{note}" if args.quick else record(title, rows, note))


if __name__ == "__main__":
    main()
