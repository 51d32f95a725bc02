"""The two tables: accuracy and token budget, compact for the terminal and README, long for files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from evalkit.analysis.grid.costs import budget
from evalkit.analysis.grid.grouping import KEYS
from evalkit.analysis.grid.seconds import QUARTILES, SECONDS
from evalkit.analysis.tables import differences, formatting, terminal
from evalkit.analysis.tables.accuracy import Averages, accuracy, official
from evalkit.runs.atomic_write import replace

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from evalkit.runs.load import Run

__all__ = ["accuracy", "budget", "markdown", "write"]

_DECIMALS = {
    "percent": 1,
    "low": 1,
    "high": 1,
    "frames": 1,
    "cells": 1,
    "kv_tokens": 1,
    "kv_mb": 3,
    "ratio_achieved": 3,
}
_DECIMALS |= dict.fromkeys((*SECONDS, *QUARTILES["ttft_s"]), 3)
_STAGES_SPREAD = tuple(name for stage, pair in QUARTILES.items() if stage != "ttft_s" for name in pair)
_TEXTS = (*KEYS[:-1], "group", "value", "seconds")  # aligned to the left; all else are numbers


def markdown(runs: Sequence[Run], averages: Averages = official) -> str:
    """The compact tables and paired differences as Markdown that also reads well in a terminal of 120 columns."""
    parts = (
        terminal.accuracy_section(runs, accuracy(runs, averages)),
        differences.section(runs),
        terminal.budget_section(runs, budget(runs)),
    )
    return "\n".join(part for part in parts if part)


def write(runs: Sequence[Run], folder: Path, averages: Averages = official) -> None:
    """Write accuracy.csv, accuracy.md, differences.csv, budget.csv and budget.md into `folder`, each replaced whole.

    The same answers give the same bytes. The .md files open with the compact table.
    """
    scores, spending = accuracy(runs, averages), budget(runs)
    folder.mkdir(parents=True, exist_ok=True)
    replace(folder / "accuracy.csv", _csv(scores))
    replace(folder / "accuracy.md", terminal.accuracy_section(runs, scores) + "\n" + _long(scores, "half_width"))
    replace(folder / "differences.csv", _csv(differences.differences(runs)))
    replace(folder / "budget.csv", _csv(spending))
    replace(folder / "budget.md", terminal.budget_section(runs, spending) + "\n" + _long(spending, *_STAGES_SPREAD))


def _csv(frame: pd.DataFrame) -> str:
    return frame.to_csv(index=False, float_format="%.6g", lineterminator="\n")


def _long(frame: pd.DataFrame, *hidden: str) -> str:
    """The whole frame; key columns that never vary stand in the head lines already."""
    constant = [key for key in KEYS[:-2] if frame[key].nunique() == 1]
    shown = frame.drop(columns=[*hidden, *constant])
    texts = pd.DataFrame({name: [_text(value, name) for value in shown[name]] for name in shown.columns})
    return "## By group of questions\n\n" + formatting.render(texts, left=[c for c in shown.columns if c in _TEXTS])


def _text(value: Any, column: str) -> str:
    if column in _TEXTS:
        return str(value)
    if column == "ratio":
        return f"{value:g}"
    if column == "ratio_off":
        return "off" if value else ""
    if column == "tflops":
        return formatting.significant(value)
    return formatting.number(value, _DECIMALS.get(column, 0))
