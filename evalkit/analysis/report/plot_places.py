"""Where operating points stand on the page's plot: in percent of it, and pixels aside where others would hide them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from evalkit.analysis.plots.cost_axis import Axis
    from evalkit.analysis.plots.series import PlottedPoint

_WIDTH, _HEIGHT = 600.0, 340.0  # pixels of a plot of middling size, by which marks hide each other
_NEAR, _STEP, _SPREAD = 8.0, 8.0, 28.0  # pixels: marks so near stand side by side, so far apart, all within so many
_FAN, _FAN_SPREAD = 3.0, 8.0  # the same of bars alone, each still on its mark


class Places:
    """Where points stand. Those that would hide each other are moved apart, in the order of the tables."""

    def __init__(self, across: Axis, up: Axis, found: Sequence[PlottedPoint]) -> None:
        self.across, self.up = across, up
        self.aside = self._apart(found, self._near, _STEP, _SPREAD)
        bars = self._apart(found, self._touch, _FAN, _FAN_SPREAD)
        self.bar = {point: aside or bars[point] for point, aside in self.aside.items()}  # a bar goes with its mark

    def _apart(
        self,
        found: Sequence[PlottedPoint],
        meet: Callable[[PlottedPoint, PlottedPoint], bool],
        step: float,
        room: float,
    ) -> dict[int, float]:
        """Pixels to the right for every point, by the id() of what it measures: 0 for one that meets no other."""
        aside: dict[int, float] = {}
        left = list(found)
        while left:
            crowd = [left.pop(0)]
            while more := [point for point in left if any(meet(point, other) for other in crowd)]:
                crowd += more
                left = [point for point in left if point not in more]
            gap = min(step, room / max(1, len(crowd) - 1))
            plain = [point for point in crowd if point.measured.role != "control"]
            middle = (len(plain or crowd) - 1) / 2  # controls, which may not be shown, stand on the right of the others
            for place, point in enumerate(sorted(crowd, key=lambda point: point not in plain)):
                aside[id(point.measured)] = round((place - middle) * gap, 1)
        return aside

    def x(self, point: PlottedPoint) -> float:
        """What spends nothing stands at the left edge."""
        return along(self.across, point.cost) if point.cost > 0 else 0.0

    def _near(self, one: PlottedPoint, other: PlottedPoint) -> bool:
        across = abs(self.x(one) - self.x(other)) / 100 * _WIDTH
        up = abs(self.up.share(one.accuracy.percent) - self.up.share(other.accuracy.percent)) * _HEIGHT
        return max(across, up) < _NEAR

    def _touch(self, one: PlottedPoint, other: PlottedPoint) -> bool:
        """Whether their intervals would lie on each other; a single video has none."""
        (low, high), (bottom, top) = ((p.accuracy.low, p.accuracy.high) for p in (one, other))
        return abs(self.x(one) - self.x(other)) / 100 * _WIDTH < _FAN and low <= top and bottom <= high


def along(across: Axis, value: float) -> float:
    """Percent from the left."""
    return round(100 * across.share(value), 2)


def down(up: Axis, percent: float) -> float:
    """Percent from the top."""
    return round(100 * (1 - up.share(percent)), 2)
