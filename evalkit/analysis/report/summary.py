"""What the tables rest on, in sentences: the dense run, failures, unreadable replies, ratios that are off."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from evalkit.analysis.grid.costs import TOLERANCE
from evalkit.analysis.tables.formatting import grouped_number, span
from evalkit.analysis.tables.grid_rows import Row

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from evalkit.analysis.grid.measured_points import QuestionSet


def summary(own: QuestionSet, scores: Sequence[Row]) -> list[str]:
    """The dense run, what failed, replies that could not be read, and which achieved ratios are off."""
    return [*_dense(own, scores), *_lost(scores), *_unread(scores), *_off(own)]


def _dense(own: QuestionSet, scores: Sequence[Row]) -> Iterator[str]:
    name = own.dense.method if own.dense else own.reference
    row = next((r for r in scores if own.dense and (r["method"], r["ratio"]) == (name, 1)), None)
    if row is None:
        yield f"There is no dense run here ({own.reference}, the reference, at ratio 1), so there is no comparison."
    elif not row["n"]:
        yield f"The dense run ({name} at ratio 1) has no scored question."
    else:
        yield (
            f"The dense run ({name} at ratio 1: every sampled frame, every token) is right on "
            f"{grouped_number(row['accuracy'], 1)} % of {_count(row['n'], 'question')} "
            f"about {_count(row['videos'], 'video')} ({_interval(row['ci_low'], row['ci_high'])})."
        )


def _interval(low: float, high: float) -> str:
    return "no interval from a single video" if math.isnan(low) else f"95 % CI {span(low, high)}"


def _lost(scores: Sequence[Row]) -> Iterator[str]:
    found = [f"{_name(row)}: {grouped_number(row['failed'], 0)}" for row in scores if row["failed"]]
    yield f"Failed questions, in no accuracy: {'; '.join(found)}." if found else "No question failed."


def _unread(scores: Sequence[Row]) -> Iterator[str]:
    found = [f"{_name(row)}: {grouped_number(row['unparsed'], 0)}" for row in scores if row["unparsed"]]
    if found:
        yield f"Replies in which no option could be read: {'; '.join(found)}."
    elif any(row["n"] for row in scores):
        yield "An option could be read in every reply."
    repeated = [f"{_name(row)}: {grouped_number(row['repeated'], 0)}" for row in scores if row["repeated"]]
    if repeated:
        yield f"Replies that are one token over and over, up to the limit: {'; '.join(repeated)}."


def _off(own: QuestionSet) -> Iterator[str]:
    """Which means are off, by duration too; a control that keeps nothing has no ratio to miss."""
    groups = [(point, *item) for point in own.points for item in point.costs_by_duration.items()]
    off = [
        f"{point.method} at {point.ratio:g}{'' if kind == 'all' else f', {label}'}: "
        f"{grouped_number(means['ratio_achieved'], 3)}"
        for point, (kind, label), means in groups
        if means["ratio_off"]
    ]
    nothing = [
        f"{point.method} at {point.ratio:g}"
        for point, (kind, _), means in groups
        if kind == "all" and means["ratio_achieved"] == 0
    ]
    if nothing:
        yield f"No visual token was kept by {', '.join(nothing)}."
    if off:
        yield f"Achieved ratios more than {100 * TOLERANCE:g} % away from nominal: {'; '.join(off)}."
    elif any(means["ratio_achieved"] > 0 for _, _, means in groups):
        yield f"Every {'other ' if nothing else ''}achieved ratio is within {100 * TOLERANCE:g} % of its nominal one."


def _name(row: Row) -> str:
    return f"{row['method']} at {row['ratio']:g}"


def _count(count: int, noun: str) -> str:
    return f"{grouped_number(count, 0)} {noun}{'' if count == 1 else 's'}"
