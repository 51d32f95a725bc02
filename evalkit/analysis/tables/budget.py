"""The token-budget table in long form: one row per run × ("all" or duration bucket)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from evalkit.analysis.grid.costs import COLUMNS

if TYPE_CHECKING:
    from evalkit.analysis.grid.measured_points import MeasuredPoint

__all__ = ["COLUMNS", "rows"]


def rows(point: MeasuredPoint) -> list[dict[str, Any]]:
    """The rows of one run, a point on one benchmark: means over its answered questions, and the peak memory."""
    (part,) = point.parts
    return [
        part.key | {"group": kind, "value": label} | means for (kind, label), means in point.costs_by_duration.items()
    ]
