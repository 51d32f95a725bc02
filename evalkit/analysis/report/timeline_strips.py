"""What a method kept of a video, small enough for a page of thousands: one digit per stretch of time."""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evalkit.types import KeptOverTime

BINS = 64  # at most; finer than this no strip is drawn
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
TOP = len(_DIGITS) - 1


@dataclass(frozen=True)
class Axis:
    """The stretches of time into which a video is cut, the same for all methods.

    They begin where the cells of the finest kept grid do, which is the dense run's wherever it was run: its own strip
    is even then, and a method that skips cells shows gaps where it skipped. Long videos have several cells a stretch.
    """

    starts: tuple[float, ...]  # seconds, ascending
    full: tuple[float, ...]  # tokens of each stretch where nothing is left out
    seconds: float  # of the video

    def digits(self, kept: KeptOverTime) -> str:
        """One base-36 digit per stretch: 0 for nothing, z for everything; what little is kept never counts as 0."""
        tokens = [0.0] * len(self.starts)
        for second, count in zip(kept.seconds, kept.tokens, strict=True):
            tokens[max(0, bisect_right(self.starts, second) - 1)] += count
        return "".join(_DIGITS[_step(t / full)] for t, full in zip(tokens, self.full, strict=True))

    @property
    def thousandths(self) -> list[int]:
        """Where each stretch begins, as a share of the video."""
        return [min(1000, round(1000 * start / self.seconds)) for start in self.starts]


def _step(share: float) -> int:
    return min(TOP, max(round(TOP * share), int(share > 0)))


def axis(kept: Sequence[KeptOverTime], duration_s: float | None) -> Axis | None:
    """The axis of a video, from everything that was kept of it; None where that is nothing."""
    finest = max((sorted(set(one.seconds)) for one in kept), key=len, default=[])
    most = max((count for one in kept for count in one.tokens), default=0.0)
    if not finest or most <= 0:
        return None
    count = min(BINS, len(finest))
    first = [place * len(finest) // count for place in range(count + 1)]
    seconds = (
        duration_s if duration_s and math.isfinite(duration_s) else finest[-1] * len(finest) / (len(finest) - 1 or 1)
    )
    return Axis(
        starts=tuple(finest[place] for place in first[:-1]),
        full=tuple(most * (end - begin) for begin, end in pairwise(first)),
        seconds=seconds or 1.0,
    )
