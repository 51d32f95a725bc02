"""The report: the size of a large sweep's page and how long a browser takes to open it; the time to make a report.

python perf/report.py [--questions 2700] [--runs 5]     the page; needs chromium on the PATH
python perf/report.py --before CHECKOUT RESULTS [--runs 3]     making RESULTS' report by another checkout and this one

Either puts a table into RESULTS.md.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import pandas as pd
from measure import record

from evalkit.analysis import report
from evalkit.analysis.results import Results
from tests.support import clips
from tests.support.browser import chromium, probe
from tests.support.report_runs import averages, grid
from tests.support.rows import VIDEOMME_FILE, videomme_row, write_parquet

PER_VIDEO = 3
NOTE = """
12 cells (3 methods at 4 ratios), 3 questions a video, 160 temporal cells, prompts of 3,000 characters and replies of
their own, one method that keeps other cells for every question; thumbnails from one generated clip under every name.
Opened: from the request of the file to the page laid out with its first fifty questions, median in headless Chromium
(no GPU). Bar: under 3 s and under 25 MB.
"""
LAID_OUT = "document.body.getBoundingClientRect(); return performance.now();"  # once it is loaded, in milliseconds


def main() -> None:
    """Make the runs, write both pages, open each a few times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=2700)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--before", type=Path, nargs=2, metavar=("CHECKOUT", "RESULTS"))
    arguments = parser.parse_args()
    if arguments.before is not None:
        compared(*map(Path.resolve, arguments.before), arguments.runs)
        return
    if chromium() is None:
        raise SystemExit("expected chromium on the PATH, found none: apt-get install chromium")
    with tempfile.TemporaryDirectory() as folder:
        rows = [measured(Path(folder), arguments.questions, mb, arguments.runs) for mb in (0, report.THUMBNAILS_MB)]
    print(record("Report of a large sweep (CPU)", rows, NOTE.strip()))


# ---- making it, before and after

FILES = ("accuracy", "differences", "budget", "paper/accuracy", "paper/budget")
RENAMED = {  # columns of versions before the registry of columns
    "percent": "accuracy",
    "low": "ci_low",
    "high": "ci_high",
    "half_width": "ci_half_width",
    "points": "delta_pp",
    "left_out": "excluded",
    "clusters": "videos",
    "against": "reference",
    "p_flip": "p_sign_flip",
    "p_flip_holm": "p_sign_flip_holm",
    "p": "p_mcnemar",
    "p_holm": "p_mcnemar_holm",
    "expected_half_width": "expected_ci_half_width",
    "average_percent": "average_accuracy",
}
# Before 2026-11-24 what lies between two ratios had an interval, and rows that repeat the reference counted in Holm's
# family: these columns are compared only with versions that define them alike.
REDEFINED = re.compile("_holm$|^(kv|compute)_(delta|ci|p_|weight|(lower|upper)_)")
WHAT = """
`python -m evalkit report` of {runs} run folders with {answers} answers ({questions} questions), each a process of its
own, before and after in turn, median of {times}; CPU seconds are user and system. First, every number of the five CSV
files that both define was asserted equal ({equal} columns). Before: {commit}.
"""


def compared(checkout: Path, results: Path, runs: int) -> None:
    """Both checkouts' reports in turn, after their numbers were found equal."""
    with tempfile.TemporaryDirectory() as folder:
        places = {"before": checkout, "after": Path(__file__).parents[1]}
        outs = {name: Path(folder) / name for name in places}
        for name, place in places.items():
            reported(place, results, outs[name], 0)
        equal, rows = same_numbers(*outs.values()), []
        for megabytes in (0, report.THUMBNAILS_MB):
            times = [{n: reported(p, results, outs[n], megabytes) for n, p in places.items()} for _ in range(runs)]
            rows.append({"thumbnails MB": megabytes} | in_columns(times))
    lines = [len(file.read_bytes().splitlines()) for file in results.rglob("answers.jsonl")]
    note = WHAT.format(
        runs=len(lines),
        answers=sum(lines),
        questions=sum(len(set(ids)) for ids in questions(results)),
        times=runs,
        equal=equal,
        commit=subprocess.check_output(["git", "-C", checkout, "log", "-1", "--format=%h, %cs"], text=True).strip(),
    )
    print(record("Making the report, before and after (CPU)", rows, note.strip()))


