"""V-CAST: more tokens where the video's path through feature space bends (xinyouu/V-CAST; Qwen3-VL).

Shape letters: T temporal cells, P places per cell, D feature width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, normalize

from evalkit.method import AttentionFromQuestion, Budget, Method
from evalkit.types import VisualTokens
from methods.selection import cells, highest

TEMPERATURE = 0.7  # of the weights of cells; source: released code
SMALL = 1e-6  # norms are no smaller; source: released code


@dataclass(frozen=True, kw_only=True)
class VCast(Method):
    """Cells get tokens by the curvature of the cells' means; in a cell those stay that are large and unlike its mean.

    Source: xinyouu/V-CAST@c235ef3 (the repository's licence file is lmms-eval's, MIT). Question-blind, training-free.
    Published (a figure; Qwen3-VL-8B, ratio 0.25, relative to dense): VideoMME 99.0 %, MLVU 97.0 %, LongVideoBench
    98.0 %. LVBench: none found.

    Differs: nothing that is known; the released code has ratio 0.25 fixed. What is left over when tokens are shared out
    goes to one cell until it is full, as released, and not to one cell after the other.
    """

    def select(
        self, tokens: VisualTokens, budget: Budget, attention_from_question: AttentionFromQuestion
    ) -> VisualTokens:
        """Features (T·P, D) -> those of the kept tokens, ascending; deepstack features are cut alike."""
        x_TPD = cells(tokens, self)
        count, places = x_TPD.shape[:2]
        if count == 1:
            return tokens
        mean_TD = normalize(x_TPD.mean(1), dim=-1)
        total = max(count, min(count * places, max(1, round(count * places * budget.ratio))))
        counts = allocated((curvature(mean_TD) / TEMPERATURE).softmax(0), total, places)
        kept = [highest(score(x_TPD[t], mean_TD[t]), n) + t * places for t, n in enumerate(counts)]
        return tokens.keep(torch.cat(kept))


def curvature(mean_TD: Tensor) -> Tensor:
    """1 − cosine of the step to a cell with the step from it, (T,); 1 at both ends."""
    step = mean_TD.diff(dim=0)
    bend = mean_TD.new_ones(len(mean_TD))
    bend[1:-1] = 1 - cosine_similarity(step[:-1], step[1:], dim=-1, eps=SMALL)
    return bend


def allocated(weight_T: Tensor, total: int, places: int) -> list[int]:
    """Tokens of each cell: one, and its share of the rest rounded down.

    What is left over goes to the cell with the largest remainder until it is full, then to the next.
    """
    share = weight_T * (total - len(weight_T))
    counts = (share.floor().clamp(max=places - 1) + 1).long()
    left = total - int(counts.sum())
    for cell in (share - share.floor()).argsort(descending=True, stable=True).tolist():
        more = min(left, places - int(counts[cell]))
        counts[cell] += more
        left -= more
    return [int(n) for n in counts]


def score(x_PD: Tensor, mean_D: Tensor) -> Tensor:
    """How unlike the cell's mean each token is, and how large beside the others, (P,)."""
    norm = x_PD.norm(dim=-1)
    unlike = 1 - cosine_similarity(x_PD, mean_D, dim=-1)
    found: Tensor = unlike + (norm - norm.min()) / (norm.max() - norm.min() + SMALL)
    return found
