"""How large the report of a large sweep is, and how long a browser takes to open it.

python perf/report.py [--questions 2700] [--runs 5]     puts a table into RESULTS.md; needs chromium on the PATH
"""

from __future__ import annotations

import argparse
import re
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from measure import record

from evalkit.analysis import report
from tests.support import clips
from tests.support.browser import chromium, dump
from tests.support.report_runs import averages, grid
from tests.support.rows import VIDEOMME_FILE, videomme_row, write_parquet

PER_VIDEO = 3
NOTE = """
12 cells (3 methods at 4 ratios), 3 questions a video, 160 temporal cells, prompts of 3,000 characters and replies of
their own, one method that keeps other cells for every question; thumbnails from one generated clip under every name.
Opened: from the request of the file to the page laid out with its first fifty questions, median in headless Chromium
(no GPU). Bar: under 3 s and under 25 MB.
"""
PROBE = """
<pre id="opened"></pre>
<script>
addEventListener("load", () => {
  document.body.getBoundingClientRect();
  document.getElementById("opened").textContent = performance.now();
});
</script>
"""


def main() -> None:
    """Make the runs, write both pages, open each a few times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=2700)
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    if chromium() is None:
        raise SystemExit("expected chromium on the PATH, found none: apt-get install chromium")
    with tempfile.TemporaryDirectory() as folder:
        rows = [measured(Path(folder), arguments.questions, mb, arguments.runs) for mb in (0, report.THUMBNAILS_MB)]
    print(record("Report of a large sweep (CPU)", rows, NOTE.strip()))


def measured(folder: Path, questions: int, megabytes: float, runs: int) -> dict[str, object]:
    """One row: the page with so many MB of thumbnails."""
    root = videos(folder / f"videos-{megabytes:g}", questions)
    where = {"name": "videomme", "label": "one clip", "split": "test", "root": str(root)}
    own = grid(questions, per_video=PER_VIDEO, cells=160, prompt=3000, **where)
    start = time.perf_counter()
    page = report.write(own, folder / f"page-{megabytes:g}", thumbnails_mb=megabytes, averages=averages)
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
    names = [f"{question // PER_VIDEO:03}" for question in range(questions)]
    ids = [f"{name}-{question % PER_VIDEO + 1}" for question, name in enumerate(names)]
    rows = [videomme_row(videoID=name, question_id=own) for name, own in zip(names, ids, strict=True)]
    write_parquet(root / VIDEOMME_FILE, rows)
    for name in dict.fromkeys(names):
        (root / "data" / f"{name}.mp4").symlink_to(clip)
    return root


def opened(page: Path, folder: Path) -> float:
    """Seconds until a fresh browser has laid the page out."""
    copy = page.with_name("timed.html")
    copy.write_text(page.read_text(encoding="utf-8") + PROBE, encoding="utf-8")
    with tempfile.TemporaryDirectory(dir=folder) as profile:
        found = re.search('<pre id="opened">([0-9.]+)</pre>', dump(copy, Path(profile)))
    if found is None:
        raise SystemExit("the page said nothing about its time: did its script fail?")
    return float(found.group(1)) / 1000


if __name__ == "__main__":
    main()
