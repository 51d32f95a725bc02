"""The summary: sentences made of numbers that stand in the tables below it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from evalkit.analysis.grid.costs import TOLERANCE
from evalkit.analysis.tables.grid_rows import interpolated
from evalkit.analysis.tables.numbers import figure, points, span

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from evalkit.analysis.grid.cells import QuestionSet
    from evalkit.analysis.report.budget_tables import Spending

Row = dict[str, Any]  # of evidence/paper/rows.py's frames


def summary(own: QuestionSet, scores: Sequence[Row], spending: Sequence[Spending]) -> list[tuple[str, str]]:
    """What the tables say: dense, each method against it, what failed, which ratios are off. Method or "", and line."""
    dense, rest = _dense(own, scores), [*_lost(scores), *_unread(scores), *_off(own, spending)]
    return [*(("", line) for line in dense), *_methods(own, scores), *(("", line) for line in rest)]


def _dense(own: QuestionSet, scores: Sequence[Row]) -> Iterator[str]:
    name = own.dense.method if own.dense else own.reference
    row = next((r for r in scores if own.dense and (r["method"], r["ratio"]) == (name, 1)), None)
    if row is None:
        yield f"There is no dense run here ({own.reference}, the reference, at ratio 1), so nothing is held against it."
    elif not row["n"]:
        yield f"The dense run ({name} at ratio 1) has no scored question."
    else:
        yield (
            f"The dense run ({name} at ratio 1: every sampled frame, every token) is right on "
            f"{figure(row['percent'], 1)} % of {_count(row['n'], 'question')} about {_count(row['videos'], 'video')} "
            f"({_interval(row['low'], row['high'])})."
        )


def _methods(own: QuestionSet, scores: Sequence[Row]) -> Iterator[tuple[str, str]]:
    for method in dict.fromkeys(cell.method for cell in own.cells):
        rows = [r for r in scores if r["method"] == method and not math.isnan(r["dense_points"])]
        if rows:
            name = f"{method} (control)" if rows[0]["role"] == "control" else method
            yield name, " ".join([_reach(rows), _gaps("dense", rows, "dense"), *_at_equal_cost(own, rows)])


def _at_equal_cost(own: QuestionSet, rows: Sequence[Row]) -> Iterator[str]:
    """What a method is worth beside fewer frames; controls are what methods are held against themselves."""
    for key, cost in (("kv", "KV"), ("compute", "compute")):
        known = [row for row in rows if row["role"] != "control" and not math.isnan(row[f"{key}_points"])]
        if known:
            yield _gaps(f"{own.reference} at equal {cost}", known, key)


def _reach(rows: Sequence[Row]) -> str:
    """How far down, from the largest ratio on, the interval of the difference to dense contains 0."""
    if any(math.isnan(row["dense_low"]) for row in rows):
        return "rests on a single video, which gives no interval."
    told_apart = [not row["dense_low"] <= 0 <= row["dense_high"] for row in rows]
    held = rows[: told_apart.index(True)] if any(told_apart) else rows
    if not held:
        ratio = f"{rows[0]['ratio']:g}"
        return f"is told apart from dense {f'from ratio {ratio} down' if len(rows) > 1 else f'at ratio {ratio}'}."
    down = f"{'down to' if len(rows) > 1 else 'at'} ratio {held[-1]['ratio']:g}"
    shown = figure(held[-1]["dense_expected_half_width"], 1)
    return f"is not told apart from dense {down} (so many questions can show ±{shown})."


def _gaps(name: str, rows: Sequence[Row], key: str) -> str:
    return f"Points from {name}: {'; '.join(_gap(row, key) for row in rows)}."


def _gap(row: Row, key: str) -> str:
    """Where the reference was not run at equal cost, what was measured on both sides."""
    text = f"{points(row[f'{key}_points'])} at {row['ratio']:g}"
    if not interpolated(row, key):
        return f"{text} ({span(row[f'{key}_low'], row[f'{key}_high'])})"
    ends = (
        f"{points(row[f'{key}_{end}_points'])} from its {row[f'{key}_{end}_ratio']:g}" for end in ("lower", "upper")
    )
    return f"≈ {text} ({', '.join(ends)})"


def _interval(low: float, high: float) -> str:
    return "no interval from a single video" if math.isnan(low) else f"95 % interval {span(low, high)}"


def _lost(scores: Sequence[Row]) -> Iterator[str]:
    found = [f"{_name(row)}: {figure(row['failed'], 0)}" for row in scores if row["failed"]]
    yield f"Failed questions, in no percentage: {'; '.join(found)}." if found else "No question failed."


def _unread(scores: Sequence[Row]) -> Iterator[str]:
    found = [f"{_name(row)}: {figure(row['unparsed'], 0)}" for row in scores if row["unparsed"]]
    if found:
        yield f"Replies in which no option could be read: {'; '.join(found)}."
    elif any(row["n"] for row in scores):
        yield "An option could be read in every reply."
    repeated = [f"{_name(row)}: {figure(row['repeated'], 0)}" for row in scores if row["repeated"]]
    if repeated:
        yield f"Replies that are one token over and over, up to the limit: {'; '.join(repeated)}."


def _off(own: QuestionSet, spending: Sequence[Spending]) -> Iterator[str]:
    """Which means are off, by duration too; a control that keeps nothing has no ratio to miss."""
    groups = [(cell, *item) for cell, found in zip(own.cells, spending, strict=True) for item in found.items()]
    off = [
        f"{cell.method} at {cell.ratio:g}{'' if kind == 'all' else f', {label}'}: {figure(means['ratio_achieved'], 3)}"
        for cell, (kind, label), means in groups
        if means["ratio_off"]
    ]
    nothing = [
        f"{cell.method} at {cell.ratio:g}"
        for cell, (kind, _), means in groups
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
    return f"{figure(count, 0)} {noun}{'' if count == 1 else 's'}"
