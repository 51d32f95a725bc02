"""One figure: accuracy against one cost, as wide as a column of a paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
from matplotlib.figure import Figure

from evalkit.analysis.grid.measured_points import COSTS
from evalkit.analysis.plots import artists, captions
from evalkit.analysis.plots import legend as legends
from evalkit.analysis.plots.cost_axis import TOKENS, Axis, axis, percent_axis
from evalkit.analysis.plots.series import PlottedPoint, front, points, series
from evalkit.analysis.plots.style import GREY, REFERENCE, Style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.legend import Legend

    from evalkit.analysis.grid.measured_points import QuestionSet

# All sizes in points of 1/72 inch.
WIDTH = 3.3 * 72
LEFT, RIGHT, EDGE = 31.0, 5.0, 3.0
HEIGHT = 150.0  # of the axes
ROW = 9.5  # of small text
BELOW = 25.0  # ticks, their labels and the name of the cost axis
ROOM = WIDTH - 2 * EDGE  # for words
_GAP = 4.0


def draw(question_set: QuestionSet, cost: str, styles: Mapping[str, Style]) -> Figure | None:
    """The figure; None where no point is known to spend anything of this cost. Inside `house_style` only."""
    found = points(question_set, cost)
    if not any(point.cost > 0 for point in found):
        return None
    figure = Figure(dpi=72)  # dots are points
    renderer = FigureCanvasAgg(figure).get_renderer()
    measured = captions.measure(renderer)
    axes = figure.add_axes((0, 0, 1, 1))
    _seat(figure, axes, BELOW, BELOW + HEIGHT)
    _scales(axes, found, cost, measured)
    methods = series(found)
    looks = {one.method: REFERENCE if one.method == question_set.reference else styles[one.method] for one in methods}
    artists.front(axes, front(found))
    artists.everything(axes, methods, looks)
    legend = None if legends.beside(axes, methods, renderer) else legends.below(figure, methods, looks, ROOM, renderer)
    head = captions.wrapped(captions.title(question_set, found), ROOM, measured)
    foot = [
        line for note in captions.notes(question_set, cost, found) for line in captions.wrapped(note, ROOM, measured)
    ]
    _stack(figure, axes, head, foot, legend, renderer)
    return figure


def _scales(axes: Axes, found: Sequence[PlottedPoint], cost: str, measured: captions.Measure) -> None:
    scale = axis([point.cost for point in found if point.cost > 0], tokens=cost in TOKENS)
    if scale.log:
        axes.set_xscale("log", base=2)
    axes.set_xlim(scale.low, scale.high)
    ticks = _readable(axes, scale, measured)
    axes.set_xticks(list(ticks), list(ticks.values()))
    axes.minorticks_off()
    ends = [end for p in found for end in (p.accuracy.percent, p.accuracy.low, p.accuracy.high)]
    percent = percent_axis(ends)
    axes.set_yticks(list(percent.ticks))
    axes.set_ylim(percent.low, percent.high)
    axes.tick_params(length=2.5, width=0.6, pad=2)
    axes.set_xlabel(COSTS[cost], labelpad=2)
    axes.set_ylabel("accuracy (%)", labelpad=2)


def _readable(axes: Axes, scale: Axis, measured: captions.Measure) -> dict[float, str]:
    """Ticks and labels, without those that would leave the page or touch the one before."""
    found, free = {}, 0.0
    for tick, label in zip(scale.ticks, scale.labels, strict=True):
        middle, half = float(axes.transData.transform((tick, 0))[0]), measured(label) / 2
        if free <= middle - half and middle + half <= WIDTH - 1:
            found[tick], free = label, middle + half + _GAP
    return found


def _stack(
    figure: Figure, axes: Axes, head: Sequence[str], foot: Sequence[str], legend: Legend | None, renderer: RendererAgg
) -> None:
    """Set what stands above and below the axes, and make the page as high as all of it."""
    keys = legend.get_window_extent(renderer).height + _GAP if legend else 0.0
    below = EDGE + ROW * len(foot) + keys + BELOW
    height = below + HEIGHT + _GAP + ROW * len(head) + EDGE
    _seat(figure, axes, below, height)
    for row, line in enumerate(head):
        figure.text(EDGE / WIDTH, 1 - (EDGE + ROW * row) / height, line, va="top")
    for row, line in enumerate(reversed(foot)):
        figure.text(EDGE / WIDTH, (EDGE + ROW * row) / height, line, va="bottom", color=GREY)
    if legend:
        legend.set_bbox_to_anchor((EDGE / WIDTH, (below - BELOW) / height), figure.transFigure)


def _seat(figure: Figure, axes: Axes, below: float, height: float) -> None:
    """A page of this height, and the axes of always the same size so far above its lower edge."""
    figure.set_size_inches(WIDTH / 72, height / 72)
    axes.set_position((LEFT / WIDTH, below / height, 1 - (LEFT + RIGHT) / WIDTH, HEIGHT / height))
