"""Option margins: how much surer a model is of the right option than of the best wrong one, between two points.

Right or wrong is a margin's sign alone. Its size moves before the sign does, so that fewer questions show that two
operating points differ; it says nothing of how many more are right, and a few very sure answers weigh more than many.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from evalkit.analysis.stats.clustered_mean import ClusteredMean, clustered_mean

if TYPE_CHECKING:
    from evalkit.analysis.grid.measured_points import Key, MeasuredPoint


@dataclass(frozen=True, kw_only=True)
class MarginDifference:
    """Ours minus theirs on the questions with a margin and a score in both."""

    margin: ClusteredMean  # nats
    accuracy: ClusteredMean  # percentage points, on the same questions, its error made in the same way


def margins(point: MeasuredPoint) -> dict[Key, float]:
    """Margin of every question that has one and was scored."""
    found = ((key, answer.margin) for key, answer in point.answers.items() if key in point.scored)
    return {key: margin for key, margin in found if margin is not None}


def mean_margin(point: MeasuredPoint) -> ClusteredMean | None:
    """Of all questions that have one; None where none has."""
    found = margins(point)
    return clustered_mean(list(found.values()), [point.video(key) for key in found]) if found else None


def margin_difference(ours: MeasuredPoint, theirs: MeasuredPoint) -> MarginDifference | None:
    """None where no question has a margin in both."""
    mine, other = margins(ours), margins(theirs)
    keys = [key for key in mine if key in other]
    if not keys:
        return None
    videos = [ours.video(key) for key in keys]
    return MarginDifference(
        margin=clustered_mean([mine[key] - other[key] for key in keys], videos),
        accuracy=clustered_mean([100.0 * (int(ours.scored[key]) - int(theirs.scored[key])) for key in keys], videos),
    )
