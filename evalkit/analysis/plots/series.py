"""What a plot shows: a point for each operating point of a question set."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evalkit.analysis.stats.pareto import dominated

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evalkit.analysis.grid.measured_points import MeasuredPoint, QuestionSet
    from evalkit.analysis.stats.accuracy_interval import Interval


@dataclass(frozen=True)
class PlottedPoint:
    """One method at one ratio."""

    measured: MeasuredPoint
    cost: float  # mean per question; of seconds that were timed, median over videos
    accuracy: Interval  # percent, every question counts once, clustered by video
    dominated: bool


@dataclass(frozen=True)
class Series:
    """One method: its points in order of ratio. One that spends nothing has no place on a log axis: a level line."""

    method: str
    points: tuple[PlottedPoint, ...]
    level: bool = False


def points(question_set: QuestionSet, cost: str) -> list[PlottedPoint]:
    """The operating points whose cost and accuracy are known, in the set's order."""
    costs = zip(question_set.points, question_set.costs(cost), strict=True)
    known = [(point, own, point.accuracy) for point, own in costs if point.scored and not math.isnan(own)]
    fallen = dominated([own for _, own, _ in known], [interval.percent for *_, interval in known])
    return [PlottedPoint(*point, fell) for point, fell in zip(known, fallen, strict=True)]


def series(found: Sequence[PlottedPoint]) -> list[Series]:
    """One per method; what a method does without spending anything stands apart from its line."""
    methods: dict[tuple[str, bool], list[PlottedPoint]] = {}
    for point in found:
        methods.setdefault((point.measured.method, point.cost == 0), []).append(point)
    return [
        Series(method, tuple(sorted(own, key=lambda point: point.measured.ratio)), level)
        for (method, level), own in methods.items()
    ]


def front(found: Sequence[PlottedPoint]) -> list[tuple[float, float]]:
    """Cost and accuracy of the points that are not dominated, by rising cost; those that spend nothing left out."""
    return sorted({(p.cost, p.accuracy.percent) for p in found if not p.dominated and p.cost > 0})
