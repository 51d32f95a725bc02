"""The end of a run on one screen: a plot, the accuracies beside it, three sentences, a line for every other set."""

from __future__ import annotations

from itertools import zip_longest
from textwrap import shorten, wrap
from typing import TYPE_CHECKING

from evalkit.analysis.grid.measured_points import ALL
from evalkit.analysis.summary import legend
from evalkit.analysis.summary.sentences import sentences, short
from evalkit.analysis.summary.terminal import Terminal
from evalkit.analysis.summary.terminal_plot import draw, lines
from evalkit.analysis.tables.grid_rows import records
from evalkit.sanitize import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evalkit.analysis.grid.measured_points import QuestionSet
    from evalkit.analysis.results import Results
    from evalkit.analysis.tables.grid_rows import Table

__all__ = ["Terminal", "summary"]

_PLOT = 30  # columns that a plot needs
_LOW, _HIGH = 10, 16  # rows of a plot
_OTHERS = 4  # further question sets that have a line
_FILES = 4  # rows below: the report is written, where the files are, the prompt
_GAP = 2  # columns


def summary(results: Results, terminal: Terminal) -> str:
    """The first question set's plot and sentences, and a line for each of the others; "" where nothing was run.

    Where a setup has several benchmarks the first set is all of them together, every question counting once, of the
    operating points that were run on each.
    """
    if not results.set_accuracy:
        return ""
    (own, frame), *others = results.set_accuracy
    below = _wrapped([*sentences(own, records(frame)), *_others(own, others)], terminal.columns)
    height = max(_LOW, min(_HIGH, terminal.rows - _FILES - len(below) - 1))
    shown = [*_wrapped([_title(own, results)], terminal.columns)[:2], *_picture(own, height, terminal), *below]
    return "\n".join(terminal.text(line.rstrip()) for line in shown) + "\n"


def _wrapped(texts: Sequence[str], columns: int) -> list[str]:
    shown = map(printable, texts)
    lines = [line for text in shown for line in wrap(text, columns, subsequent_indent="  ", break_on_hyphens=False)]
    return [line.replace("\N{NO-BREAK SPACE}", " ") for line in lines]


def _title(own: QuestionSet, results: Results) -> str:
    """What is drawn; of the setup only where the results have several."""
    setup = f", {' · '.join(own.setup)}" if len(results.setups) > 1 else ""
    pooled = ", every question counts once" if own.name == ALL else ""
    dropped = {p.method for p in results.points[own.setup]} - {p.method for p in own.points}
    missing = f"; without {', '.join(sorted(dropped))}, not run on each" if dropped else ""
    return f"Accuracy against KV cache: {own.name}{setup}{pooled}{missing}"


def _picture(own: QuestionSet, height: int, terminal: Terminal) -> list[str]:
    """The plot with the accuracies beside it; below it the markers alone where there is no room for these."""
    drawn = [line for line in lines(own) if line.points]
    if not drawn:
        return []
    table, columns = legend.table(own, drawn, terminal)
    left = terminal.columns - columns - _GAP
    if left >= _PLOT:
        plot = draw(drawn, own.dense, (left, height), terminal)
        blank = " " * left
        pairs = zip_longest(plot, table, fillvalue="")
        return [f"{row or blank}{' ' * _GAP}{text}" for row, text in pairs] if plot else table
    plot = draw(drawn, own.dense, (terminal.columns, height), terminal) if terminal.columns >= _PLOT else []
    return [*plot, *legend.keys(own, drawn, terminal)]


def _others(own: QuestionSet, others: Sequence[Table]) -> list[str]:
    """The best method at each ratio of every other set: a benchmark's, or another setup's."""
    texts = []
    for found, frame in others[:_OTHERS]:
        setup = "" if found.setup == own.setup else f" ({', '.join(found.setup)})"
        texts.append(f"{shorten(found.name, 60)}{setup}: {short(found, records(frame))}.")
    more = len(others) - _OTHERS
    return [*texts, f"{more} more sets in the report."] if more > 0 else texts
