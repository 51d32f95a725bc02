"""The reference at equal cost: a cell against the place on the reference's curve that costs as much as it does.

Where the reference was run within 2 % of that cost, the two are compared as any other two runs. Elsewhere only the two
cells next in cost are measured. What accuracy does between them is not known: held against its own curve in this way,
uniform sampling is several points off at in-between ratios, more than its interval allows. So an interpolated
difference has neither interval nor p-value, and the differences from both neighbours stand beside it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from statistics import fmean
from typing import TYPE_CHECKING

from evalkit.analysis.grid.cells import same
from evalkit.analysis.grid.costs import MEASURES, TOLERANCE
from evalkit.analysis.grid.seconds import SECONDS
from evalkit.analysis.stats.paired_tests import Change, change

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evalkit.analysis.grid.cells import Key, MeasuredPoint, QuestionSet
    from evalkit.ledger import Ledger


@dataclass(frozen=True, kw_only=True)
class Place:
    """A place on a curve: between two cells that are next to each other in cost, or a cell itself."""

    lower: MeasuredPoint
    upper: MeasuredPoint  # the lower one again where the place is a cell
    weight: float = 0.0  # of the upper one, in [0, 1)

    @property
    def measured(self) -> bool:
        """Whether it is a cell: the reference was run there."""
        return self.lower is self.upper


@dataclass(frozen=True, kw_only=True)
class Matched:
    """Ours minus the reference at `place`; `change` has no interval and no p-value where that is interpolated."""

    place: Place
    change: Change
    left_out: int  # questions without a score in ours or in a cell of the place
    bracket: tuple[Change, Change] | None = None  # ours minus the lower, and the upper cell; None where measured
    same: bool = False  # the reference's answers by construction


def against_dense(found: QuestionSet, ours: MeasuredPoint) -> Matched | None:
    """Ours minus the dense run; None for that run itself, and where it is not there."""
    dense = found.dense
    return None if dense is None or ours is dense else _minus(ours, Place(lower=dense, upper=dense))


def at_equal(found: QuestionSet, ours: MeasuredPoint, cost: str) -> Matched | None:
    """Ours minus the reference at equal cost, a measure of the budget table such as "kv_tokens" or "tflops".

    A cell of the reference within 2 % of the cost, as far as an achieved ratio may miss its nominal one, counts as that
    cost. None for the reference's own cells, outside its curve (nothing is extrapolated), and where the cost is not
    known.
    """
    found_place = None if ours.method == found.reference else place(found.curve, ours, cost)
    return None if found_place is None else _minus(ours, found_place)


def place(curve: Sequence[MeasuredPoint], ours: MeasuredPoint, cost: str) -> Place | None:
    """Where the curve costs as much as ours.

    Neighbours are taken by cost alone: the curve is neither sorted by accuracy, nor smoothed, nor made monotone. Of
    cells that cost the same the first in the curve's order stands, the one with the largest nominal ratio: a choice
    by accuracy would be one in hindsight.
    """
    gaps = [(gap, cell) for cell in curve if not math.isnan(gap := cost_gap(ours, cell, cost))]
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
    means = [fmean(MEASURES[cost](spent[key]) for key in both) for spent in ledgers if both]
    return math.log(means[0] / means[1]) if means and min(means) > 0 else math.nan


def _ledgers(cell: MeasuredPoint) -> dict[Key, Ledger]:
    """What the answers spent that the budget table counts."""
    return {key: a.ledger for key, a in cell.answers.items() if a.ledger is not None and a.status != "failed"}


def _minus(ours: MeasuredPoint, place: Place) -> Matched:
    """On the questions that have a score in ours and in both cells of the place."""
    cells = (ours, place.lower, place.upper)
    keys = [key for key in ours.scored if all(key in cell.scored for cell in cells)]
    asked = {key for cell in cells for key in cell.answers}
    mine, lower, upper = ([float(cell.scored[key]) for key in keys] for cell in cells)
    videos, left_out = [ours.video(key) for key in keys], len(asked) - len(keys)
    if place.measured:
        plain = change(mine, lower, videos)
        return Matched(place=place, change=plain, left_out=left_out, same=same(ours, place.lower))
    bracket = change(mine, lower, videos), change(mine, upper, videos)
    points = (1 - place.weight) * bracket[0].points + place.weight * bracket[1].points
    between = replace(bracket[0], points=points, low=math.nan, high=math.nan, p_flip=math.nan)
    return Matched(place=place, change=between, left_out=left_out, bracket=bracket)
