"""The reference at equal cost: a cell against the place on the reference's curve that costs as much as it does."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

from evalkit.evidence.budget import MEASURES, TOLERANCE
from evalkit.evidence.paired import Change, change
from evalkit.evidence.timing import SECONDS

if TYPE_CHECKING:
    from evalkit.evidence.cells import Cell, Key, QuestionSet
    from evalkit.ledger import Ledger


@dataclass(frozen=True, kw_only=True)
class Place:
    """A place on a curve: between two cells that are next to each other in cost, or a cell itself."""

    lower: Cell
    upper: Cell  # the lower one again where the place is a cell
    weight: float = 0.0  # of the upper one, in [0, 1)


@dataclass(frozen=True, kw_only=True)
class Matched:
    """Ours minus the reference at `place`."""

    place: Place
    change: Change
    left_out: int  # questions without a score in ours or in a cell of the place


def against_dense(found: QuestionSet, ours: Cell) -> Matched | None:
    """Ours minus the dense run; None for that run itself, and where it is not there."""
    dense = found.dense
    return None if dense is None or ours is dense else _minus(ours, Place(lower=dense, upper=dense))


def at_equal(found: QuestionSet, ours: Cell, cost: str) -> Matched | None:
    """Ours minus the reference at equal cost, a measure of the budget table such as "kv_tokens" or "tflops".

    None for the reference's own cells, outside its curve (nothing is extrapolated; a cost within 2 % of an end of the
    curve, as far as an achieved ratio may miss its nominal one, counts as that end), and where the cost is not known.
    """
    place = None if ours.method == found.reference else _place(found.curve, ours, cost)
    return None if place is None else _minus(ours, place)


def _place(curve: tuple[Cell, ...], ours: Cell, cost: str) -> Place | None:
    """Neighbours are taken by cost alone: the curve is neither sorted by accuracy, nor smoothed, nor made monotone.

    Of cells that cost the same the first in the curve's order stands, the one with the largest nominal ratio: a choice
    by accuracy would be one in hindsight.
    """
    gaps = [(gap, cell) for cell in curve if not math.isnan(gap := _gap(ours, cell, cost))]
    below = min((pair for pair in gaps if pair[0] >= 0), key=lambda pair: pair[0], default=None)
    above = max((pair for pair in gaps if pair[0] <= 0), key=lambda pair: pair[0], default=None)
    if below and above and below[0] > 0:
        # Linear in the logarithm: ratios are taken by halving, and accuracy falls by more nearly equal steps from one
        # halving to the next than from one token to the next.
        return Place(lower=below[1], upper=above[1], weight=below[0] / (below[0] - above[0]))
    end = below or above
    if end is None or abs(end[0]) > math.log(1 + TOLERANCE):
        return None
    return Place(lower=end[1], upper=end[1])


def _gap(ours: Cell, theirs: Cell, cost: str) -> float:
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


def _ledgers(cell: Cell) -> dict[Key, Ledger]:
    """What the answers spent that the budget table counts."""
    return {key: a.ledger for key, a in cell.answers.items() if a.ledger is not None and a.status != "failed"}


def _minus(ours: Cell, place: Place) -> Matched:
    """The weight is held fixed: costs are counted, not sampled."""
    cells = (ours, place.lower, place.upper)
    keys = [key for key in ours.scored if all(key in cell.scored for cell in cells)]
    lower, upper = ([float(cell.scored[key]) for key in keys] for cell in cells[1:])
    theirs = [low + place.weight * (up - low) for low, up in zip(lower, upper, strict=True)]
    found = change([float(ours.scored[key]) for key in keys], theirs, [ours.video(key) for key in keys])
    asked = {key for cell in cells for key in cell.answers}
    return Matched(place=place, change=found, left_out=len(asked) - found.n)
