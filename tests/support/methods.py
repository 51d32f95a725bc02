"""Every method of conf/method, composed as run_eval.py does."""

from __future__ import annotations

from functools import cache

from evalkit.config.build import points
from evalkit.config.choices import CONF
from evalkit.method import OperatingPoint
from tests.support.configs import composed

NAMES = sorted(file.stem for file in (CONF / "method").glob("*.yaml"))


@cache
def built(name: str, ratio: float = 1.0) -> OperatingPoint:
    """The operating point of a method with its default settings."""
    (point,) = points(composed(f"method={name}", f"ratio={ratio}"))
    return point
