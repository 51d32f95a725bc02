"""The page's table of accuracy: intervals, and differences to dense and to the reference at equal cost."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from evalkit.analysis.report.html_table import NONE, Field, Head, Line, Table, by_cell
from evalkit.analysis.tables.accuracy import COUNTS
from evalkit.analysis.tables.formatting import p_value
from evalkit.analysis.tables.grid_rows import interpolated
from evalkit.analysis.tables.numbers import figure, points, span

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from evalkit.analysis.grid.cells import QuestionSet

Row = dict[str, Any]  # of evidence/paper/rows.py's frames

_AGAINST = {"dense": "points from dense", "kv": "from {} at equal KV", "compute": "from {} at equal compute"}
_GAP = ("points", "low", "high", "p_flip_holm", "expected_half_width")
_NOTE = """
Every question counts once. Intervals are 95 % and clustered by video. Differences are points on the same questions,
p by sign flips video by video and Holm's correction over the column, without rows that repeat the run they are
compared with, same inputs and same replies. At equal KV or compute, the reference was run within 2 % of that cost;
≈ is interpolated between the two of its ratios that are next in cost and has neither interval nor p: the table below
has what was measured; a dash where the reference never costs as much or as little. exp. ± is half the interval that so
many questions give at 10 % flips: what they can show of a difference at all. Failed questions are in no percentage.
"""
_BETWEEN = """
Where the reference was not run at equal cost: points from its next cheaper and its next dearer ratio, with 95 %
intervals. Above the dearer one is above the reference at equal cost if more cost does not harm it; below the cheaper
one is below it. What lies between the two is interpolated linearly in the logarithm of cost.
"""


def accuracy(own: QuestionSet, rows: Sequence[Row]) -> Table:
    """One line for each cell; comparisons that no cell has are left out."""
    average = next((row["average"] for row in rows if row["average"] not in ("", "micro")), "")
    counts = [name for name in COUNTS if any(row[name] for row in rows)]
    against = [key for key in _AGAINST if not all(math.isnan(row[f"{key}_points"]) for row in rows)]
    scores = ["accuracy %", "95 % interval", *([f"{average} %"] if average else []), "n", "videos", *counts]
    columns = {key: ["points", "95 % interval", "p", *(["exp. ±"] if key == "dense" else [])] for key in against}
    top = (Head("", len(scores)), *(Head(_AGAINST[key].format(own.reference), len(columns[key])) for key in against))
    heads = tuple(map(Head, [*scores, *(title for titles in columns.values() for title in titles)]))
    lines = by_cell(own.cells, [tuple(_fields(row, average, counts, against)) for row in rows])
    return Table("Accuracy", "method, ratio", (top, heads) if against else (heads,), lines, _NOTE)


def between(own: QuestionSet, rows: Sequence[Row]) -> Table | None:
    """What was measured on both sides of each interpolated difference; None where nothing is interpolated."""
    words = {"kv": "equal KV", "compute": "equal compute"}
    lines = tuple(
        Line(row["method"], f"{row['ratio']:g}", (Field(cost, "text"), *_ends(row, key)))
        for row in rows
        for key, cost in words.items()
        if interpolated(row, key)
    )
    top = (Head("", 2), Head(f"{own.reference}, cheaper", 3), Head(f"{own.reference}, dearer", 3))
    ends = map(Head, ("ratio", "points", "95 % interval") * 2)
    heads = (top, (Head("at", kind="text"), Head("points"), *ends))
    return Table("Between two ratios of the reference", "method, ratio", heads, lines, _BETWEEN) if lines else None


def _ends(row: Row, key: str) -> Iterator[Field]:
    yield Field(f"≈ {points(row[f'{key}_points'])}")
    for end in ("lower", "upper"):
        change, low, high = (row[f"{key}_{end}_{name}"] for name in ("points", "low", "high"))
        yield Field(f"{row[f'{key}_{end}_ratio']:g}", "opens")
        yield Field(points(change))
        yield Field(span(low, high))


def _fields(row: Row, average: str, counts: Sequence[str], against: Sequence[str]) -> Iterator[Field]:
    yield Field(figure(row["percent"], 1), "lead")
    yield Field(span(row["low"], row["high"]))
    if average:
        yield Field(figure(row["average_percent"], 1))
    yield from (Field(figure(row[name], 0)) for name in ("n", "videos"))
    yield from (Field(figure(row[name], 0), "off" if row[name] else "") for name in counts)
    for key in against:
        yield from _difference(row, key)


def _difference(row: Row, key: str) -> Iterator[Field]:
    change, low, high, p, shown = (row[f"{key}_{name}"] for name in _GAP)
    known = not math.isnan(change)
    about = "≈ " if interpolated(row, key) else ""
    yield Field(about + points(change), "opens") if known else Field("–", "none opens")
    yield Field(span(low, high)) if known and not about else NONE
    yield Field(p_value(p)) if known and not about else NONE
    if key == "dense":
        yield Field(figure(shown, 1), "aside") if known else NONE
