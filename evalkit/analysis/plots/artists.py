"""What is drawn for each method: its line, its points and their bars."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from matplotlib.lines import Line2D
from matplotlib.transforms import ScaledTranslation

from evalkit.analysis.plots.series import PlottedPoint, Series
from evalkit.analysis.plots.style import GREY, REFERENCE, Style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LEVEL = (0, (1, 2))  # dashes of a level line
WIDTH = 0.9  # of lines, in points
_SIZE = 4.6  # of a marker, in points
_RIM = 2.6  # wider for a marker under another one, so that it can be seen ...
_RIMS = 2  # ... and so often, at most
_SAME = 1.0  # points between markers that hide each other
_FAN = 1.3  # points between the bars of points of one cost ...
_SPREAD = 4.0  # ... which stay this near together, so that each still meets its marker


@dataclass(frozen=True)
class Mark:
    """A point as it is drawn."""

    point: PlottedPoint
    name: str  # of its artists: the place of its series, and its own in it
    style: Style
    x: float  # in points of the page
    y: float

    @property
    def layer(self) -> float:
        """Controls lie below methods, the reference above all."""
        return _layer(self.style)


def front(axes: Axes, corners: Sequence[tuple[float, float]]) -> None:
    """Steps along the best accuracy so far, by rising cost."""
    if corners:
        steps = [(cost, height) for (cost, _), (_, height) in zip(corners[1:], corners, strict=False)]
        end = (axes.get_xlim()[1], corners[-1][1])
        whole = [place for pair in zip(corners, [*steps, end], strict=True) for place in pair]
        axes.plot(*zip(*whole, strict=True), color="#B0B0B0", lw=0.7, zorder=1, gid="front")


def everything(axes: Axes, methods: Sequence[Series], looks: Mapping[str, Style]) -> None:
    """Lines, levels, points and bars of all methods."""
    marks: list[Mark] = []
    for place, one in enumerate(methods):
        style = looks[one.method]
        if one.level:
            _level(axes, place, one.points, style)
        else:
            where = [(point.cost, point.accuracy.percent) for point in one.points]
            line = axes.plot(*zip(*where, strict=True), color=style.colour, ls=style.line, lw=WIDTH)[0]
            line.set(zorder=_layer(style), gid=f"line-{place}")
            seen = axes.transData.transform(where)
            marks += [
                Mark(point, f"{place}-{i}", style, float(seen[i][0]), float(seen[i][1]))
                for i, point in enumerate(one.points)
            ]
    _points(axes, marks)
    _bars(axes, [mark for mark in marks if not math.isnan(mark.point.accuracy.low)])


def _level(axes: Axes, place: int, points: Sequence[PlottedPoint], style: Style) -> None:
    """A method that spends nothing has no place on a logarithmic axis: its accuracy is what all others start from."""
    for i, point in enumerate(points):
        interval = point.accuracy
        if not math.isnan(interval.low):
            axes.axhspan(interval.low, interval.high, color="#EFEFEF", lw=0, zorder=0, gid=f"band-{place}-{i}")
        line = axes.axhline(interval.percent, color=style.colour, ls=LEVEL, lw=WIDTH, zorder=1.5)
        line.set_gid(f"level-{place}-{i}")


def _points(axes: Axes, marks: Sequence[Mark]) -> None:
    """Hollow where dominated; one that lies under another is larger."""
    drawn: list[Mark] = []
    for mark in sorted(marks, key=lambda mark: -mark.layer):
        above = sum(abs(mark.x - other.x) < _SAME and abs(mark.y - other.y) < _SAME for other in drawn)
        drawn.append(mark)
        spot = marker(mark.style, hollow=mark.point.dominated, size=_SIZE + _RIM * min(above, _RIMS))
        spot.set_data([mark.point.cost], [mark.point.accuracy.percent])
        spot.set(zorder=mark.layer + 1 - 0.01 * above, clip_on=False)
        spot.set_gid(f"{'hollow' if mark.point.dominated else 'filled'}-{mark.name}")
        axes.add_line(spot)


def marker(style: Style, *, hollow: bool = False, size: float = _SIZE) -> Line2D:
    """A marker alone, yet without a place."""
    face = "white" if hollow else style.colour
    return Line2D([], [], ls="", marker=style.marker, ms=size, mew=0.8, mec=style.colour, mfc=face)


def _bars(axes: Axes, marks: Sequence[Mark]) -> None:
    """Intervals. Those of one cost would hide each other: they stand side by side, nearer than a marker is wide."""
    for crowd in _crowds(marks):
        shapes = list(dict.fromkeys(_ends(mark) for mark in crowd))
        step = min(_FAN, _SPREAD / max(1, len(shapes) - 1))
        for mark in crowd:
            aside = (shapes.index(_ends(mark)) - (len(shapes) - 1) / 2) * step
            shifted = axes.transData + ScaledTranslation(aside / 72, 0, axes.figure.dpi_scale_trans)
            bar = axes.plot([mark.point.cost] * 2, _ends(mark), color=mark.style.colour, lw=0.6, transform=shifted)[0]
            bar.set(zorder=mark.layer - 0.05, gid=f"bar-{mark.name}")


def _ends(mark: Mark) -> tuple[float, float]:
    return mark.point.accuracy.low, mark.point.accuracy.high


def _crowds(marks: Sequence[Mark]) -> list[list[Mark]]:
    """Those whose bars would lie on each other, in the order of `marks`."""
    left, crowds = list(marks), []
    while left:
        crowd = [left.pop(0)]
        while more := [mark for mark in left if any(_touch(mark, other) for other in crowd)]:
            crowd += more
            left = [mark for mark in left if mark not in more]
        crowds.append(crowd)
    return crowds


def _touch(one: Mark, other: Mark) -> bool:
    (low, high), (bottom, top) = _ends(one), _ends(other)
    return abs(one.x - other.x) < _FAN and low <= top and bottom <= high


def _layer(style: Style) -> float:
    return 2.5 if style is REFERENCE else 2.1 if style.colour == GREY else 2.3
