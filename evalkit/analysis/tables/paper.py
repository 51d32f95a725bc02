"""A paper's tables for every question set, as CSV, Markdown and LaTeX: accuracy with its differences, budget, and what
compression keeps.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from evalkit.analysis.tables import compression_text, paper_text
from evalkit.atomic_write import replace
from evalkit.sanitize import csv_cell, markdown

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from evalkit.analysis.results import Results
    from evalkit.analysis.tables.grid_rows import Table


def write(results: Results, folder: Path) -> list[Path]:
    """Write paper/accuracy, paper/budget and paper/compression into `folder`, each as .csv, .md and .tex, each replaced
    at once.

    The same answers give the same bytes.
    """
    accuracy, budget, compression = results.set_accuracy, results.set_budget, results.set_compression
    texts = {
        "accuracy.csv": _csv(accuracy),
        "accuracy.md": markdown(paper_text.accuracy_markdown(accuracy)),
        "accuracy.tex": paper_text.accuracy_latex(accuracy),
        "budget.csv": _csv(budget),
        "budget.md": markdown(paper_text.budget_markdown(budget)),
        "budget.tex": paper_text.budget_latex(budget),
        "compression.csv": _csv(compression),
        "compression.md": markdown(compression_text.markdown(compression)),
        "compression.tex": compression_text.latex(compression),
    }
    place = folder / "paper"
    place.mkdir(parents=True, exist_ok=True)
    return [replace(place / name, text) for name, text in texts.items()]


def frame(found: Sequence[Table]) -> pd.DataFrame:
    """One row per question set × method × ratio, all sets one below the other."""
    return pd.concat([rows for _, rows in found], ignore_index=True)


def _csv(found: Sequence[Table]) -> str:
    # The last digits of a float are the machine's.
    return frame(found).map(csv_cell).to_csv(index=False, float_format="%.12g", lineterminator="\n")
