"""The axes of a plot: scale, limits and ticks of cost, and of accuracy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.ticker import MaxNLocator

TOKENS = ("kv_tokens", "llm_tokens_fed")  # costs that count tokens

_OCTAVE = 2.0
_NARROWEST = 1.5  # highest by lowest cost that an axis shows, or small differences would look large
_FEWEST, _MOST = 3, 6  # ticks
_LEAST = 10.0  # points of percent that the accuracy axis spans

# Steps of a logarithmic axis: the base that repeats, and the multiples inside it; tried in this order.
_BINARY: tuple[tuple[int, tuple[float, ...]], ...] = ((2, (1,)), (4, (1,)), (16, (1,)), (256, (1,)), (2, (1, 1.5)))
_DECIMAL: tuple[tuple[int, tuple[float, ...]], ...] = (
    (10, (1, 2, 5)),
    (10, (1, 3)),
    (10, (1,)),
    (100, (1,)),
    (10_000, (1,)),
    (10, (1, 1.5, 2, 3, 4, 5, 7)),
)


@dataclass(frozen=True)
class Axis:
    """Where an axis begins and ends, and what it names."""

    log: bool
    low: float
    high: float
    ticks: tuple[float, ...]

    @property
    def labels(self) -> list[str]:
        """Plain numbers, no powers."""
        return [f"{tick:.10f}".rstrip("0").rstrip(".") for tick in self.ticks]

    def share(self, value: float) -> float:
        """How far along the axis a value lies: 0 at its lower end, 1 at its upper one."""
        low, high, value = (math.log(v) if self.log else v for v in (self.low, self.high, value))
        return (value - low) / (high - low)


def axis(costs: Sequence[float], *, tokens: bool) -> Axis:
    """For positive `costs`: logarithmic, unless all lie within one octave. Tokens count in powers of two."""
    low, high = min(costs), max(costs)
    if high / low < _OCTAVE:
        return _linear(low, high)
    margin = (high / low) ** 0.08
    low, high = low / margin, high * margin
    found = [_ticks(low, high, *family) for family in (_BINARY if tokens else _DECIMAL)]
    fitting = [ticks for ticks in found if _FEWEST <= len(ticks) <= _MOST]
    return Axis(True, low, high, fitting[0] if fitting else min(found, key=lambda ticks: abs(len(ticks) - _MOST)))


def percent_axis(ends: Sequence[float]) -> Axis:
    """For accuracies and the ends of their intervals in percent, nan where there is none."""
    known = [end for end in ends if not math.isnan(end)]
    low, high = min(known), max(known)
    pad = max(0.04 * (high - low), (_LEAST - (high - low)) / 2)
    low, high = low - pad, high + pad
    steps = MaxNLocator(nbins=8, steps=[1, 2, 5, 10], integer=True).tick_values(low, high)
    return Axis(False, low, high, tuple(float(tick) for tick in steps if max(0, low) <= tick <= min(100, high)))


def _linear(low: float, high: float) -> Axis:
    widen = max(1.0, math.sqrt(_NARROWEST / (high / low)))
    low, high = low / widen, high * widen
    low, high = low - 0.08 * (high - low), high + 0.08 * (high - low)
    ticks = MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    return Axis(False, low, high, tuple(float(tick) for tick in ticks if low <= tick <= high))


def _ticks(low: float, high: float, base: int, multiples: Sequence[float]) -> tuple[float, ...]:
    powers = range(math.floor(math.log(low, base)), math.ceil(math.log(high, base)) + 1)
    ticks = (multiple * float(base) ** power for power in powers for multiple in multiples)
    return tuple(tick for tick in ticks if low <= tick <= high)
