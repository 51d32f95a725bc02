"""The reference at equal cost: a point against the place on the reference's curve that costs as much as it does.

Where the reference was run within 2 % of that cost, the two are compared as any other two runs. Elsewhere only the two
points next in cost are measured. What accuracy does between them is not known: compared in this way with its own curve,
uniform sampling is several percentage points off at in-between ratios, more than its interval allows. So an
interpolated difference has neither interval nor p-value, and the differences from both neighbours stand beside it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from statistics import fmean
from typing import TYPE_CHECKING

from evalkit.analysis.grid.costs import MEASURES, TOLERANCE
from evalkit.analysis.grid.seconds import SECONDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evalkit.analysis.grid.measured_points import Key, MeasuredPoint, QuestionSet
    from evalkit.analysis.stats.paired_tests import Change
    from evalkit.ledger import Ledger


@dataclass(frozen=True, kw_only=True)
class Place:
    """A place on a curve: between two points that are next to each other in cost, or a point itself."""

    lower: MeasuredPoint
    upper: MeasuredPoint  # the lower one again where the place is a point
    weight: float = 0.0  # of the upper one, in [0, 1)

    @property
    def measured(self) -> bool:
        """Whether it is a point: the reference was run there."""
        return self.lower is self.upper


@dataclass(frozen=True, kw_only=True)
class Matched:
    """Ours minus the reference at `place`; `change` has no interval and no p-value where that is interpolated."""

    place: Place
    change: Change
    excluded: int  # questions without a score in ours or in a point of the place
    bracket: tuple[Change, Change] | None = None  # ours minus the lower, and the upper point; None where measured
    repeats: bool = False  # same inputs and replies as the reference's: tests nothing


def against_dense(found: QuestionSet, ours: MeasuredPoint) -> Matched | None:
    """Ours minus the dense run; None for that run itself, and where it is not there."""
    dense = found.dense
    return None if dense is None or ours is dense else _compared(found, ours, Place(lower=dense, upper=dense))


def at_equal(found: QuestionSet, ours: MeasuredPoint, cost: str) -> Matched | None:
    """Ours minus the reference at equal cost, a measure of the budget table such as "kv_tokens" or "tflops".

    A point of the reference within 2 % of the cost, as far as an achieved ratio may miss its nominal one, counts as
    that cost. None for the reference's own points, outside its curve (nothing is extrapolated), and where the cost is
    not known.
    """
    found_place = None if ours.method == found.reference else place(found.curve, ours, cost)
    return None if found_place is None else _compared(found, ours, found_place)


def place(curve: Sequence[MeasuredPoint], ours: MeasuredPoint, cost: str) -> Place | None:
    """Where the curve costs as much as ours.

    Neighbours are taken by cost alone: the curve is neither sorted by accuracy, nor smoothed, nor made monotone. Of
    points that cost the same the first in the curve's order stands, the one with the largest nominal ratio: a choice
    by accuracy would be one in hindsight.
    """
    gaps = [(gap, point) for point in curve if not math.isnan(gap := cost_gap(ours, point, cost))]
    nearest = min(gaps, key=lambda pair: abs(pair[0]), default=None)
    if nearest is None:
        return None
    if abs(nearest[0]) <= math.log(1 + TOLERANCE):
        return Place(lower=nearest[1], upper=nearest[1])
    below = min((pair for pair in gaps if pair[0] >= 0), key=lambda pair: pair[0], default=None)
    above = max((pair for pair in gaps if pair[0] <= 0), key=lambda pair: pair[0], default=None)
    if not below or not above:
        return None
    # Linear in the logarithm: ratios are taken by halving, and accuracy falls by more nearly equal steps from one
    # halving to the next than from one token to the next.
    return Place(lower=below[1], upper=above[1], weight=below[0] / (below[0] - above[0]))


def cost_gap(ours: MeasuredPoint, theirs: MeasuredPoint, cost: str) -> float:
    """Logarithm of our mean cost as a multiple of theirs; nan where one is not known or nothing was spent.

    Both means are over the questions that both answered: where one failed on long videos the means over all that each
    answered would be of other videos.
    """
    ledgers = _ledgers(ours), _ledgers(theirs)
    if cost in SECONDS and any(spent.seconds_shared for own in ledgers for spent in own.values()):
        return math.nan  # they depend on what else was run
    both = [key for key in ledgers[0] if key in ledgers[1]]
    means = [fmean([MEASURES[cost](spent[key]) for key in both]) for spent in ledgers if both]
    return math.log(means[0] / means[1]) if means and min(means) > 0 else math.nan


def _ledgers(point: MeasuredPoint) -> dict[Key, Ledger]:
    """What the answers spent that the budget table counts."""
    return {key: a.ledger for key, a in point.answers.items() if a.ledger is not None and a.status != "failed"}


def _compared(found: QuestionSet, ours: MeasuredPoint, place: Place) -> Matched:
    """On the questions that have a score in ours and in both operating points of the place."""
    lower = found.paired(ours, place.lower, place.upper)
    if place.measured:
        return Matched(place=place, change=lower.difference, excluded=len(lower.excluded), repeats=lower.repeats)
    bracket = lower.difference, found.paired(ours, place.upper, place.lower).difference
    delta = (1 - place.weight) * bracket[0].delta_pp + place.weight * bracket[1].delta_pp
    between = replace(bracket[0], delta_pp=delta, ci_low=math.nan, ci_high=math.nan, p_sign_flip=math.nan)
    return Matched(place=place, change=between, excluded=len(lower.excluded), bracket=bracket)
