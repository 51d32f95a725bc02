"""Which marker is whose, with the accuracies that the plot shows."""

from __future__ import annotations

import math
from textwrap import wrap
from typing import TYPE_CHECKING

from evalkit.analysis.summary.terminal_plot import DENSE, glyph
from evalkit.analysis.tables.formatting import number
from evalkit.sanitize import one_line, printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evalkit.analysis.grid.measured_points import QuestionSet
    from evalkit.analysis.summary.terminal import Terminal
    from evalkit.analysis.summary.terminal_plot import Line

_HEAD = "accuracy (%) at"  # and the ratios, which are its columns
_NAME = 18  # characters: a longer name is cut
_NARROWEST = 28  # columns, for the notes
_CELL = 6  # characters of a number, with the space before it


def table(own: QuestionSet, drawn: Sequence[Line], terminal: Terminal) -> tuple[list[str], int]:
    """A line for each method with its accuracy at each ratio, then notes; and the columns that they take.

    `drawn` has at least one line.
    """
    ratios = _ratios(own, drawn)
    width = min(_NAME, max(len(_HEAD), *(len(line.method) for line in drawn)))
    columns = max(_NARROWEST, 2 + width + _CELL * len(ratios))
    head = f"  {_HEAD:<{width}}" + "".join(f"{ratio:>{_CELL}.3g}" for ratio in ratios)
    cells = ["".join(f"{_percent(line, ratio):>{_CELL}}" for ratio in ratios) for line in drawn]
    names = [f"{glyph(line.marker, line.colour, terminal)} {_short(one_line(line.method), width)}" for line in drawn]
    found = [name + text for name, text in zip(names, cells, strict=True)]
    return [head, *found, "", *_notes(own, drawn, columns)], columns


def keys(own: QuestionSet, drawn: Sequence[Line], terminal: Terminal) -> list[str]:
    """The markers and names alone, for a narrow terminal; a line for each."""
    shown = [f"{glyph(line.marker, line.colour, terminal)} {one_line(line.method)}" for line in drawn]
    return [*shown, *_notes(own, drawn, terminal.columns)]


def _ratios(own: QuestionSet, drawn: Sequence[Line]) -> list[float]:
    """Those that any method was run at; the reference may have more, where it costs as much as they do."""
    others = [line for line in drawn if line.method != own.reference] or drawn
    return sorted({point.ratio for line in others for point in line.points}, reverse=True)


def _percent(line: Line, ratio: float) -> str:
    found = [point for point in line.points if point.ratio == ratio]
    return number(found[0].accuracy.percent, 1) if found else "–"


def _short(name: str, width: int) -> str:
    return f"{name:<{width}}" if len(name) <= width else f"{name[: width - 1]}…"


def _notes(own: QuestionSet, drawn: Sequence[Line], columns: int) -> list[str]:
    shown = [point for line in drawn for point in line.points]
    halves = [point.accuracy.half_width for point in shown if not math.isnan(point.accuracy.half_width)]
    hidden = dict.fromkeys(p.method for p in own.points if p.method not in [line.method for line in drawn])
    texts = []
    if own.dense in shown and own.dense is not None:
        texts.append(f"{DENSE} dense: {own.dense.method} at ratio 1")
    if halves:
        low, high = number(min(halves), 1), number(max(halves), 1)
        texts.append(f"95 % CI: ± {low}" + (f" to {high}" if low != high else ""))
    if hidden:
        texts.append(f"not drawn: {', '.join(hidden)}")
    return [line for text in texts for line in wrap(printable(text), columns, subsequent_indent="  ")]
