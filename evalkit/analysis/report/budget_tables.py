"""The page's tables of costs, and of achieved against nominal ratios."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from evalkit.analysis.grid import seconds
from evalkit.analysis.grid.costs import TOLERANCE
from evalkit.analysis.grid.grouping import grouped
from evalkit.analysis.report.html_table import NONE, Field, Head, Table, by_point
from evalkit.analysis.tables.columns import BUDGET, titles
from evalkit.analysis.tables.formatting import grouped_number, relative
from evalkit.analysis.tables.grid_rows import Row

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from evalkit.analysis.grid.measured_points import QuestionSet

CostsByDuration = Mapping[tuple[str, str], Row]  # ("all", "all") and duration buckets -> mean costs

_TOKENS = ("frames", "tokens_selected", "llm_tokens_fed", "kv_tokens", "kv_mb")
_TIMES = ("ttft_s", *(f"{stage}_s" for stage in seconds.STAGES))
_NOTE = """
Means per question over the n answered ones. selected are visual tokens handed to the LLM, LLM all tokens that were fed
to it, text and scoring passes included. KV counts visual entries per layer when the answer began, KV MB their bytes in
all layers (10⁶). TTFT is the time to the first token; peak MB is the highest of all questions.
"""
_SEPARATORS_NOTE = """
separators counts the entries per layer that stand between visual ones, newlines or times as text, when the answer
began: KV, KV MB and ratios leave them out.
"""
_REPRESENTED_NOTE = """
represented counts the encoded tokens that the selected ones stand for, where a method merged some.
"""
_TIMED_NOTE = """
Median [first quartile, third quartile] over videos, one question each: every method and ratio alone, unshared, after
one answer that is not counted, on the same videos, drawn from strata of duration.
"""
_AUDIT_NOTE = f"""
Visual KV entries when the answer began, as a share of the dense run's: the mean over the answered questions of each
duration bucket. ! marks a mean more than {100 * TOLERANCE:g} % away from the nominal ratio.
"""


def budget(own: QuestionSet, rows: Sequence[Row]) -> Table:
    """Tokens and compute, then seconds and memory; separators and merged tokens have a column where there are any."""
    separated = any(row["separators"] > 0 for row in rows)  # nan, of rows without answers, is not
    merged = any(row["tokens_represented"] > row["tokens_selected"] for row in rows)
    after = {"kv_tokens": separated and "separators", "tokens_selected": merged and "tokens_represented"}
    counted = tuple(name for each in _TOKENS for name in (each, after.get(each)) if name)
    tokens = ["n", *titles(BUDGET, (*counted, "tflops"))]
    top = (Head("tokens and compute", len(tokens)), Head("seconds", 2 + len(seconds.STAGES)), Head("memory"))
    heads = tuple(map(Head, [*tokens, *titles(BUDGET, ("seconds", *_TIMES, "peak_mb"))]))
    most = max((row["tflops"] for row in rows if not math.isnan(row["tflops"])), default=0.0)
    lines = by_point(own.points, [tuple(_fields(row, counted, most)) for row in rows])
    notes = f"{_NOTE}{_SEPARATORS_NOTE if separated else ''}{_REPRESENTED_NOTE if merged else ''}"
    note = f"{notes}{seconds.caption(row['seconds'] for row in rows)}"
    return Table("Budget per question", "method, ratio", (top, heads), lines, note)


def timed(own: QuestionSet, rows: Sequence[Row]) -> Table | None:
    """Seconds of each operating point alone, with their spread; None where none was timed."""
    if not any(row["seconds"] == "timed" for row in rows):
        return None
    heads = tuple(map(Head, titles(BUDGET, ("timed_n", *_TIMES))))
    lines = by_point(own.points, [tuple(_spread(row)) for row in rows])
    return Table("Seconds of each method and ratio alone", "method, ratio", (heads,), lines, _TIMED_NOTE)


def _spread(row: Row) -> Iterator[Field]:
    if row["seconds"] != "timed":
        yield from [Field("not measured", "none"), *[NONE] * len(seconds.SECONDS)]
        return
    yield Field(grouped_number(row["timed_n"], 0))
    for name, (low, high) in seconds.QUARTILES.items():
        yield Field(f"{grouped_number(row[name], 3)} [{grouped_number(row[low], 3)}, {grouped_number(row[high], 3)}]")


def _fields(row: Row, counted: Sequence[str], most: float) -> Iterator[Field]:
    yield Field(grouped_number(row["n"], 0))
    yield from (Field(grouped_number(row[name], BUDGET[name].decimals)) for name in counted)
    yield Field(relative(row["tflops"], most))
    yield Field(row["seconds"] or "–", "opens")
    yield from (Field(grouped_number(row[name], 3)) for name in seconds.SECONDS)
    yield Field(grouped_number(row["peak_mb"], 0), "opens")


def audit(own: QuestionSet) -> Table:
    """Achieved ratios of each point: of all questions, and of each duration bucket."""
    everything = [answer for point in own.points for answer in point.answers.values()]
    buckets = list(grouped(everything, ("duration",)))  # in the order of the tables
    costs: list[CostsByDuration] = [point.costs_by_duration for point in own.points]
    heads = tuple(Head("all" if kind == "all" else label) for kind, label in buckets)
    lines = by_point(own.points, [tuple(_achieved(groups.get(bucket)) for bucket in buckets) for groups in costs])
    return Table("Achieved ratio", "method, nominal ratio", (heads,), lines, _AUDIT_NOTE)


def _achieved(means: Row | None) -> Field:
    if means is None or math.isnan(means["ratio_achieved"]):
        return NONE
    text = grouped_number(means["ratio_achieved"], 3)
    return Field(f"{text} !", "off") if means["ratio_off"] else Field(text)