def questions(results: Path) -> list[list[str]]:
    """Question ids of each benchmark, which are the first folders below `results`."""
    ids: dict[str, list[str]] = {}
    for file in results.rglob("answers.jsonl"):
        found = re.findall('"question_id": "([^"]+)"', file.read_text(encoding="utf-8"))
        ids.setdefault(file.relative_to(results).parts[0], []).extend(found)
    return list(ids.values())


def reported(checkout: Path, results: Path, out: Path, megabytes: float) -> tuple[float, float]:
    """Wall and CPU seconds of one report by a checkout."""
    command = [sys.executable, "-m", "evalkit", "report", results, "--out", out, "--thumbnails", f"{megabytes:g}"]
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        command, cwd=checkout, env=os.environ | {"PYTHONPATH": str(checkout)}, check=True, capture_output=True
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - start, cpu


def in_columns(times: list[dict[str, tuple[float, float]]]) -> dict[str, object]:
    """Medians of wall and CPU seconds, and their ratios."""
    found: dict[str, object] = {}
    for place, what in enumerate(("s", "CPU s")):
        before, after = (statistics.median(run[name][place] for run in times) for name in ("before", "after"))
        found |= {f"before {what}": before, f"after {what}": after, f"{what} ratio": after / before}
    return found


def same_numbers(before: Path, after: Path) -> int:
    """How many columns were compared; SystemExit where one is not equal."""
    columns = 0
    for name in FILES:
        old, new = (pd.read_csv(out / f"{name}.csv") for out in (before, after))
        old = old.rename(columns=renamed)
        alike = "kv_lower_delta_pp" in old or not name.endswith(("accuracy", "differences"))
        for column in new.columns.intersection(old.columns):
            if (alike or not REDEFINED.search(column)) and not old[column].equals(new[column]):
                raise SystemExit(f"{name}.csv: {column} is not the same before and after")
            columns += alike or not REDEFINED.search(column)
    return columns


def renamed(column: str) -> str:
    """What a column of an older version is called now."""
    prefix, name = re.fullmatch("((?:dense_|kv_|compute_)?(?:lower_|upper_)?)(.*)", column).groups()
    return prefix + RENAMED.get(name, name) if prefix in ("", "dense_") or name in RENAMED else column


# ---- the page


def measured(folder: Path, questions: int, megabytes: float, runs: int) -> dict[str, object]:
    """One row: the page with so many MB of thumbnails."""
    root = videos(folder / f"videos-{megabytes:g}", questions)
    where = {"name": "videomme", "label": "one clip", "split": "test", "root": str(root)}
    own = grid(questions, per_video=PER_VIDEO, cells=160, prompt=3000, **where)
    start = time.perf_counter()
    page = report.write(Results(own, averages), folder / f"page-{megabytes:g}", thumbnails_mb=megabytes)
    written = time.perf_counter() - start
    times = [opened(page, folder) for _ in range(runs + 1)][1:]
    images = re.findall('"image":"([^"]*)"', page.read_text(encoding="utf-8"))
    return {
        "questions": questions,
        "cells": len(own),
        "videos with thumbnails": len(images),
        "thumbnails MB": sum(map(len, images)) / 1e6,
        "page MB": page.stat().st_size / 1e6,
        "opened s": statistics.median(times),
        "written s": written,
    }


def videos(root: Path, questions: int) -> Path:
    """A VideoMME folder for the grid's questions, in which every video is the same clip."""
    (root / "data").mkdir(parents=True)
    clip = clips.make(root / "clip.mp4", frames=1000, rate=1)
    names = [f"video {question // PER_VIDEO}" for question in range(questions)]  # as the grid names them
    ids = [f"{name}-{question % PER_VIDEO + 1}" for question, name in enumerate(names)]
    rows = [videomme_row(videoID=name, question_id=own) for name, own in zip(names, ids, strict=True)]
    write_parquet(root / VIDEOMME_FILE, rows)
    for name in dict.fromkeys(names):
        (root / "data" / f"{name}.mp4").symlink_to(clip)
    return root


def opened(page: Path, folder: Path) -> float:
    """Seconds until the browser has laid the page out."""
    found = probe(page, LAID_OUT, folder)
    if not isinstance(found, int | float):
        raise SystemExit(f"the page said nothing about its time: {found}")
    return found / 1000


if __name__ == "__main__":
    main()
