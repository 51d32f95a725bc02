"""Which points of accuracy against cost are dominated."""

from __future__ import annotations

import math
from itertools import groupby
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def dominated(costs: Sequence[float], accuracies: Sequence[float]) -> list[bool]:
    """Per point: another costs no more and is no less accurate, and is strictly better in one of the two.

    Point estimates alone decide, no interval. Equal points do not dominate each other: both stand or both fall.
    ValueError where lengths differ or a number is nan, which cannot be ordered.
    """
    if len(costs) != len(accuracies):
        raise ValueError(f"expected one accuracy per cost, came {len(costs)} costs and {len(accuracies)} accuracies")
    if any(map(math.isnan, (*costs, *accuracies))):
        raise ValueError("expected numbers that can be ordered, came nan: leave out points that are not known")
    found = [False] * len(costs)
    best = -math.inf  # accuracy of all that costs strictly less
    for _, group in groupby(sorted(range(len(costs)), key=costs.__getitem__), key=costs.__getitem__):
        equal = list(group)
        highest = max(accuracies[i] for i in equal)
        for i in equal:
            found[i] = accuracies[i] <= best or accuracies[i] < highest
        best = max(best, highest)
    return found
