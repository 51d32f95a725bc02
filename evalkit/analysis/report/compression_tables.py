"""The page's tables of what compression keeps: evidence recall, hard kinds, option margins, apportioned costs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evalkit.analysis.report.html_table import NONE, Field, Head, Table, by_point
from evalkit.analysis.tables import compression_text
from evalkit.analysis.tables.compression_text import TITLES

if TYPE_CHECKING:
    import pandas as pd

    from evalkit.analysis.grid.measured_points import QuestionSet


def compression(own: QuestionSet, rows: pd.DataFrame) -> tuple[Table, ...]:
    """Those that have a number; `rows` as `tables.compression.rows` makes them."""
    return tuple(_table(own, name, texts, rows) for name, texts in compression_text.measured(rows).items())


def _table(own: QuestionSet, name: str, texts: pd.DataFrame, rows: pd.DataFrame) -> Table:
    numbers = texts.drop(columns=["method", "ratio"])
    lines = by_point(own.points, [tuple(map(_field, row)) for row in numbers.itertuples(index=False, name=None)])
    note = compression_text.note(name, list(rows["seconds"]))
    return Table(TITLES[name], "method, ratio", (tuple(map(Head, numbers.columns)),), lines, note)


def _field(text: str) -> Field:
    return NONE if text == "–" else Field(text.replace("-", "\N{MINUS SIGN}"))
