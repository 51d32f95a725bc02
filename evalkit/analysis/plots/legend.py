"""Which line is whose: a name beside each line where all find room, else a legend below."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.transforms import Bbox

from evalkit.analysis.plots import captions, label_placement
from evalkit.analysis.plots.artists import LEVEL, WIDTH, marker
from evalkit.analysis.plots.style import FONT, Style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_agg import RendererAgg
    from matplotlib.figure import Figure
    from matplotlib.legend import Legend

    from evalkit.analysis.plots.series import PlottedPoint, Series

_AIR = 2.0  # points to the edge of the page
_COLUMNS = 4  # of a legend, at most
_KEY, _PAD = 2.9, 0.5  # a legend's line and the gap to its text, in font sizes


def beside(axes: Axes, methods: Sequence[Series], renderer: RendererAgg) -> bool:
    """Write each method's name beside its line; False, and nothing written, where not all find room."""
    frame, measured = axes.get_window_extent(renderer), captions.measure(renderer)
    texts = [_text(one) for one in methods]
    wanted = [_wanted(axes, one, measured(text), frame) for one, text in zip(methods, texts, strict=True)]
    front = [_seen(axes, np.asarray(line.get_xydata())) for line in axes.lines if line.get_gid() == "front"]
    levels = [_across(axes, point, frame) for one in methods if one.level for point in one.points]
    room = Bbox.from_extents(frame.x0, frame.y0, axes.figure.bbox.x1 - _AIR, frame.y1)  # nothing else is on the right
    found = label_placement.place(wanted, room, [*front, *levels])
    for text, (x, y) in zip(texts, found or (), strict=False):
        where = ((x - frame.x0) / frame.width, (y - frame.y0) / frame.height)
        axes.text(*where, text, transform=axes.transAxes, ha="center", va="center", zorder=5)
    return found is not None


def _text(one: Series) -> str:
    return captions.plain(one.method) + (" (cost 0)" if one.level else "")


def _wanted(axes: Axes, one: Series, width: float, frame: Bbox) -> label_placement.Wanted:
    if one.level:
        (left, y), (right, _) = _across(axes, one.points[0], frame)
        return label_placement.Wanted(width, FONT, level=(y, left, right))
    return label_placement.Wanted(width, FONT, spots=tuple(_spot(axes, point) for point in one.points))


def _across(axes: Axes, point: PlottedPoint, frame: Bbox) -> list[label_placement.Place]:
    (_, y), *_ = _seen(axes, np.array([(1, point.accuracy.percent)]))  # any cost that a logarithm has
    return [(frame.x0, y), (frame.x1, y)]


def _spot(axes: Axes, point: PlottedPoint) -> label_placement.Spot:
    percent, low, high = point.accuracy.percent, point.accuracy.low, point.accuracy.high
    ends = (percent, percent) if math.isnan(low) else (low, high)
    (x, y), (_, bottom), (_, top) = _seen(axes, np.array([(point.cost, height) for height in (percent, *ends)]))
    return label_placement.Spot(x, bottom, y, top)


def _seen(axes: Axes, places: np.ndarray) -> list[label_placement.Place]:
    return [(float(x), float(y)) for x, y in axes.transData.transform(places)]


def below(
    figure: Figure, methods: Sequence[Series], looks: Mapping[str, Style], room: float, renderer: RendererAgg
) -> Legend:
    """A legend no wider than `room`, in as few rows as that allows."""
    handles = [_handle(one, looks[one.method]) for one in methods]
    key = _KEY if any(handle.get_linestyle() != "None" for handle in handles) else 1
    measured = captions.measure(renderer)
    texts = [captions.cut(_text(one), room - FONT * (key + _PAD), measured) for one in methods]
    for columns in range(_COLUMNS, 0, -1):
        found = _legend(figure, handles, texts, columns, key)
        if columns == 1 or found.get_window_extent(renderer).width <= room:
            break
        found.remove()
    return found


def _legend(figure: Figure, handles: Sequence[Line2D], texts: Sequence[str], columns: int, key: float) -> Legend:
    spaces = {"borderpad": 0, "borderaxespad": 0, "labelspacing": 0.25, "columnspacing": 1.2, "handletextpad": _PAD}
    return figure.legend(handles, texts, ncols=columns, loc="upper left", frameon=False, handlelength=key, **spaces)


def _handle(one: Series, style: Style) -> Line2D:
    if one.level:
        return Line2D([], [], color=style.colour, ls=LEVEL, lw=WIDTH)
    handle = marker(style)
    if len(one.points) > 1:
        handle.set(linestyle=style.line, linewidth=WIDTH, color=style.colour)
    return handle
