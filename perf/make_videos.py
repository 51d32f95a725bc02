"""`data make`: the built-in videos written by one and by more processes.

python perf/make_videos.py [--subset full] [--workers 1 2] [--runs 1]     puts a table into RESULTS.md

Every file is asserted to hold the same bytes before any time is taken.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from measure import against_one, record

from evalkit import machine

ROOT = Path(__file__).parents[1]
MAKE = """
import sys
from pathlib import Path
from evalkit.tiny.videos.make import make
if __name__ == "__main__":
    make(Path(sys.argv[1]), subset=sys.argv[2], progress=False, workers=int(sys.argv[3]))
"""
NOTE = """
All that `python -m evalkit data make --subset {subset}` does: {files} files, {megabytes:.0f} MB, by so many
processes; from the start of Python to its end, medians of {runs} in turn. {cores} cores. Every file was asserted to
hold the same bytes. Load average when it began: {load:.1f}.
"""


def made(subset: str, workers: int) -> tuple[float, dict[str, str], int]:
    """Seconds, the checksum of each file, and bytes."""
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "make_them.py"  # processes that are spawned import it
        script.write_text(MAKE, encoding="utf-8")
        data, environment = Path(folder) / "data", os.environ | {"PYTHONPATH": str(ROOT)}
        start = time.perf_counter()
        subprocess.run([sys.executable, str(script), str(data), subset, str(workers)], env=environment, check=True)
        seconds = time.perf_counter() - start
        files = sorted(file for file in data.rglob("*") if file.is_file())
        sums = {str(file.relative_to(data)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
        return seconds, sums, sum(file.stat().st_size for file in files)


def main() -> None:
    """Every number of processes, in turn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subset", default="full")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--runs", type=int, default=1)
    args = parser.parse_args()
    load = os.getloadavg()[0]
    times: dict[int, list[float]] = {workers: [] for workers in args.workers}
    expected: dict[str, str] = {}
    size = 0
    for _ in range(args.runs):
        for workers, spent in times.items():
            seconds, sums, size = made(args.subset, workers)
            spent.append(seconds)
            expected = expected or sums
            if sums != expected:
                raise SystemExit(f"{workers} processes wrote other files: the times say nothing")
    medians = {workers: statistics.median(spent) for workers, spent in times.items()}
    one = medians[args.workers[0]]
    rows: list[dict[str, object]] = [
        {"processes": n, "s": spent, **against_one(n, one, spent)} for n, spent in medians.items()
    ]
    note = NOTE.format(
        subset=args.subset,
        files=len(expected),
        megabytes=size / 1e6,
        runs=args.runs,
        cores=machine.cores(),
        load=load,
    )
    print(record("Making the built-in videos: processes (CPU)", rows, note.strip()))


if __name__ == "__main__":
    main()
