"""Every method of conf/method, composed as run_eval.py does."""

from __future__ import annotations

from functools import cache

from evalkit.config.build import points
from evalkit.config.choices import CONF
from evalkit.method import OperatingPoint
from tests.support.configs import composed

NAMES = sorted(file.stem for file in (CONF / "method").glob("*.yaml"))
# They act once, on visual tokens, before the language model: what a family changes about them is little, and tested in
# tests/model/test_encoder_reader.py. Tests of what happens in the layers leave them out.
BEFORE_LLM = (
    "divprune",
    "dtd",
    "dycoke",
    "evs",
    "fastvid",
    "flashvid_outer",
    "holitom_outer",
    "vcast",
    "vidcom2",
    "visionzip",
)
WITHIN = [name for name in NAMES if name not in BEFORE_LLM]


@cache
def built(name: str, ratio: float = 1.0) -> OperatingPoint:
    """The operating point of a method with its default settings."""
    (point,) = points(composed(f"method={name}", f"ratio={ratio}"))
    return point
