"""How far a grid is from its bound: one decoding, one encoding of each clip, one prefill of each operating point.

python perf/sharing.py [--benchmark lvbench] [--questions 5] [--experiment builtin_report]     after `evalkit data make`

One video of the built-in data in one process; prints a table and puts it into RESULTS.md. The bound adds up the run's
own stage times: decoding once, each distinct clip of each size once, choice and prefill of each operating point once
for a question-blind method and once a question for a query-aware one, and one question and reply for each answer. What
operating points share beyond that takes a run below it.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from measure import cpu_seconds, record

from evalkit.config import build, compose
from evalkit.data import video as video_file
from evalkit.engine.answer import Engine
from evalkit.method import OperatingPoint
from evalkit.types import Answer, Question

Answers = Sequence[tuple[OperatingPoint, Answer]]


def bound(engine: Engine, answers: Answers, questions: Sequence[Question]) -> float:
    """Seconds by the stage times of `answers`, all of one video."""
    once: dict[OperatingPoint, float] = defaultdict(float)
    own = decode = 0.0
    clips: dict[tuple[int, int], set[tuple[int, ...]]] = defaultdict(set)
    each: dict[tuple[int, int], float] = {}
    video = video_file.probe(questions[0].video_path)
    encoder, size = engine.frame_encoder, engine.frame_encoder.backbone.clip_frames
    for point, answer in answers:
        spent = answer.ledger
        assert spent is not None, answer.error
        assert spent.own_seconds is not None
        seconds, own, decode = spent.seconds, own + spent.own_seconds, max(decode, spent.seconds.decode)
        once[point] = max(once[point], seconds.select + seconds.prefill + seconds.generate - spent.own_seconds)
        plan = encoder.plan(point, video).frames
        shown = [plan.indices[slot] for slot in plan.slots]
        clips[plan.height, plan.width] |= {tuple(shown[i : i + size]) for i in range(0, len(shown), size)}
        if spent.cells:
            each[plan.height, plan.width] = seconds.encode / (spent.cells * encoder.backbone.cell_frames / size)
    encode = sum(len(found) * each.get(key, 0.0) for key, found in clips.items())
    return decode + encode + sum(once.values()) + own


def main() -> None:
    """One grid."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--benchmark", default="lvbench")
    parser.add_argument("--root", type=Path, default=Path("data/builtin"))
    parser.add_argument("--questions", type=int, default=5)
    parser.add_argument("--experiment", default="builtin_report")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = args.root / args.benchmark
        settings = [f"benchmark={args.benchmark}", f"benchmark.root={root}", f"results_dir={folder}", "subset=ci-50"]
        grid = build.grid(compose.composed("config", [f"experiment={args.experiment}", *settings]))
    (benchmark,) = grid.benchmarks
    questions = next(iter(benchmark.by_video().values()))[: args.questions]
    engine = grid.setup.engine
    engine.frame_encoders({point.adapter for point in grid.points})
    list(engine.answers({grid.points[0]: questions[:1]}))  # what is made once a process
    start, cpu = time.perf_counter(), cpu_seconds()
    answers = list(engine.answers(dict.fromkeys(grid.points, questions)))
    achieved, cpu = time.perf_counter() - start, cpu_seconds() - cpu
    least = bound(engine, answers, questions)
    rows: list[dict[str, object]] = [
        {
            "operating points": len(grid.points),
            "questions": len(questions),
            "answers": len(answers),
            "CPU s": cpu,
            "achieved s": achieved,
            "bound s": least,
            "achieved / bound": achieved / least,
        }
    ]
    note = (
        f"experiment={args.experiment}, one video of the built-in {args.benchmark} set in one process and the one\n"
        "that decodes for it, whose CPU seconds are counted, too. Bound: see the script; below 1 where operating\n"
        "points share caches, replies or what a question looked at."
    )
    print(record("Sharing in a grid: achieved against the bound (CPU)", rows, note))


if __name__ == "__main__":
    main()
