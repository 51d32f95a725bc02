"""FlashVID, both stages: selection and merging before the language model, and a late cut inside it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from evalkit.method import AttentionFromQuestion, Budget, Method
from evalkit.types import FramePlan, Video, VisualTokens
from methods.flashvid_inner import FlashVIDInner
from methods.flashvid_outer import FlashVIDOuter


@dataclass(frozen=True, kw_only=True)
class FlashVID(FlashVIDInner, FlashVIDOuter):
    """The first stage leaves so many tokens that with the second one's released share the ratio is met.

    In 28 layers that is the released expansion: 1.25 · (20 + 8 · 0.3) / 28 = 1. Published, 10 %: LLaVA-OneVision-7B
    Video-MME 57.8, LongVideoBench 56.5; Qwen2.5-VL-7B 57.3, 57.1.

    Differs: as both stages do; the second one makes up for what the first one's rounding spends, as far
    as its layers go.
    """

    def __post_init__(self) -> None:
        FlashVIDOuter.__post_init__(self)
        FlashVIDInner.__post_init__(self)

    def frames(self, video: Video, budget: Budget) -> FramePlan:
        """All of the dense run's."""
        return Method.frames(self, video, budget)

    def select(
        self, tokens: VisualTokens, budget: Budget, attention_from_question: AttentionFromQuestion
    ) -> VisualTokens:
        """The first stage, at a share that leaves room for the layers which see all of it."""
        share = min(1.0, budget.ratio / self.mean_share(budget.layers, self.least))
        return FlashVIDOuter.select(self, tokens, replace(budget, ratio=share), attention_from_question)
