"""HoliTom (arXiv 2505.21334), both stages: merging before the language model, and merging inside it."""

from __future__ import annotations

from dataclasses import dataclass

from methods.holitom_inner import HoliTomInner
from methods.holitom_outer import HoliTomOuter
from methods.two_stages import TwoStages


@dataclass(frozen=True, kw_only=True)
class HoliTom(TwoStages, HoliTomInner, HoliTomOuter):
    """The first stage leaves so many tokens that with the second one's released share the ratio is met.

    Published (LLaVA-OneVision-7B, 32 frames, 25/20/15/10 % before the language model): Video-MME 58.9/58.6/57.3/56.8,
    LongVideoBench 56.7/57.1/56.4/56.3.

    Differs: as both stages do; the second one makes up for what the first one's rounding spends, as far
    as its layers go.
    """

    def __post_init__(self) -> None:
        HoliTomOuter.__post_init__(self)
        HoliTomInner.__post_init__(self)
