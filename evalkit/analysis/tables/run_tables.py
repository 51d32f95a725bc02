"""The tables of a results folder: compact for the terminal and README, long for files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from evalkit.analysis.grid.grouping import KEYS
from evalkit.analysis.grid.seconds import QUARTILES
from evalkit.analysis.tables import columns, differences, formatting, terminal
from evalkit.atomic_write import replace
from evalkit.sanitize import csv_cell
from evalkit.sanitize import markdown as safe

if TYPE_CHECKING:
    from pathlib import Path

    from evalkit.analysis.results import Results
    from evalkit.analysis.tables.columns import Column

__all__ = ["markdown", "write"]

_HIDDEN = ("ci_half_width", *(name for stage, pair in QUARTILES.items() if stage != "ttft_s" for name in pair))
_LEFT = (*KEYS[:-1], *columns.GROUPS, "seconds")  # texts


def markdown(results: Results) -> str:
    """The compact tables and paired differences as Markdown that also reads well in a terminal of 120 columns."""
    parts = (
        terminal.accuracy_section(results),
        differences.section(results.difference_rows),
        terminal.budget_section(results),
    )
    return safe("\n".join(part for part in parts if part))


def write(results: Results, folder: Path) -> None:
    """Write accuracy.csv, accuracy.md, differences.csv, budget.csv and budget.md into `folder`, each replaced at once.

    The same answers give the same bytes. The .md files open with the compact table.
    """
    folder.mkdir(parents=True, exist_ok=True)
    scores, costs = _long(results.accuracy, columns.ACCURACY), _long(results.budget, columns.BUDGET)
    replace(folder / "accuracy.csv", _csv(results.accuracy))
    replace(folder / "accuracy.md", safe(terminal.accuracy_section(results) + "\n" + scores))
    replace(folder / "differences.csv", _csv(results.differences))
    replace(folder / "budget.csv", _csv(results.budget))
    replace(folder / "budget.md", safe(terminal.budget_section(results) + "\n" + costs))


def _csv(frame: pd.DataFrame) -> str:
    return frame.map(csv_cell).to_csv(index=False, float_format="%.6g", lineterminator="\n")


def _long(frame: pd.DataFrame, section: dict[str, Column]) -> str:
    """The whole frame; key columns that never vary stand in the head lines already."""
    known = columns.KEYS | columns.GROUPS | section
    constant = [key for key in KEYS[:-2] if frame[key].nunique() == 1]
    shown = [name for name in frame.columns if name not in (*_HIDDEN, *constant)]
    texts = pd.DataFrame({known[name].title: [_text(known[name], value) for value in frame[name]] for name in shown})
    left = [known[name].title for name in shown if name in _LEFT]
    return "## By group of questions\n\n" + formatting.render(texts, left=left)


def _text(column: Column, value: Any) -> str:
    if column.name == "ratio_off":
        return "off" if value else ""
    return column.text(value) if column.name not in _LEFT else str(value)
