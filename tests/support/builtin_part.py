"""A part of the built-in ci-50 by whole videos, on which a whole run takes seconds: its data, and answers stored of it.

The part goes by the subset's own name: its lists lie beside the annotations, where users may keep lists of their own.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

from evalkit.data.benchmarks.files import SUBSET_LISTS
from evalkit.data.prepare import subsets
from evalkit.data.prepare.checksums import sha256
from evalkit.runs import load, stored
from evalkit.tiny.videos import make
from tests.support.rows import write_json

if TYPE_CHECKING:
    from pathlib import Path

NAME = "ci-50"
# nine of its 44 videos: of each length, of several tasks, with many questions for their frames
QUESTIONS = {
    "videomme": tuple(f"{video}-{number}" for video in ("001", "009", "017", "023") for number in (1, 2, 3)),
    "mlvu": (
        *(f"1_plotQA:{number}" for number in range(4, 8)),
        *(f"3_ego:{number}" for number in range(8, 12)),
        *(f"5_order:{number}" for number in range(4)),
        *(f"6_anomaly_reco:{number}" for number in (4, 5)),
    ),
    "lvbench": tuple(map(str, range(91, 106))),  # those that wrong positions turn most
}


def whole(name: str) -> frozenset[str]:
    """The question ids of the published ci-50."""
    published = json.loads((SUBSET_LISTS / f"{name}.json").read_text(encoding="utf-8"))
    return frozenset(published["subsets"][NAME]["questions"])


def data(root: Path) -> None:
    """Write the three sets with the videos of the part; what is there already is left alone."""
    for name, ids in QUESTIONS.items():
        if not (root / name).exists():
            published = json.loads((SUBSET_LISTS / f"{name}.json").read_text(encoding="utf-8"))
            published["subsets"][NAME] = {"sha256": sha256(ids), "questions": ids}
            write_json(root / name / make.STARTED, make.STAMP)  # makes the folder one that the sets may go on in
            write_json(root / name / subsets.FILE, published)
    make.make(root, subset=NAME, progress=False)


def answers(baseline: Path, folder: Path) -> Path:
    """The stored runs of the whole of it, cut to the part."""
    for run in load.load(baseline):
        name = run.config["benchmark"]["name"]
        asked = {**run.config["benchmark"], "questions": len(QUESTIONS[name])}
        kept = tuple(answer for answer in run.answers if answer.question_id in QUESTIONS[name])
        cut = replace(run, config={**run.config, "benchmark": asked}, answers=kept)
        stored.write(folder / f"{name}-{run.method}-{run.ratio:g}", cut)
    return folder
