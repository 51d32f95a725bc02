"""Worker processes: the built-in experiment answered by one and by more processes, whole commands in turn.

python perf/executor.py [--data DIR] [--subset full] [--workers 1 2] [--runs 1]     puts a table into RESULTS.md
python perf/executor.py --equal …                                                    only asserts equal answers

`data make` first. It takes twenty minutes, with `--subset ci-50` eight. Answers are asserted equal before any time is
taken: all fields of all lines but seconds and peak memory.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from measure import against_one, record

from evalkit import machine

ROOT = Path(__file__).parents[1]
NOTE = """
`python run_eval.py subset={subset} executor.workers=N`: {runs} run folders, {answers} answers about {videos} videos;
whole commands from their start to the tables, median of {times} in turn. {cores} cores, one thread a worker. First
answer: from the start of the command to the first line of an answers.jsonl. All fields of all answers but seconds and
peak memory were asserted equal. Load average when it began: {load:.1f}.
"""


def main() -> None:
    """Every number of workers, in turn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT / "data" / "builtin")
    parser.add_argument("--subset", default="full")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--equal", action="store_true")
    parser.add_argument("settings", nargs="*", metavar="key=value", help="more settings of run_eval.py")
    args = parser.parse_args()
    load = os.getloadavg()[0]
    times: dict[int, list[tuple[float, float]]] = {workers: [] for workers in args.workers}
    found: dict[str, Any] = {}
    for _ in range(1 if args.equal else args.runs):
        for workers, spent in times.items():
            with tempfile.TemporaryDirectory() as folder:
                words = [f"subset={args.subset}", f"benchmark.root={args.data.resolve()}", *args.settings]
                spent.append(measured(Path(folder), [*words, f"executor.workers={workers}"]))
                now = answers(Path(folder))
            found = found or now
            if now != found:
                raise SystemExit(f"{workers} workers gave other answers: the times say nothing")
    print(f"{len(found)} answers, equal for {args.workers} workers")
    if args.equal:
        return
    medians = {n: [statistics.median(column) for column in zip(*spent, strict=True)] for n, spent in times.items()}
    one = medians[args.workers[0]]
    rows: list[dict[str, object]] = [
        {
            "workers": n,
            "s": wall,
            "first answer s": first,
            "s ratio": wall / one[0],
            **against_one(n, one[0], wall),
        }
        for n, (wall, first) in medians.items()
    ]
    note = NOTE.format(
        subset=args.subset,
        runs=len({key[0] for key in found}),
        answers=len(found),
        videos=len({line["video_id"] for line in found.values()}),
        times=args.runs,
        cores=machine.cores(),
        load=load,
    )
    print(record("Executor: worker processes on the built-in experiment (CPU)", rows, note.strip()))


def measured(results: Path, words: list[str]) -> tuple[float, float]:
    """Seconds of one command, and to its first answer."""
    command = [sys.executable, str(ROOT / "run_eval.py"), f"results_dir={results}", *words]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    start, first = time.perf_counter(), 0.0
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL) as running:
        while running.poll() is None:
            if not first and any(file.stat().st_size for file in results.rglob("answers.jsonl")):
                first = time.perf_counter() - start
            time.sleep(0.1)
    if running.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {running.returncode}")
    return time.perf_counter() - start, first


def answers(results: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """(run folder, question id) -> its line without what is measured."""
    found = {}
    for file in results.rglob("answers.jsonl"):
        for text in file.read_text(encoding="utf-8").splitlines():
            line = json.loads(text)
            for spent in ("seconds", "own_seconds", "peak_bytes"):
                (line["ledger"] or {}).pop(spent, None)
            found[str(file.parent.relative_to(results)), str(line["question_id"])] = line
    return found


if __name__ == "__main__":
    main()
