"""Accuracy against cost as the page draws it: places in percent of the plot, so that texts and marks keep their size.

`plots` draws the same for papers. Here every operating point is a link to its questions, which a keyboard reaches.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from evalkit.analysis.grid.measured_points import COSTS
from evalkit.analysis.plots import captions
from evalkit.analysis.plots.cost_axis import TOKENS, Axis, axis, percent_axis
from evalkit.analysis.plots.series import front, points, series
from evalkit.analysis.plots.style import COLOURS, GREY, REFERENCE
from evalkit.analysis.report.overview_table import address, label
from evalkit.analysis.report.plot_places import Places, along, down
from evalkit.analysis.report.setup import point_key
from evalkit.analysis.tables.formatting import grouped_number

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from evalkit.analysis.grid.measured_points import QuestionSet
    from evalkit.analysis.plots.series import PlottedPoint, Series
    from evalkit.analysis.plots.style import Style
    from evalkit.analysis.report.overview import OverviewRow

Stroke = tuple[float, float, float, float]  # from x, y to x, y, in percent

# Costs that the page can show, and what its buttons call them; tokens fed to the LLM are among the plots as files.
SHOWN = {"kv_tokens": "KV cache", "tflops": "compute", "ttft_s": "time to first token"}

# Outlines within 5 px of a mark's middle, by matplotlib's name of the marker.
_MARKERS = {
    "o": "M-4.5,0a4.5,4.5 0 1 0 9,0a4.5,4.5 0 1 0 -9,0z",
    "s": "M-4,-4h8v8h-8z",
    "^": "M0,-5L5,4H-5z",
    "v": "M0,5L5,-4H-5z",
    "<": "M-5,0L4,-5V5z",
    ">": "M5,0L-4,-5V5z",
    "D": "M0,-5.3L5.3,0L0,5.3L-5.3,0z",
    "d": "M0,-5.8L3.8,0L0,5.8L-3.8,0z",
    "P": "M-1.8,-5h3.6v3.2h3.2v3.6h-3.2v3.2h-3.6v-3.2h-3.2v-3.6h3.2z",
    "X": "M-5,-2.6L-2.6,-5L0,-2.4L2.6,-5L5,-2.6L2.4,0L5,2.6L2.6,5L0,2.4L-2.6,5L-5,2.6L-2.4,0z",
}


@dataclass(frozen=True)
class Spot:
    """An operating point. Places are in percent from the left and from the top."""

    key: str
    label: str
    address: str
    x: float
    y: float
    low: float | None  # ends of the interval; None with a single video
    high: float | None
    hollow: bool  # dominated
    aside: float  # pixels to the right, where others would hide it
    bar_aside: float  # the same of its interval


@dataclass(frozen=True)
class Curve:
    """One method."""

    method: str
    colour: str  # names a variable of the style sheet
    dashes: str
    marker: str
    control: bool
    level: bool  # spends nothing: a line across, for it has no place on a logarithmic axis
    spots: tuple[Spot, ...]

    @property
    def strokes(self) -> list[tuple[Spot, Spot]]:
        """Spots that a line joins."""
        return [] if self.level else list(pairwise(self.spots))


@dataclass(frozen=True)
class Tick:
    """A number at an axis."""

    at: float  # percent
    text: str
    below: str = ""  # a second number


@dataclass(frozen=True)
class Dense:
    """The dense run's accuracy, across the plot."""

    y: float
    low: float | None
    high: float | None
    text: str


@dataclass(frozen=True)
class Plot:
    """One figure."""

    cost: str
    name: str  # of the cost axis
    title: str
    x: tuple[Tick, ...]
    y: tuple[Tick, ...]
    curves: tuple[Curve, ...]  # in the order of the tables
    front: tuple[Stroke, ...]
    dense: Dense | None
    reference: str
    notes: tuple[str, ...]  # how seconds were measured, and what is not shown

    @property
    def layers(self) -> list[Curve]:
        """The curves from the lowest to the highest: controls, methods, the reference."""
        return sorted(self.curves, key=lambda curve: (not curve.control, curve.method == self.reference))


def plots(own: QuestionSet, rows: Sequence[OverviewRow], looks: Mapping[str, Style], slug: str) -> dict[str, Plot]:
    """The figures of a question set by cost; a cost that is known of no operating point is not there."""
    found = {cost: _plot(own, rows, looks, slug, cost) for cost in SHOWN}
    return {cost: plot for cost, plot in found.items() if plot is not None}


