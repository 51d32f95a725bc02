"""A paper's tables as Markdown and as LaTeX: their columns side by side, captions, and what stands above them."""

from __future__ import annotations

import re
from textwrap import fill
from typing import TYPE_CHECKING

import pandas as pd

from evalkit.analysis.grid.seconds import caption as seconds_caption
from evalkit.analysis.tables import column_texts, latex
from evalkit.analysis.tables.column_texts import EXCLUDED, NAMES, SIGNIFICANT
from evalkit.analysis.tables.columns import DIFFERENCES
from evalkit.analysis.tables.differences import expected
from evalkit.analysis.tables.formatting import head_lines, render, setup_line
from evalkit.analysis.tables.grid_rows import AGAINST
from evalkit.analysis.tables.latex import escape

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evalkit.analysis.grid.measured_points import QuestionSet
    from evalkit.analysis.tables.grid_rows import Table

_ACCURACY = (
    "± is half the 95 % CI of the accuracy (every question counts once), clustered by video; a column of another name "
    "beside it is the protocol's own average. The expected CI half-width is what so many questions can show of a "
    "difference: half an interval at 10 % flips. n counts scored questions: failed ones are in no accuracy. "
    "Differences are Δ accuracy in percentage points on the same questions, [95 % CI] bootstrapped over videos: from "
    "the dense run (the reference at ratio 1), and from the reference at equal visual KV tokens and at equal compute "
    "(TFLOPs), where it was run within 2 % of that cost. ≈ is interpolated between its two ratios next in cost, "
    "linearly in log cost: its error is not known and no test applies; what was measured on both sides stands in a "
    "table of its own. – where the reference never costs that, or a cost is not known."
)
_BRACKET = (
    "Where the reference was not run at equal cost: Δ accuracy (pp) from its next cheaper and next dearer ratio, "
    "[95 % CI]. Above the dearer one is above the reference at equal cost if more cost does not harm it; below "
    "the cheaper one is below it."
)
_TEST = (
    "sign flips video by video, by Holm over the column, without rows that repeat the run they are compared with, same "
    "inputs and same replies"
)
_EXCLUDED = " excluded counts questions without a score in one of the runs compared, in the comparison with most."
_TOKENS = (
    "Means per question over the n answered ones. ratio is nominal, achieved is counted: visual KV entries at answer "
    "time as a share of the dense run. selected are visual tokens handed to the LLM; KV counts visual entries per "
    "layer, KV MB their bytes in all layers (10⁶), at answer time. TFLOPs count all stages."
)
_TIMES = "Stages and TTFT, the time to the first token, are in seconds; peak MB is the highest of all questions."
_OFF = " ! achieved differs from nominal by more than 2 %."


# ---- Markdown, for a terminal of 120 columns: two narrow tables of the same rows for each question set


def accuracy_markdown(tables: Sequence[Table]) -> str:
    """Accuracy, then the differences with their p-values."""
    parts = ["# Accuracy and differences\n"]
    for found, rows in tables:
        texts = column_texts.scores(rows), column_texts.differences(rows, starred=False)
        parts += [*head(found, expected(rows["n"])), *map(render, texts)]
        ends = column_texts.brackets(rows)
        parts += [] if ends.empty else [fill(_BRACKET, 120) + "\n", render(ends, left=("method", "at"))]
    caption = f"{_ACCURACY} p is by {_TEST} (–)." + _EXCLUDED * any(map(_any_excluded, tables))
    return "\n".join([*parts, fill(caption, 120), ""])


def budget_markdown(tables: Sequence[Table]) -> str:
    """Tokens and compute, then seconds and memory, then the spread of seconds where they were timed."""
    parts = ["# Budget\n"]
    for found, rows in tables:
        texts = column_texts.tokens(rows), column_texts.times(rows), column_texts.timed(rows)
        parts += [*head(found), *(render(own) for own in texts if own is not None)]
    return "\n".join([*parts, fill(f"{_TOKENS} {_times(*tables)}{_OFF * any(map(_any_off, tables))}", 120), ""])


