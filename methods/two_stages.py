"""What HoliTom and FlashVID have in common: a stage before the language model, and one cut inside it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from evalkit.method import AttentionFromQuestion, Budget, Method
from evalkit.types import FramePlan, Video, VisualTokens
from methods.one_cut import OneCut


@dataclass(frozen=True, kw_only=True)
class TwoStages(OneCut):
    """First among the bases of a method, before its inner and its outer stage.

    The outer stage leaves so many tokens that with the inner one's released share the ratio is met.
    """

    def frames(self, video: Video, budget: Budget) -> FramePlan:
        """All of the dense run's."""
        return Method.frames(self, video, budget)

    def select(
        self, tokens: VisualTokens, budget: Budget, attention_from_question: AttentionFromQuestion
    ) -> VisualTokens:
        """The outer stage, at a share that leaves room for the layers which see all of it."""
        share = min(1.0, budget.ratio / self.mean_share(budget.layers, self.least))
        return super().select(tokens, replace(budget, ratio=share), attention_from_question)