def _plot(
    own: QuestionSet, rows: Sequence[OverviewRow], looks: Mapping[str, Style], slug: str, cost: str
) -> Plot | None:
    found = points(own, cost)
    spent = [point.cost for point in found if point.cost > 0]
    if not spent:
        return None
    across = axis(spent, tokens=cost in TOKENS)
    up = percent_axis([end for p in found for end in (p.accuracy.percent, p.accuracy.low, p.accuracy.high)])
    places = Places(across, up, found)
    labels = {id(row.point): label(row) for row in rows}
    curves = [_curve(one, own, looks, places, labels, slug) for one in series(found)]
    return Plot(
        cost=cost,
        name=COSTS[cost],
        title=f"{own.name}: accuracy against {COSTS[cost]}",
        x=tuple(_ticks(across, own, cost)),
        y=tuple(Tick(down(up, tick), text) for tick, text in zip(up.ticks, up.labels, strict=True)),
        curves=tuple(curves),
        front=tuple(_front(front(found), across, up)),
        dense=_dense(own, up),
        reference=own.reference,
        notes=tuple(captions.notes(own, cost, found)[1:]),  # the first says how bars and hollow marks are read
    )


def _ticks(across: Axis, own: QuestionSet, cost: str) -> Iterator[Tick]:
    """KV entries also as a share of the dense run's."""
    dense = own.dense.costs[cost] if own.dense and cost == "kv_tokens" else math.nan
    for tick, text in zip(across.ticks, across.labels, strict=True):
        share = "" if math.isnan(dense) or not dense else f"{100 * tick / dense:.3g} %"
        whole = grouped_number(tick, 0) if tick >= 1000 else text
        yield Tick(along(across, tick), whole, share)


def _dense(own: QuestionSet, up: Axis) -> Dense | None:
    if own.dense is None or not own.dense.scored:
        return None
    percent, low, high = own.dense.accuracy.percent, own.dense.accuracy.low, own.dense.accuracy.high
    bottom, top = (None, None) if math.isnan(low) else (down(up, low), down(up, high))
    return Dense(down(up, percent), bottom, top, f"dense {grouped_number(percent, 1)} %")


def _front(corners: Sequence[tuple[float, float]], across: Axis, up: Axis) -> Iterator[Stroke]:
    """Steps along the best accuracy so far, by rising cost."""
    seen = [(along(across, cost), down(up, height)) for cost, height in corners]
    for (x, y), (right, above) in pairwise(seen):
        yield x, y, right, y
        yield right, y, right, above
    if seen:
        yield (*seen[-1], 100.0, seen[-1][1])


def _curve(
    one: Series, own: QuestionSet, looks: Mapping[str, Style], places: Places, labels: Mapping[int, str], slug: str
) -> Curve:
    style = REFERENCE if one.method == own.reference else looks[one.method]
    spots = tuple(_spot(point, places, labels, slug) for point in one.points)
    control = one.points[0].measured.role == "control"
    return Curve(one.method, colour(style), dashes(style), _MARKERS[style.marker], control, one.level, spots)


def _spot(point: PlottedPoint, places: Places, labels: Mapping[int, str], slug: str) -> Spot:
    measured, interval = point.measured, point.accuracy
    known = not math.isnan(interval.low)
    return Spot(
        key=point_key(measured),
        label=labels[id(measured)],
        address=address(slug, measured),
        x=places.x(point),
        y=down(places.up, interval.percent),
        low=down(places.up, interval.low) if known else None,
        high=down(places.up, interval.high) if known else None,
        hollow=point.dominated,
        aside=places.aside[id(measured)],
        bar_aside=places.bar[id(measured)],
    )


def colour(style: Style) -> str:
    """The style sheet has each colour twice, for light and for dark."""
    if style is REFERENCE:
        return "--curve-reference"
    return "--curve-control" if style.colour == GREY else f"--curve-{COLOURS.index(style.colour) + 1}"


def dashes(style: Style) -> str:
    """Lengths in pixels for a line of 2 px; "none" for an unbroken one."""
    return "none" if isinstance(style.line, str) else " ".join(f"{2 * length:g}" for length in style.line[1])
