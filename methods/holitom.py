"""HoliTom (arXiv 2505.21334), both stages: merging before the language model, and merging inside it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from evalkit.method import AttentionFromQuestion, Budget, Method
from evalkit.types import FramePlan, Video, VisualTokens
from methods.holitom_inner import HoliTomInner
from methods.holitom_outer import HoliTomOuter


@dataclass(frozen=True, kw_only=True)
class HoliTom(HoliTomInner, HoliTomOuter):
    """The first stage leaves so many tokens that with the second one's released share the ratio is met.

    Published (LLaVA-OneVision-7B, 32 frames, 25/20/15/10 % before the language model): Video-MME 58.9/58.6/57.3/56.8,
    LongVideoBench 56.7/57.1/56.4/56.3.

    Differs: as both stages do; the second one makes up for what the first one's rounding spends, as far
    as its layers go.
    """

    def __post_init__(self) -> None:
        HoliTomOuter.__post_init__(self)
        HoliTomInner.__post_init__(self)

    def frames(self, video: Video, budget: Budget) -> FramePlan:
        """All of the dense run's."""
        return Method.frames(self, video, budget)

    def select(
        self, tokens: VisualTokens, budget: Budget, attention_from_question: AttentionFromQuestion
    ) -> VisualTokens:
        """The first stage, at a share that leaves room for the layers which see all of it."""
        share = min(1.0, budget.ratio / self.mean_share(budget.layers, self.least))
        return HoliTomOuter.select(self, tokens, replace(budget, ratio=share), attention_from_question)
