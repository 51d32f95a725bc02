"""DivPrune: the tokens that are farthest from each other (arXiv 2503.02175).

Shape letters: N visual tokens, D feature width, K kept.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import normalize

from evalkit.method import AttentionFromQuestion, Budget, Method
from evalkit.types import VisualTokens

BLOCK = 1024  # rows of the N × N distances that are in memory at once


@dataclass(frozen=True, kw_only=True)
class DivPrune(Method):
    """Of all tokens of the video, choose one after the other the one that is farthest from those chosen (max-min).

    Written from a description: the released code (vbdi/divprune@799e2d9) is CC BY-NC 4.0 and none of it is here.
    Question-blind, training-free. Published for video: images of tables only; none found for MLVU, VideoMME, LVBench.

    Differs: distances are computed row by row as they are needed, so that no N × N matrix is held; the choice is the
    same, but that no token is taken twice where all are alike. On a prompt with several visual inputs the released code
    prunes the first one alone.
    """

    def select(
        self, tokens: VisualTokens, budget: Budget, attention_from_question: AttentionFromQuestion
    ) -> VisualTokens:
        """Features (N, D) -> (K, D), ascending, K = round(ratio · N)."""
        count, width = tokens.features.shape
        keep = max(1, round(budget.ratio * count))
        if keep >= count:
            return tokens
        index = farthest(normalize(tokens.features.float(), dim=-1), keep)
        flops = 2 * count * width * (count + keep - 1)
        return replace(tokens.keep(index.sort().values), flops=flops)


def farthest(u_ND: Tensor, keep: int) -> Tensor:
    """Of unit vectors `keep` positions in the order of choice, (K,) on the CPU.

    The first is the one whose nearest other is farthest; then always the one whose nearest chosen is farthest.
    """
    chosen = [int(_nearest_other(u_ND).argmax())]
    nearest = u_ND.new_full((len(u_ND),), torch.inf)
    for _ in range(keep - 1):
        nearest = nearest.minimum(1 - (u_ND @ u_ND[chosen[-1]][:, None])[:, 0])
        nearest[chosen[-1]] = -torch.inf  # where all distances are 0 it would be chosen again
        chosen.append(int(nearest.argmax()))
    return torch.tensor(chosen)


def _nearest_other(u_ND: Tensor) -> Tensor:
    """Second smallest distance 1 − cosine in each row, the first being the token itself: (N,)."""
    rows = [1 - u_ND[i : i + BLOCK] @ u_ND.T for i in range(0, len(u_ND), BLOCK)]
    return torch.cat([row.topk(2, largest=False).values[:, 1] for row in rows])
