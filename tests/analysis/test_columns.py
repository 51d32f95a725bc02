"""The registry of columns: what tables and files show is in it, and results/README.md prints it."""

from __future__ import annotations

import re
from pathlib import Path

from evalkit.analysis.results import Results
from evalkit.analysis.tables import columns
from tests.support.report_runs import averages, grid

README = Path(__file__).parents[2] / "results" / "README.md"


def test_the_readme_prints_the_registry() -> None:
    """Otherwise: python -m evalkit.analysis.tables.columns results/README.md"""
    text = README.read_text(encoding="utf-8")
    assert [name for name in columns.SECTIONS if f"<!-- columns: {name} -->" not in text] == []
    assert columns.filled(text) == text
    assert columns.filled(text.replace("questions that were answered", "something else")) == text


def test_every_column_of_the_files_is_in_it() -> None:
    own = Results(grid(12), averages)
    keys = columns.KEYS | columns.GROUPS
    assert set(own.accuracy.columns) == {*keys, *columns.ACCURACY}
    assert set(own.budget.columns) == {*keys, *columns.BUDGET}
    assert set(own.differences.columns) == {*list(columns.KEYS)[2:], *columns.DIFFERENCES}
    known = columns.KEYS | columns.ACCURACY | columns.DIFFERENCES | columns.PAPER
    for _, rows in own.set_accuracy:
        plain = {re.sub("^(dense|kv|compute)_((lower|upper)_(?!ratio))?", "", name) for name in rows}
        assert plain <= set(known)


def test_one_measure_has_one_heading() -> None:
    """A name that stands in several sections means the same thing in all of them."""
    sections = columns.SECTIONS.values()
    headings = {(name, column.title) for own in sections for name, column in own.items()}
    assert len(headings) == len({name for name, _ in headings})


def test_values_as_text() -> None:
    nan = float("nan")
    assert columns.BUDGET["kv_mb"].text(2.0) == "2.00"
    assert columns.BUDGET["tflops"].text(0.0012345) == "0.00123"
    assert columns.KEYS["ratio"].text(0.25) == "0.25"
    assert columns.BUDGET["seconds"].text("") == columns.BUDGET["kv_mb"].text(nan) == "–"
