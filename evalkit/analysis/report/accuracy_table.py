"""The page's table of accuracy: intervals, and differences to dense and to the reference at equal cost."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from evalkit.analysis.report.html_table import NONE, Field, Head, Line, Table, by_point
from evalkit.analysis.tables.accuracy import COUNTS
from evalkit.analysis.tables.columns import ACCURACY, DIFFERENCES
from evalkit.analysis.tables.formatting import grouped_number, p_value, signed, span
from evalkit.analysis.tables.grid_rows import Row, interpolated

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from evalkit.analysis.grid.measured_points import QuestionSet


_AGAINST = {"dense": "vs. dense", "kv": "vs. {} at equal KV", "compute": "vs. {} at equal compute"}
_SHOWN = ("delta_pp", "ci_low", "ci_high", "p_sign_flip_holm", "expected_ci_half_width")
_CI = "95 % CI"
_DELTA, _EXPECTED = (DIFFERENCES[name].title for name in ("delta_pp", "expected_ci_half_width"))
_NOTE = f"""
Every question counts once. Intervals are 95 % CIs clustered by video. {_DELTA} is in percentage points on the same
questions, p by sign flips video by video and Holm's correction over the column, without rows that repeat the run they
are compared with, same inputs and same replies. At equal KV or compute, the reference was run within 2 % of that cost;
≈ is interpolated between the two of its ratios that are next in cost and has neither interval nor p: the table below
has what was measured; a dash where the reference never costs as much or as little. {_EXPECTED} is half the interval
that so many questions give at 10 % flips: what they can show of a difference. Failed questions are in no accuracy.
"""
_BETWEEN = f"""
Where the reference was not run at equal cost: {_DELTA} from its next cheaper and its next dearer ratio, with 95 % CIs.
Above the dearer one is above the reference at equal cost if more cost does not harm it; below the cheaper one is below
it. What lies between the two is interpolated linearly in the logarithm of cost.
"""


def accuracy(own: QuestionSet, rows: Sequence[Row]) -> Table:
    """One line for each operating point; comparisons that none has are not shown."""
    average = next((row["average"] for row in rows if row["average"] not in ("", "micro")), "")
    counts = [name for name in COUNTS if any(row[name] for row in rows)]
    against = [key for key in _AGAINST if not all(math.isnan(row[f"{key}_delta_pp"]) for row in rows)]
    scores = [ACCURACY["accuracy"].title, _CI, *([f"{average} (%)"] if average else []), "n", "videos", *counts]
    columns = {key: [_DELTA, _CI, "p", *([_EXPECTED] if key == "dense" else [])] for key in against}
    top = (Head("", len(scores)), *(Head(_AGAINST[key].format(own.reference), len(columns[key])) for key in against))
    heads = tuple(map(Head, [*scores, *(title for titles in columns.values() for title in titles)]))
    lines = by_point(own.points, [tuple(_fields(row, average, counts, against)) for row in rows])
    return Table("Accuracy", "method, ratio", (top, heads) if against else (heads,), lines, _NOTE)


def between(own: QuestionSet, rows: Sequence[Row]) -> Table | None:
    """What was measured on both sides of each interpolated difference; None where nothing is interpolated."""
    costs = {"kv": "equal KV", "compute": "equal compute"}
    lines = tuple(
        Line(row["method"], f"{row['ratio']:g}", (Field(cost, "text"), *_ends(row, key)))
        for row in rows
        for key, cost in costs.items()
        if interpolated(row, key)
    )
    top = (Head("", 2), Head(f"{own.reference}, cheaper", 3), Head(f"{own.reference}, dearer", 3))
    ends = map(Head, ("ratio", _DELTA, _CI) * 2)
    heads = (top, (Head("at", kind="text"), Head(_DELTA), *ends))
    return Table("Between two ratios of the reference", "method, ratio", heads, lines, _BETWEEN) if lines else None


def _ends(row: Row, key: str) -> Iterator[Field]:
    yield Field(f"≈ {signed(row[f'{key}_delta_pp'])}")
    for end in ("lower", "upper"):
        change, low, high = (row[f"{key}_{end}_{name}"] for name in ("delta_pp", "ci_low", "ci_high"))
        yield Field(f"{row[f'{key}_{end}_ratio']:g}", "opens")
        yield Field(signed(change))
        yield Field(span(low, high))


def _fields(row: Row, average: str, counts: Sequence[str], against: Sequence[str]) -> Iterator[Field]:
    yield Field(grouped_number(row["accuracy"], 1), "lead")
    yield Field(span(row["ci_low"], row["ci_high"]))
    if average:
        yield Field(grouped_number(row["average_accuracy"], 1))
    yield from (Field(grouped_number(row[name], 0)) for name in ("n", "videos"))
    yield from (Field(grouped_number(row[name], 0), "off" if row[name] else "") for name in counts)
    for key in against:
        yield from _difference(row, key)


def _difference(row: Row, key: str) -> Iterator[Field]:
    change, low, high, p, shown = (row[f"{key}_{name}"] for name in _SHOWN)
    known = not math.isnan(change)
    about = "≈ " if interpolated(row, key) else ""
    yield Field(about + signed(change), "opens") if known else Field("–", "none opens")
    yield Field(span(low, high)) if known and not about else NONE
    yield Field(p_value(p)) if known and not about else NONE
    if key == "dense":
        yield Field(grouped_number(shown, 1), "aside") if known else NONE
