"""The compression table as Markdown and as LaTeX: up to four narrow tables of the same rows for each question set."""

from __future__ import annotations

import math
from textwrap import fill
from typing import TYPE_CHECKING, Any

import pandas as pd

from evalkit.analysis.grid.seconds import caption as seconds_caption
from evalkit.analysis.tables import latex as tex
from evalkit.analysis.tables.columns import COMPRESSION
from evalkit.analysis.tables.formatting import render
from evalkit.analysis.tables.latex import escape
from evalkit.analysis.tables.paper_text import head, label, sentence

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from evalkit.analysis.tables.grid_rows import Table

Row = dict["Hashable", Any]

# table -> its columns; one whose interval is in the frame takes it into brackets
SHOWN = {
    "evidence": (
        *("evidence_n", "evidence_unseen", "evidence_share", "evidence_chance", "evidence_above_pp", "evidence_hit"),
        "evidence_hit_chance",
    ),
    "hard": ("hard_n", "hard_videos", "hard_accuracy", "hard_dense", "hard_delta_pp"),
    "dense": ("margin", "dense_margin_n", "dense_margin_delta", "dense_margin_z", "dense_accuracy_z"),
    "reference": (
        *("margin", "reference_margin_n", "reference_margin_delta", "reference_margin_z", "reference_accuracy_z"),
    ),
    "cost": ("questions_per_video", "tflops", "tflops_amortised", "total_s", "total_s_amortised", "seconds"),
}
DIFFERENCES = {"evidence_above_pp", "hard_delta_pp", "dense_margin_delta", "reference_margin_delta"}  # with their sign
TITLES = {
    "evidence": "Evidence recall",
    "hard": "Hard kinds of questions",
    "dense": "Option margins against the dense run",
    "reference": "Option margins against the reference at the same ratio",
    "cost": "Cost per question, apportioned",
}
NOTES = {
    "evidence": (
        "Share of the kept KV entries that lie in the spans in which the answer is seen, [95 % CI] clustered by video, "
        "mean over questions with such spans; chance is the share of the dense run's entries that do. hit: questions "
        "of which at least one kept entry lies in a span; by chance: that as many frames, drawn at random, include "
        "one. unseen: spans between the dense run's frames, in no other number."
    ),
    "hard": (
        "Questions of the kinds (task_type) on which the reference at this ratio loses more than on average against "
        "the dense run, chosen on one half of the videos (by a hash of their names) and reported on the other, both "
        "ways round. Δ is in percentage points from the reference at the same ratio, [95 % CI] clustered by video. It "
        "is about kinds of questions, not about the very questions that the reference got wrong. – at ratio 1, and "
        "where no kind is hard."
    ),
    "dense": (
        "margin: log-probability of the right letter minus that of the best wrong one at the reply's first token "
        "(nats), mean over all questions that have one, [95 % CI] clustered by video. Δ is from the dense run, on the "
        "n questions with a margin in both. z: the difference in clustered standard errors, of the margin and of the "
        "accuracy on the same questions."
    ),
    "reference": "As above, from the reference at the same ratio.",
    "cost": (
        "amortised: what a question needs alone plus an equal part of what all questions about its video need "
        "(decoding, encoding, and choice and prefill unless the method looks at the question). Apportioned numbers "
        "depend on the questions per video: they compare only on the same questions, and none is marked as best."
    ),
}


def markdown(tables: Sequence[Table]) -> str:
    """Every table that has a number, set by set, with what its columns mean below."""
    parts = ["# What compression keeps\n"]
    used: dict[str, list[str]] = {}
    for found, rows in tables:
        parts += head(found)
        for name, own in measured(rows).items():
            parts += [f"### {TITLES[name]}\n", render(own)]
            used[name] = [*used.get(name, []), *rows["seconds"]]
        parts += [line + "\n" for line in missing(rows)]
    notes = [fill(f"{TITLES[name]}: {note(name, kinds)}", 120) + "\n" for name, kinds in used.items()]
    return "\n".join([*parts, *notes])


def latex(tables: Sequence[Table]) -> str:
    """Each of them as a table* of its own."""
    return "\n".join(
        tex.table(
            tex.tabular(own),
            caption=escape(f"{TITLES[name]} on {sentence(found)} {note(name, list(rows['seconds']))}"),
            label=label(f"compression-{name}", place, found),
        )
        for place, (found, rows) in enumerate(tables, start=1)
        for name, own in measured(rows).items()
    )


def note(name: str, seconds: Sequence[str]) -> str:
    """What a table's columns mean; `seconds` are the kinds of seconds in it."""
    return f"{NOTES[name]} {seconds_caption(seconds)}".strip() if name == "cost" else NOTES[name]


def measured(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Table -> its columns as texts, after method and ratio; without tables that have no number of their own."""
    lines = rows.to_dict("records")
    return {
        name: pd.DataFrame([_names(row) | _texts(row, columns) for row in lines])
        for name, columns in SHOWN.items()
        if not _empty(rows, name)
    }


def missing(rows: pd.DataFrame) -> list[str]:
    """A line for each thing that no answer tells."""
    found = {
        "evidence": "evidence recall: not measured (no evidence spans, no dense run, or answers without kept cells)",
        "hard": "hard kinds: none (they need the dense run, the reference below ratio 1, and a kind that it loses on)",
        "dense": "option margins: not measured (answers of an older version, or nothing beside the dense run)",
        "cost": "apportioned costs: not measured (answers of an older version)",
    }
    return [line for name, line in found.items() if _empty(rows, name)]


def _empty(rows: pd.DataFrame, name: str) -> bool:
    own = {"evidence": "evidence_share", "hard": "hard_accuracy", "cost": "tflops_amortised"}
    return bool(rows[own.get(name, f"{name}_margin_delta")].isna().all())


def _names(row: Row) -> dict[str, str]:
    return {"method": row["method"], "ratio": f"{row['ratio']:g}"}


def _texts(row: Row, columns: Sequence[str]) -> dict[str, str]:
    return {COMPRESSION[name].title: text(row, name) for name in columns}


def text(row: Row, name: str) -> str:
    """A value as Markdown and LaTeX print it, with its interval where it has one; a dash where it is not known."""
    column, value = COMPRESSION[name], row[name]
    if not isinstance(value, str) and (pd.isna(value) or math.isnan(value)):
        return "–"
    shown = column.text(value)
    if name in DIFFERENCES and not shown.startswith("-"):
        shown = f"+{shown}"
    if f"{name}_low" not in COMPRESSION or pd.isna(row[f"{name}_low"]):
        return shown
    return f"{shown} [{column.text(row[f'{name}_low'])}, {column.text(row[f'{name}_high'])}]"
