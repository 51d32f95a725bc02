"""How the page writes numbers, in tables and in words alike."""

from __future__ import annotations

import math


def figure(value: float, decimals: int) -> str:
    """Fixed decimals with commas between thousands; a dash for nan."""
    return "–" if math.isnan(value) else _minus(f"{value:,.{decimals}f}")


def points(value: float) -> str:
    """A difference with its sign; a dash for nan."""
    return "–" if math.isnan(value) else _minus(f"{value:+.1f}")


def span(low: float, high: float) -> str:
    """Both ends of an interval, never on two lines; a dash where there is none."""
    return "–" if math.isnan(low) else f"{figure(low, 1)}\N{NO-BREAK SPACE}to\N{NO-BREAK SPACE}{figure(high, 1)}"


def significant(value: float, largest: float) -> str:
    """As many decimals as give the largest number of a column three digits: a tiny model's TFLOPs are thousandths."""
    return figure(value, max(0, 2 - math.floor(math.log10(largest))) if largest > 0 else 0)


def _minus(text: str) -> str:
    return text.replace("-", "\N{MINUS SIGN}")
