"""Sets of runs that a report must bear: small ones, odd ones, and texts that try to break out of the page."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from evalkit.runs import load
from tests.support.report_runs import run
from tests.support.run_folders import UNPARSED, ledger, row, write_run

if TYPE_CHECKING:
    from pathlib import Path

    from evalkit.runs.load import Run

HOSTILE = (
    "</script><script>alert('x')</script><img src=x onerror=\"y\"> & \N{RIGHT-TO-LEFT OVERRIDE}\x00"
    " 🙂 $\\frac{$ {{ 7*7 }} | %s \\ "
)


def rows(right: str, **changes: Any) -> list[dict[str, Any]]:
    """Right, wrong, unparsed, failed by letter; two questions a video."""
    kinds = {"r": (True, {}), "w": (False, {}), "u": (False, UNPARSED), "f": (None, {})}
    found = [(f"{place}", kinds[mark], f"v{place // 2}") for place, mark in enumerate(right)]
    return [row(question, score, video, **(own | changes)) for question, (score, own), video in found]


OLD = {"prompt": "", "options": [], "duration_s": None, "kept": None}


def old_line(line: dict[str, Any]) -> dict[str, Any]:
    """As an older version wrote it."""
    spent = {key: value for key, value in (line["ledger"] or {}).items() if key != "flops"}
    return {key: value for key, value in line.items() if key not in OLD} | {"ledger": spent or None}


ODD: dict[str, list[Run]] = {
    "single": [run("uniform", "reference", 1.0, rows("rwrw"))],
    "one question": [run("uniform", "reference", 1.0, rows("r"))],
    "only failures": [run("uniform", "reference", 1.0, rows("ff")), run("half", "method", 0.5, rows("ff"))],
    "old": [run("uniform", "reference", 1.0, [old_line(line) for line in rows("rwuf")])],
    "old beside new": [
        run("uniform", "reference", 1.0, [old_line(line) for line in rows("rwrw")]),
        run("half", "method", 0.5, rows("rrrw")),
    ],
    "several benchmarks": [
        run(name, "reference", ratio, rows("rwrw"), label=label, split=label[0])
        for label in ("One", "Two")
        for name, ratio in (("uniform", 1.0), ("half", 0.5))
    ],
    "no point on all benchmarks": [
        run("uniform", "reference", 1.0, rows("rwrw"), label="One"),
        run("half", "method", 0.5, rows("rwrw"), label="Two"),
    ],
    "no groups, no gold": [run("uniform", "reference", 1.0, rows("ww", groups={}, gold="", options=[]))],
    "nothing kept": [
        run("blind", "control", 0.5, rows("rw", kept=None, ledger=ledger(ratio_achieved=0.0, kv_tokens_per_layer=[0])))
    ],
}


def hostile(folder: Path) -> list[Run]:
    """A text that tries to break out, in every field that has one."""
    texts = {
        "text": f"{HOSTILE}★",
        "letter": HOSTILE,
        "gold": HOSTILE,
        "prompt": f"★{HOSTILE * 200}",
        "options": [HOSTILE] * 3,
    }
    lines = [
        row(
            HOSTILE + str(n),
            score,
            HOSTILE,
            groups={HOSTILE: [HOSTILE], "task_type": [HOSTILE]},
            **({} if score is None else texts if score else texts | {"letter": f"not {HOSTILE}"}),
        )
        for n, score in enumerate((True, False, None))
    ]
    lines[2]["error"] = HOSTILE * 500
    names = {"label": HOSTILE, "split": HOSTILE, "notes": [HOSTILE]}
    runs = []
    for ratio in (1.0, 0.5):
        parts = {
            "backbone": {"name": HOSTILE},
            "sampling": {"preset": HOSTILE},
            "subset": HOSTILE,
            "identity": f"{ratio}",
        }
        where = write_run(
            folder / f"{ratio}",
            lines,
            benchmark=names,
            method={"name": HOSTILE, "field": HOSTILE},
            ratio=ratio,
            **parts,
        )
        (where / "environment.json").write_text(json.dumps({HOSTILE: HOSTILE}), encoding="utf-8")
        lone = (where / "answers.jsonl").read_text(encoding="utf-8").replace("★", "\\ud800")  # half a character
        (where / "answers.jsonl").write_text(lone, encoding="utf-8")
        runs += load.load(where)
    return runs
