"""A method: the first part of the video's tokens."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from evalkit.method import AttentionFromQuestion, Budget, Method
from evalkit.types import VisualTokens


@dataclass(frozen=True, kw_only=True)
class FirstHalf(Method):
    """Keeps the tokens up to a share of the video, the run's ratio unless `share` says otherwise."""

    share: float | None = None

    def select(
        self, tokens: VisualTokens, budget: Budget, attention_from_question: AttentionFromQuestion
    ) -> VisualTokens:
        """The first tokens in time order."""
        share = budget.ratio if self.share is None else self.share
        return tokens.keep(torch.arange(max(1, round(share * len(tokens.features)))))
