"""Every method of conf/method."""

from __future__ import annotations

from functools import cache

from omegaconf import OmegaConf

from evalkit.config.build import points
from evalkit.config.choices import CONF
from evalkit.method import OperatingPoint

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
    """The operating point of a method with its default settings.

    As an entry of the list `methods`, which needs no composing; tests/methods/test_contract.py composes each of them.
    """
    (point,) = points(OmegaConf.create({"methods": [name], "ratio": ratio}))
    return point
