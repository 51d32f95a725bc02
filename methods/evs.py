"""EVS: drop places that did not change since the frame before (arXiv 2510.14624).

Shape letters: T temporal cells, P places per cell, D feature width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from evalkit.errors import MethodError
from evalkit.method import AttentionFromQuestion, Budget
from evalkit.types import VisualTokens
from methods.pixel_change import ByChange, by_slot
from methods.selection import cells, highest, similarity


@dataclass(frozen=True, kw_only=True)
class EVS(ByChange):
    """Over the whole video the tokens stay whose place changed most since the cell before; the first cell stays whole.

    `change="features"`: 1 − cosine of the features, the form that serving engines describe. `change="pixels"`: the
    paper's, the L1 difference of the patch's pixels. Written from the paper and those descriptions; no released code
    was read. Question-blind, training-free. Published: none found for VideoMME, MLVU, LVBench.

    Differs: the pixel form of cells of several frames adds up the differences of each frame to the frame at the same
    place of the cell before; the paper does not define it.
    """

    off_ratio: ClassVar[str] = "the first cell stays whole: no ratio below one cell's share is met"

    def __post_init__(self) -> None:
        if self.change not in ("features", "pixels"):
            raise MethodError(f"EVS: expected change features or pixels, got {self.change!r}")

    def select(
        self, tokens: VisualTokens, budget: Budget, attention_from_question: AttentionFromQuestion
    ) -> VisualTokens:
        """Features (T·P, D) -> those of the kept tokens, ascending."""
        x_TPD = cells(tokens, self, same_place=True)
        changed = 1 - similarity(x_TPD) if self.change == "features" else by_slot(tokens, budget, self)
        return tokens.keep(changed_most(changed.cpu(), int(len(tokens) * budget.ratio)))


def changed_most(changed_TP: Tensor, keep: int) -> Tensor:
    """The first cell, and the places of later ones (T − 1, P) that changed most: `keep` tokens or a whole cell."""
    first = changed_TP.new_full((1, changed_TP.shape[1]), torch.inf)
    return highest(torch.cat([first, changed_TP]).flatten(), max(changed_TP.shape[1], keep))
