"""Measured points in memory, each question given by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from evalkit.analysis.grid.measured_points import QuestionSet, question_sets
from tests.support.report_runs import run

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def question_set(points: Mapping[tuple[str, float], Sequence[dict[str, Any]]]) -> QuestionSet:
    """One set: (method, ratio) -> rows as of tests.support.run_folders.row; the method `uniform` is the reference."""
    runs = [
        run(method, "reference" if method == "uniform" else "method", ratio, list(rows))
        for (method, ratio), rows in points.items()
    ]
    (found,) = question_sets(runs)
    return found
