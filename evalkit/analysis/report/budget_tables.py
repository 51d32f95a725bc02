"""The page's tables of what was spent, and of achieved against nominal ratios."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from evalkit.analysis.grid import seconds
from evalkit.analysis.grid.costs import TOLERANCE, spent
from evalkit.analysis.grid.grouping import grouped
from evalkit.analysis.report.html_table import NONE, Field, Head, Table, by_cell
from evalkit.analysis.tables.numbers import figure, significant

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from evalkit.analysis.grid.cells import QuestionSet

Row = dict[str, Any]  # of evidence/paper/rows.py's frames
Spending = Mapping[tuple[str, str], Row]  # duration bucket -> what `spent` says of it

_TOKENS = {
    "frames": ("frames", 1),
    "tokens_selected": ("visual tokens", 0),
    "llm_tokens_fed": ("LLM tokens", 0),
    "kv_tokens": ("KV", 1),
    "kv_mb": ("KV MB", 2),
}
_NOTE = """
Means per question over the n answered ones. visual tokens are those handed to the LLM, LLM tokens all that were fed
to it, text and scoring passes included. KV counts visual entries per layer when the answer began, KV MB their bytes in
all layers (10⁶). TTFT is the time to the first token; peak MB is the highest of all questions.
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
    """Tokens and compute, then seconds and memory."""
    tokens = ["n", *(title for title, _ in _TOKENS.values()), "TFLOPs"]
    top = (Head("tokens and compute", len(tokens)), Head("seconds", 2 + len(seconds.STAGES)), Head("memory"))
    heads = tuple(map(Head, [*tokens, "measured", "TTFT", *seconds.STAGES, "peak MB"]))
    most = max((row["tflops"] for row in rows if not math.isnan(row["tflops"])), default=0.0)
    lines = by_cell(own.cells, [tuple(_fields(row, most)) for row in rows])
    note = f"{_NOTE}{seconds.caption(row['seconds'] for row in rows)}"
    return Table("Budget per question", "method, ratio", (top, heads), lines, note)


def timed(own: QuestionSet, rows: Sequence[Row]) -> Table | None:
    """Seconds of each operating point alone, with their spread; None where none was timed."""
    if not any(row["seconds"] == "timed" for row in rows):
        return None
    heads = tuple(map(Head, ["videos", "TTFT", *seconds.STAGES]))
    lines = by_cell(own.cells, [tuple(_spread(row)) for row in rows])
    return Table("Seconds of each method and ratio alone", "method, ratio", (heads,), lines, _TIMED_NOTE)


def _spread(row: Row) -> Iterator[Field]:
    if row["seconds"] != "timed":
        yield from [Field("not measured", "none"), *[NONE] * len(seconds.SECONDS)]
        return
    yield Field(figure(row["timed_n"], 0))
    for name, (low, high) in seconds.QUARTILES.items():
        yield Field(f"{figure(row[name], 3)} [{figure(row[low], 3)}, {figure(row[high], 3)}]")


def _fields(row: Row, most: float) -> Iterator[Field]:
    yield Field(figure(row["n"], 0))
    yield from (Field(figure(row[name], decimals)) for name, (_, decimals) in _TOKENS.items())
    yield Field(significant(row["tflops"], most))
    yield Field(row["seconds"] or "–", "opens")
    yield from (Field(figure(row[name], 3)) for name in seconds.SECONDS)
    yield Field(figure(row["peak_mb"], 0), "opens")


def by_duration(own: QuestionSet) -> list[Spending]:
    """What each cell spent on all questions and on each duration bucket."""
    groups = [grouped(list(cell.answers.values()), ("duration",)) for cell in own.cells]
    return [
        {bucket: spent(answers, cell.ratio) for bucket, answers in found.items()}
        for cell, found in zip(own.cells, groups, strict=True)
    ]


def audit(own: QuestionSet, spending: Sequence[Spending]) -> Table:
    """Achieved ratios of each cell: of all questions, and of each duration bucket."""
    everything = [answer for cell in own.cells for answer in cell.answers.values()]
    buckets = list(grouped(everything, ("duration",)))  # in the order of the tables
    heads = tuple(Head("all" if kind == "all" else label) for kind, label in buckets)
    lines = by_cell(own.cells, [tuple(_achieved(groups.get(bucket)) for bucket in buckets) for groups in spending])
    return Table("Achieved ratio", "method, nominal ratio", (heads,), lines, _AUDIT_NOTE)


def _achieved(means: Row | None) -> Field:
    if means is None or math.isnan(means["ratio_achieved"]):
        return NONE
    text = figure(means["ratio_achieved"], 3)
    return Field(f"{text} !", "off") if means["ratio_off"] else Field(text)
