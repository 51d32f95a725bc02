"""DTD, differential token drop: drop places that hardly changed since the cell before (TimeChat-Online, 2504.17343).

Shape letters: T temporal cells, P places per cell, D feature width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from evalkit.errors import MethodError
from evalkit.method import AttentionFromQuestion, Budget
from evalkit.types import VisualTokens
from methods.evs import changed_most
from methods.pixel_change import ByChange, last_to_first
from methods.selection import cells, highest, similarity


@dataclass(frozen=True, kw_only=True)
class DTD(ByChange):
    """Each cell keeps the places that differ from the cell directly before; the first cell stays whole.

    `rule="absolute"`: what is more alike than the threshold is dropped, so that the video decides how much stays;
    `relative`: that share of each cell's places. `change="features"` compares features by their cosine, `pixels` the
    last frame of a cell with the first frame of the one before, by their mean absolute difference.
    Source: yaolinli/TimeChat-Online@25a1578, BSD-3-Clause. Question-blind. Published (their README; plain Qwen2.5-VL
    without the fine-tuning that the method comes with): VideoMME long +5.7 points with 84.6 % dropped.

    Differs: the released code has a threshold and no budget (0.5 in its evaluation, 0.25 in its demo). Without one, the
    ratio decides: under `absolute` one threshold for the whole video, at which as many tokens stay as the ratio says
    (the same choice as EVS), under `relative` the share of each cell. A cell is one temporal cell; in the released
    code cells with the same temporal id are one.
    """

    off_ratio: ClassVar[str] = (
        "the first cell stays whole: no ratio below one cell's share is met; a threshold makes a budget of its own"
    )

    rule: Literal["absolute", "relative"] = "absolute"
    threshold: float | None = None  # similarity, difference of pixels from 0 to 1, or a share; None: from the ratio

    def __post_init__(self) -> None:
        if self.change not in ("features", "pixels") or self.rule not in ("absolute", "relative"):
            raise MethodError(
                "DTD: expected change features or pixels and rule absolute or relative, got "
                f"{self.change!r} and {self.rule!r}"
            )

    def select(
        self, tokens: VisualTokens, budget: Budget, attention_from_question: AttentionFromQuestion
    ) -> VisualTokens:
        """Features (T·P, D) -> those of the kept tokens, ascending."""
        x_TPD = cells(tokens, self, same_place=True)
        changed = (-similarity(x_TPD) if self.change == "features" else last_to_first(tokens, budget, self)).cpu()
        if self.rule == "relative":
            return tokens.keep(_relative(changed, self._dropped(len(changed), changed.shape[1], budget.ratio)))
        if self.threshold is None:
            return tokens.keep(changed_most(changed, int(len(tokens) * budget.ratio)))
        least = -self.threshold if self.change == "features" else self.threshold
        first = torch.ones(1, changed.shape[1], dtype=torch.bool)
        return tokens.keep(torch.cat([first, changed >= least]).flatten().nonzero()[:, 0])

    def _dropped(self, steps: int, places: int, ratio: float) -> int:
        """Places that each cell but the first one loses."""
        if self.threshold is not None:
            return int(places * self.threshold)
        wanted = max(0.0, ratio * (steps + 1) - 1) / max(1, steps)  # share of them that stays
        return places - round(places * wanted)


def _relative(changed_TP: Tensor, dropped: int) -> Tensor:
    places = changed_TP.shape[1]
    kept = [highest(row, places - dropped) + (t + 1) * places for t, row in enumerate(changed_TP)]
    return torch.cat([torch.arange(places), *kept])
