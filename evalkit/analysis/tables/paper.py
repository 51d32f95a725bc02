"""A paper's tables: accuracy with its differences, and budget, for every question set, as CSV, Markdown and LaTeX."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from evalkit.analysis.grid.cells import question_sets
from evalkit.analysis.tables import grid_rows, paper_text
from evalkit.analysis.tables.accuracy import Averages, official
from evalkit.analysis.tables.accuracy import accuracy as long_accuracy
from evalkit.runs.atomic_write import replace

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from evalkit.analysis.tables.paper_text import Table
    from evalkit.runs.load import Run


def frames(runs: Sequence[Run], averages: Averages = official) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Accuracy and budget: one row per question set × method × ratio, all sets one below the other."""
    accuracy, budget = tables(runs, averages)
    return _long(accuracy), _long(budget)


def tables(runs: Sequence[Run], averages: Averages = official) -> tuple[list[Table], list[Table]]:
    """The same by question set: accuracy's rows, and budget's."""
    found = question_sets(runs)
    own = grid_rows.averages(long_accuracy(runs, averages))
    return [(s, grid_rows.accuracy(s, own)) for s in found], [(s, grid_rows.budget(s)) for s in found]


def write(runs: Sequence[Run], folder: Path, averages: Averages = official) -> list[Path]:
    """Write paper/accuracy and paper/budget into `folder`, each as .csv, .md and .tex, replaced whole.

    The same answers give the same bytes.
    """
    accuracy, budget = tables(runs, averages)
    texts = {
        "accuracy.csv": _csv(accuracy),
        "accuracy.md": paper_text.accuracy_markdown(accuracy),
        "accuracy.tex": paper_text.accuracy_latex(accuracy),
        "budget.csv": _csv(budget),
        "budget.md": paper_text.budget_markdown(budget),
        "budget.tex": paper_text.budget_latex(budget),
    }
    place = folder / "paper"
    place.mkdir(parents=True, exist_ok=True)
    return [replace(place / name, text) for name, text in texts.items()]


def _long(found: Sequence[Table]) -> pd.DataFrame:
    return pd.concat([rows for _, rows in found], ignore_index=True)


def _csv(found: Sequence[Table]) -> str:
    # The last digits of a float are the machine's.
    return _long(found).to_csv(index=False, float_format="%.12g", lineterminator="\n")
