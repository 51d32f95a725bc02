"""Grids of made-up answers, for tests of plots."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from evalkit.analysis.grid.measured_points import QuestionSet, question_sets
from evalkit.analysis.plots import as_files
from evalkit.analysis.plots.style import styles
from evalkit.runs.load import load
from tests.support.run_folders import ledger, row, write_run

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

VIDEOS = 10
# Right answers of 4 in each of 10 videos. No two videos need be alike, so that intervals have a width.
RIGHT = {
    ("uniform", 1.0): [4, 4, 3, 4, 2, 4, 3, 4, 4, 3],  # 35 of 40
    ("uniform", 0.5): [3, 4, 2, 3, 1, 4, 2, 3, 3, 2],  # 27
    ("uniform", 0.25): [2, 2, 1, 2, 1, 3, 1, 2, 2, 1],  # 17
    ("retake", 1.0): [4, 4, 3, 4, 2, 4, 3, 4, 4, 3],  # the same as uniform
    ("retake", 0.5): [4, 4, 3, 4, 1, 4, 3, 4, 3, 3],  # 33
    ("retake", 0.25): [3, 3, 2, 3, 1, 3, 2, 3, 3, 2],  # 25
    ("blind", 1.0): [1, 2, 0, 1, 1, 2, 0, 1, 1, 1],  # 10
    ("random_frames", 0.5): [2, 3, 2, 2, 1, 3, 2, 3, 2, 2],  # 22
    ("random_frames", 0.25): [1, 2, 1, 1, 1, 2, 1, 2, 1, 2],  # 14
}
ROLES = {"uniform": "reference", "blind": "control", "random_frames": "control"}


def costs(method: str, ratio: float) -> dict[str, Any]:
    """ReTaKe feeds everything and keeps a share; the others do not look at what they leave out."""
    kept = 0 if method == "blind" else int(1024 * ratio)
    fed = 76 + (1024 if method == "retake" else kept)
    seconds = {"decode": fed / 1000, "encode": 0.0, "select": 0.0, "prefill": 0.01, "generate": 9.0}
    flops = {"encode": fed * 10**9, "select": 0, "prefill": fed * 10**9, "generate": 0}
    tokens = {"kv_tokens_per_layer": [kept, kept], "llm_tokens_fed": fed}
    return {**tokens, "seconds": seconds, "seconds_shared": False, "flops": flops}


def rows(method: str, ratio: float, right: Sequence[int], **changes: Any) -> list[dict[str, Any]]:
    """The answers of one point; `changes` go into every ledger."""
    spent = ledger(**costs(method, ratio) | changes)
    return [
        row(f"{video}-{q}", q < count, f"v{video}", ledger=spent) for video, count in enumerate(right) for q in range(4)
    ]


def write(
    folder: Path, method: str, ratio: float, lines: Sequence[dict[str, Any]], role: str | None = None, **changes: Any
) -> None:
    """One run folder."""
    own = {"name": method, "role": role or ROLES.get(method, "method")}
    name = f"{len(list(folder.iterdir())) if folder.exists() else 0}"
    write_run(folder / name, lines, method=own, ratio=ratio, identity=f"{folder.name}-{name}", **changes)


def grid(folder: Path, right: Mapping[tuple[str, float], Sequence[int]] = RIGHT, **changes: Any) -> QuestionSet:
    """One benchmark; `changes` go into every config."""
    for (method, ratio), counts in right.items():
        write(folder, method, ratio, rows(method, ratio, counts), **changes)
    (found,) = question_sets(load(folder))
    return found


def crowd(folder: Path, methods: int = 10, name: str = "method_{}") -> QuestionSet:
    """Many methods at four ratios that lie near each other."""
    shift = {(m, r): (7 * m + int(8 * r)) % 11 for m in range(methods) for r in (1.0, 0.5, 0.25, 0.125)}
    right = {
        (name.format(m) if m else "uniform", r): [1 + (v * (m + 2) + by) % 3 + (r > 0.3) for v in range(VIDEOS)]
        for (m, r), by in shift.items()
    }
    return grid(folder, right)


def svg(question_set: QuestionSet, cost: str) -> str:
    """One figure of one set; "" where there is nothing to draw."""
    return as_files(question_set, cost, styles([question_set]), ["svg"]).get("svg", b"").decode()
