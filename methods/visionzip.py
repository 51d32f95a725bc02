"""VisionZip: the tokens that the encoder attends to, and a few that gather what the others show (arXiv 2412.04467).

Shape letters: T frames or temporal cells, P places per cell, D feature width, n tokens of a cell, m that are left over.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from evalkit.encoder_view import needed
from evalkit.errors import MethodError
from evalkit.method import AttentionFromQuestion, Budget, Method
from evalkit.types import VisualTokens
from methods.clustering import means, most_similar
from methods.merged_parts import MergedParts
from methods.selection import cells, highest, others, per_cell

if TYPE_CHECKING:
    from evalkit.encoder_view import Need


@dataclass(frozen=True, kw_only=True)
class VisionZip(Method):
    """In each frame the tokens with the highest attention of the vision encoder stay ("dominant").

    Of the others, evenly spaced ones ("contextual") each take in those that are most like them by the encoder's keys:
    its own feature plus the mean of theirs, a sum, as released.
    Source: dvlab-research/VisionZip@3151f6d, and its form for video in cokeshao/HoliTom@e9b2972; Apache-2.0.
    Question-blind, training-free. Published (HoliTom's table; LLaVA-OneVision-7B, 32 frames, 25 / 20 / 15 / 10 %):
    VideoMME 58.2 / 57.9 / 56.1 / 53.4 (dense 58.6), LongVideoBench 56.5 / 55.2 / 54.4 / 49.3 (56.4). MLVU, LVBench:
    none found.

    Differs: as in the form for video, features after projector and pooling are used, and attention and keys pooled like
    them; the original works on a CLIP encoder's states before the projector. For Qwen there is no released form: keys
    before rotation, averaged over the patches of a token. Where ratio · P is no whole number, some cells have one
    token more than others, so that the video meets the ratio. At ratio 1 everything stays.
    """

    tokens_per_cell: int | None = None  # of each cell; None: from the ratio
    dominant: float = 54 / 64  # share of them that stays as it is

    def __post_init__(self) -> None:
        if (self.tokens_per_cell or 1) < 1 or not 0 <= self.dominant < 1:
            raise MethodError(
                "VisionZip: expected tokens_per_cell from 1 or null and dominant in [0, 1), got "
                f"{self.tokens_per_cell = }, {self.dominant = }"
            )

    @property
    def needs(self) -> frozenset[Need]:
        """What the encoder attends to, and its keys."""
        return frozenset({"attention", "keys"})

    def select(
        self, tokens: VisualTokens, budget: Budget, attention_from_question: AttentionFromQuestion
    ) -> VisualTokens:
        """Features (T·P, D) -> those of each cell's dominant tokens, then its contextual ones; both in raster order."""
        x_TPD = cells(tokens, self)
        places = x_TPD.shape[1]
        attention, keys = (
            needed(tokens.encoder, name, self).view(len(x_TPD), places, -1) for name in ("attention", "keys")
        )
        wanted = per_cell(round(budget.ratio * len(tokens)), len(x_TPD))
        if self.tokens_per_cell is not None:
            wanted = [self.tokens_per_cell] * len(x_TPD)
        if min(wanted) >= places:
            return tokens
        parts = MergedParts()
        for t, count in enumerate(wanted):
            stays = highest(attention[t, :, 0], int(max(1, count) * self.dominant))
            add_cell(parts, x_TPD[t], stays, keys[t], max(1, count), t * places)
        return parts.tokens(tokens, ascending=False)


def add_cell(parts: MergedParts, x_PD: Tensor, dominant: Tensor, keys_PK: Tensor, count: int, first: int) -> None:
    """`count` tokens of the cell whose first token has position `first`: its `dominant` ones, and contextual ones."""
    left, contextual = others(len(x_PD), dominant), count - len(dominant)
    at = torch.arange(0, len(left), max(1, len(left) // contextual))[:contextual]
    target, rest = left[at], left[others(len(left), at)]
    group, flops = most_similar(keys_PK[rest], keys_PK[target])
    mean, _ = means(x_PD[rest], group, contextual)
    parts.add(dominant + first, x_PD[dominant])
    parts.add_merged(
        target + first,
        x_PD[target] + mean,
        torch.cat([torch.arange(contextual), group]),
        torch.cat([target, rest]) + first,
    )
    parts.flops += flops
