"""FlashVID, both stages: selection and merging before the language model, and a late cut inside it."""

from __future__ import annotations

from dataclasses import dataclass

from methods.flashvid_inner import FlashVIDInner
from methods.flashvid_outer import FlashVIDOuter
from methods.two_stages import TwoStages


@dataclass(frozen=True, kw_only=True)
class FlashVID(TwoStages, FlashVIDInner, FlashVIDOuter):
    """The first stage leaves so many tokens that with the second one's released share the ratio is met.

    In 28 layers that is the released expansion: 1.25 · (20 + 8 · 0.3) / 28 = 1. Published, 10 %: LLaVA-OneVision-7B
    Video-MME 57.8, LongVideoBench 56.5; Qwen2.5-VL-7B 57.3, 57.1.

    Differs: as both stages do; the second one makes up for what the first one's rounding spends, as far
    as its layers go.
    """

    def __post_init__(self) -> None:
        FlashVIDOuter.__post_init__(self)
        FlashVIDInner.__post_init__(self)