def head(found: QuestionSet, *lines: str) -> list[str]:
    """What stands above a set's tables in Markdown: name, setup, sizes and notes."""
    own = [*_scope(found), f"- reference: {found.reference}", *(f"- {line}" for line in lines)]
    title = f"{found.name}, split {found.split}" if found.split else found.name
    return [f"## {title}\n", setup_line(found.setup), "\n".join([*own, ""])]


def _scope(found: QuestionSet) -> list[str]:
    """Benchmarks with their sizes, notes and gaps; without the numbers that columns of other tables use."""
    lines = head_lines([part for point in found.points for part in point.parts]).splitlines()
    return [re.sub(r"^- \[\d+\] ", "- ", line) for line in lines]


# ---- LaTeX: a table* of accuracy and two of budget for each question set


def accuracy_latex(tables: Sequence[Table]) -> str:
    """Accuracy and differences side by side; a star stands where others print the best number in bold."""
    return "\n".join(_accuracy_latex(table, place) for place, table in enumerate(tables, start=1))


def budget_latex(tables: Sequence[Table]) -> str:
    """Tokens and compute, seconds and memory, the spread of timed seconds: in one table they are wider than a page."""
    return "\n".join(_budget_latex(table, place) for place, table in enumerate(tables, start=1))


def _accuracy_latex(table: Table, place: int) -> str:
    found, rows = table
    scores, deltas = column_texts.scores(rows), column_texts.differences(rows, starred=True).iloc[:, len(NAMES) :]
    spans = [("", scores.shape[1]), (f"{DIFFERENCES['delta_pp'].title} vs. {found.reference}", len(AGAINST))]
    caption = escape(
        f"Accuracy (percent) on {sentence(found)} The {expected(rows['n'])}. {_ACCURACY}"
    ) + _EXCLUDED * _any_excluded(table)
    caption += rf" $^*$~$p < {SIGNIFICANT}$ by {_TEST}."
    body = latex.tabular(pd.concat([scores, deltas], axis=1), spans)
    table_ = latex.table(body, caption=caption, label=label("accuracy", place, found))
    ends = column_texts.brackets(rows)
    if ends.empty:
        return table_
    scope = escape(f"Between two ratios of {found.reference} on {sentence(found)} {_BRACKET}")
    return table_ + "\n" + latex.table(latex.tabular(ends), caption=scope, label=label("between", place, found))


def _budget_latex(table: Table, place: int) -> str:
    found, rows = table
    tokens = escape(f"Token budget on {sentence(found)} {_TOKENS}{_OFF * _any_off(table)}")
    times = escape(f"Time and memory on {sentence(found)} {_times(table)}")
    timed = escape(f"Seconds with their spread on {sentence(found)} {_times(table)}")
    parts = (
        ("tokens", tokens, column_texts.tokens(rows)),
        ("times", times, column_texts.times(rows)),
        ("timed", timed, column_texts.timed(rows)),
    )
    return "\n".join(
        latex.table(latex.tabular(texts), caption=caption, label=label(kind, place, found))
        for kind, caption, texts in parts
        if texts is not None
    )


def _times(*tables: Table) -> str:
    return f"{_TIMES} {seconds_caption(kind for _, rows in tables for kind in rows['seconds'])}".rstrip()


def sentence(found: QuestionSet) -> str:
    """The scope in words, for a caption that stands alone."""
    lines = [re.sub(r"^ *- ", "" if line.startswith("- ") else "note: ", line) for line in _scope(found)]
    title = f"{found.name}: " if len(found.points[0].parts) > 1 else ""
    return f"{title}{'; '.join(lines)}. Reference {found.reference}; {setup_line(found.setup).strip()}."


def label(kind: str, place: int, found: QuestionSet) -> str:
    """A table's name for LaTeX. The place keeps it unique where names differ only in signs."""
    return f"tab:{kind}-{place}-{'-'.join(re.findall('[a-z0-9]+', found.name.lower()))}"


def _any_excluded(table: Table) -> bool:
    return bool((table[1][EXCLUDED] > 0).any(axis=None))


def _any_off(table: Table) -> bool:
    return bool(table[1]["ratio_off"].any())
