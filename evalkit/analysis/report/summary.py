"""The summary: sentences made of numbers that stand in the tables below it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from evalkit.analysis.grid.costs import TOLERANCE
from evalkit.analysis.tables.formatting import grouped_number, signed, span
from evalkit.analysis.tables.grid_rows import interpolated

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from evalkit.analysis.grid.measured_points import QuestionSet

Row = dict[str, Any]  # of grid_rows' frames


def summary(own: QuestionSet, scores: Sequence[Row]) -> list[tuple[str, str]]:
    """What the tables say: dense, each method against it, what failed, which ratios are off. Method or "", and line."""
    dense, rest = _dense(own, scores), [*_lost(scores), *_unread(scores), *_off(own)]
    return [*(("", line) for line in dense), *_methods(own, scores), *(("", line) for line in rest)]


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


def _methods(own: QuestionSet, scores: Sequence[Row]) -> Iterator[tuple[str, str]]:
    for method in dict.fromkeys(point.method for point in own.points):
        rows = [r for r in scores if r["method"] == method and not math.isnan(r["dense_delta_pp"])]
        if rows:
            name = f"{method} (control)" if rows[0]["role"] == "control" else method
            yield name, " ".join([_reach(rows), _deltas("dense", rows, "dense"), *_at_equal_cost(own, rows)])


def _at_equal_cost(own: QuestionSet, rows: Sequence[Row]) -> Iterator[str]:
    """Methods against the reference at the same cost; controls are comparisons themselves and are not listed."""
    for key, cost in (("kv", "KV"), ("compute", "compute")):
        known = [row for row in rows if row["role"] != "control" and not math.isnan(row[f"{key}_delta_pp"])]
        if known:
            yield _deltas(f"{own.reference} at equal {cost}", known, key)


def _reach(rows: Sequence[Row]) -> str:
    """How far down, from the largest ratio on, the interval of the difference to dense contains 0."""
    if any(math.isnan(row["dense_ci_low"]) for row in rows):
        return "rests on a single video, which gives no interval."
    differs = [not row["dense_ci_low"] <= 0 <= row["dense_ci_high"] for row in rows]
    similar = rows[: differs.index(True)] if any(differs) else rows
    if not similar:
        ratio = f"{rows[0]['ratio']:g}"
        return f"differs significantly from dense {_from(ratio, rows)} (95 % CI)."
    down = f"{'down to' if len(rows) > 1 else 'at'} ratio {similar[-1]['ratio']:g}"
    shown = grouped_number(similar[-1]["dense_expected_ci_half_width"], 1)
    return f"does not differ significantly from dense {down} (95 % CI; expected CI half-width {shown} pp)."


def _from(ratio: str, rows: Sequence[Row]) -> str:
    return f"from ratio {ratio} down" if len(rows) > 1 else f"at ratio {ratio}"


def _deltas(name: str, rows: Sequence[Row], key: str) -> str:
    return f"Δ accuracy (pp) vs. {name}: {'; '.join(_delta(row, key) for row in rows)}."


def _delta(row: Row, key: str) -> str:
    """Where the reference was not run at equal cost, what was measured on both sides."""
    text = f"{signed(row[f'{key}_delta_pp'])} at {row['ratio']:g}"
    if not interpolated(row, key):
        return f"{text} ({span(row[f'{key}_ci_low'], row[f'{key}_ci_high'])})"
    ends = (
        f"{signed(row[f'{key}_{end}_delta_pp'])} from its {row[f'{key}_{end}_ratio']:g}" for end in ("lower", "upper")
    )
    return f"≈ {text} ({', '.join(ends)})"


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
