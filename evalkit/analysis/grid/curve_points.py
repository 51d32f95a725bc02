"""Where to run the reference so that it costs as much as the other methods: ratios, predicted from its curve."""

from __future__ import annotations

import math
from itertools import islice
from typing import TYPE_CHECKING

from evalkit.analysis.grid.equal_cost import cost_gap, place
from evalkit.analysis.grid.measured_points import question_sets

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from evalkit.analysis.grid.measured_points import MeasuredPoint, QuestionSet
    from evalkit.runs.load import Run

COSTS = ("kv_tokens", "tflops")  # at which tables compare
_SAME = 0.005  # a ratio so near to one that was run would be the same frames again
_NEAR = 0.02  # the middle of ratios so near each other stands for all of them: 1 % away, and costs within 2 %
_DIGITS = 4  # of a ratio


def missing(runs: Sequence[Run]) -> list[float]:
    """Nominal ratios, falling, at which to run the reference next so that it costs as much as each other method.

    Costs are KV tokens and TFLOPs, on each question set and on all together. None for a cost within 2 % of which the
    reference was run, for one above its cost at ratio 1, and where the two ratios around it differ by one cell or less.
    """
    wanted = {ratio for found in question_sets(runs) for ratio in _of_set(found)}
    groups: list[list[float]] = []
    for ratio in sorted(wanted, reverse=True):
        if groups and ratio >= groups[-1][0] * (1 - _NEAR):
            groups[-1].append(ratio)
        else:
            groups.append([ratio])
    return [_rounded(math.sqrt(group[0] * group[-1])) for group in groups]


def _of_set(found: QuestionSet) -> Iterator[float]:
    """One ratio for each method and ratio: cache first, which is predicted best and may do for compute as well."""
    for ours in found.points:
        wanted = (_wanted(found.curve, ours, cost) for cost in COSTS if ours.method != found.reference)
        new = (r for r in wanted if r is not None and all(abs(r / point.ratio - 1) > _SAME for point in found.curve))
        yield from islice(new, 1)


def _wanted(curve: Sequence[MeasuredPoint], ours: MeasuredPoint, cost: str) -> float | None:
    found = place(curve, ours, cost)
    if found is not None and (found.measured or _next(found.lower, found.upper)):
        return None
    gaps = [(point.ratio, gap) for point in curve if not math.isnan(gap := cost_gap(ours, point, cost))]
    ratio = _predicted([(ratio, math.exp(-gap)) for ratio, gap in gaps])
    if ratio is None or not 0 < ratio <= 1:
        return None
    return _rounded(ratio)


def _rounded(ratio: float) -> float:
    return float(f"{ratio:.{_DIGITS}g}")


def _next(lower: MeasuredPoint, upper: MeasuredPoint) -> bool:
    """Whether there is no whole cell between two ratios of a method that spends its ratio on frames."""
    return 0 < upper.costs["cells"] - lower.costs["cells"] <= 1


def _predicted(points: Sequence[tuple[float, float]]) -> float | None:
    """The ratio whose cost is 1, of points (ratio, cost): inverse quadratic interpolation through the nearest three.

    Costs of frames are a line, and attention's a parabola in the ratio. Two points give a line, one a multiple.
    """
    near = sorted({cost: ratio for ratio, cost in points}.items(), key=lambda point: abs(math.log(point[0])))[:3]
    if not near:
        return None
    if len(near) == 1:
        ((cost, ratio),) = near
        return ratio / cost
    inside = min(cost for cost, _ in near) <= 1 <= max(cost for cost, _ in near)
    found = _at_one(near)
    low, high = min(ratio for _, ratio in near), max(ratio for _, ratio in near)
    return found if not inside or low <= found <= high else _at_one(near[:2])


def _at_one(points: Sequence[tuple[float, float]]) -> float:
    """Lagrange's polynomial of the ratio through (cost, ratio), at cost 1."""
    total = 0.0
    for i, (cost, ratio) in enumerate(points):
        others = [other for j, (other, _) in enumerate(points) if j != i]
        total += ratio * math.prod((1 - other) / (cost - other) for other in others)
    return total
