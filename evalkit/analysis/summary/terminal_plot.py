"""Accuracy against KV share, drawn with characters: a line for each method, the dense run marked."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    import plotext

    from evalkit.analysis.grid.measured_points import MeasuredPoint, QuestionSet
    from evalkit.analysis.summary.terminal import Terminal

COST = "ratio_achieved"  # visual KV entries at answer time, as a share of the dense run's
LABEL = "visual KV entries, % of the dense run (log scale)"
DENSE = "D"
REFERENCE, CONTROL = ("●", "o"), ("×", "x")  # with and without Unicode
_METHODS = (("■", "#"), ("▲", "^"), ("◆", "*"), ("▼", "v"), ("★", "%"), ("◀", "<"), ("▶", ">"))
_COLOURS = ("blue+", "orange", "cyan", "magenta", "green", "red")  # legible on black and on white
_PLAIN, _GREY = "default", "gray"
_BOX = str.maketrans("┌┐└┘├┤┬┴┼│─", "+++++++++|-")
_STEPS = (1, 2, 5, 10, 20, 50)  # percentage points between two ticks


@dataclass(frozen=True, kw_only=True)
class Line:
    """One method of a plot."""

    method: str
    marker: tuple[str, str]  # with and without Unicode
    colour: str
    points: tuple[MeasuredPoint, ...]  # those with a score; ratios falling


def lines(own: QuestionSet) -> list[Line]:
    """The reference, the methods and one control, in the set's order: more controls would hide them.

    It is the control with the most ratios, as random frames have one beside every other point.
    """
    members: dict[str, list[MeasuredPoint]] = {}
    for point in own.points:
        members.setdefault(point.method, []).append(point)
    controls = [name for name, found in members.items() if found[0].role == "control" and name != own.reference]
    beside = max(controls, key=lambda name: len(members[name]), default=None)
    drawn = {name: found for name, found in members.items() if name not in controls or name == beside}
    methods = [name for name in drawn if name not in (own.reference, *controls)]
    return [
        Line(
            method=name,
            marker=_marker(name, own.reference, methods),
            colour=_colour(name, own.reference, methods),
            points=tuple(point for point in found if point.scored),
        )
        for name, found in drawn.items()
    ]


def _marker(name: str, reference: str, methods: Sequence[str]) -> tuple[str, str]:
    if name not in methods:
        return REFERENCE if name == reference else CONTROL
    return _METHODS[methods.index(name) % len(_METHODS)]


def _colour(name: str, reference: str, methods: Sequence[str]) -> str:
    if name not in methods:
        return _PLAIN if name == reference else _GREY
    return _COLOURS[methods.index(name) % len(_COLOURS)]


def glyph(marker: tuple[str, str], colour: str, terminal: Terminal) -> str:
    """A marker as the plot shows it, for a legend."""
    text = marker[0] if terminal.unicode else marker[1]
    if not terminal.colour:
        return text
    import plotext  # brings other libraries, among them one for videos: a second

    return str(plotext.colorize(text).fill(plotext.pixel(colour)).string())


def draw(drawn: Sequence[Line], dense: MeasuredPoint | None, size: tuple[int, int], terminal: Terminal) -> list[str]:
    """The plot's lines of `size` (columns, rows); empty where all points have the same share: a table shows as much.

    A point that keeps no visual entry has no place on a logarithmic axis.
    """
    placed = [(line, [point for point in line.points if _spent(point)]) for line in drawn]
    every = [point for _, found in placed for point in found]
    if len({round(point.costs[COST], 3) for point in every}) < 2:
        return []
    figure = _empty(size, every)
    for line, found in placed:
        _add(figure, found, "braille" if terminal.unicode else ".", line.colour, connected=True)
    for line, found in placed:
        _add(figure, found, line.marker[0] if terminal.unicode else line.marker[1], line.colour)
    _add(figure, [dense] if dense in every else [], DENSE, _PLAIN)
    text = str(figure.build().string(colorless=not terminal.colour))
    return (text if terminal.unicode else text.translate(_BOX)).splitlines()


def _spent(point: MeasuredPoint) -> bool:
    return point.costs[COST] > 0  # nan compares as not


def _empty(size: tuple[int, int], every: Sequence[MeasuredPoint]) -> plotext.figure:
    """The axes. plotext has one figure for a process: whatever was in it is cleared."""
    import plotext

    figure = plotext.figure
    figure.clear()
    plotext.terminal.limit(False, False)
    figure.plot_size(*size).theme("colorless")
    shares, percents = [_place(point) for point in every], [point.accuracy.percent for point in every]
    left = math.floor(min(shares))
    right = max(math.ceil(max(shares)), left + 1)
    figure.ruler("x").lim(left - 0.1, right + 0.1)
    figure.ruler("x").ticks(list(range(left, right + 1)), [f"{100 * 2.0**x:.3g}" for x in range(left, right + 1)])
    air = max(1.0, 0.05 * (max(percents) - min(percents)))
    low, high = min(percents) - air, max(percents) + air
    ticks = _ticks(low, high, most=max(2, (size[1] - 4) // 2))
    figure.ruler("y").lim(low, high)
    figure.ruler("y").ticks(ticks, [f"{tick}" for tick in ticks])
    figure.label(LABEL if len(LABEL) < size[0] - 6 else "KV, % of dense", axis="x")
    return figure


def _place(point: MeasuredPoint) -> float:
    return math.log2(point.costs[COST])


def _ticks(low: float, high: float, most: int) -> list[int]:
    """Round numbers between the two ends, at most so many; at least one."""
    for step in _STEPS:
        found = range(step * math.ceil(low / step), math.floor(high) + 1, step)
        if len(found) <= most:
            break
    return list(found) or [round((low + high) / 2)]


def _add(
    figure: plotext.figure, points: Sequence[MeasuredPoint], marker: str, colour: str, *, connected: bool = False
) -> None:
    import plotext

    if points:
        shares, percents = [_place(point) for point in points], [point.accuracy.percent for point in points]
        signal = figure.signal(shares, percents, marker=plotext.marker(marker).fill(plotext.pixel(colour)))
        figure.draw(signal.lines(connected))
