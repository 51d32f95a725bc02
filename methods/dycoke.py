"""DyCoke, stage 1: drop what two neighbouring frames have in common (arXiv 2411.15024).

Shape letters: T frames or temporal cells, P places per cell, D feature width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from evalkit.errors import MethodError
from evalkit.method import AttentionFromQuestion, Budget, Method
from evalkit.types import VisualTokens
from methods.selection import cells

GROUP = 4  # frames


@dataclass(frozen=True, kw_only=True)
class DyCoke(Method):
    """Of four frames the first is whole; the others keep the places least like a partner before them in the group.

    The second and the fourth frame are compared with the one before, the third with the first. The third frame of the
    last group stays whole, and of an odd number of frames the last one is lost, as in the released code. Tokens are
    dropped, although the paper speaks of merging.
    Source: KD-TAO/DyCoke@dd74634, Apache-2.0. Question-blind, training-free. Published (LLaVA-OneVision-7B, 32 frames):
    VideoMME 54.3 and LongVideoBench 49.5 at 25 % (HoliTom's table, dense 58.6 and 56.4); with stage 2, VideoMME 58.8 /
    59.5 / 58.3 at k 0.3 / 0.5 / 0.7 (their own, dense 58.5). MLVU 55.8 at 25 % (VidCom2's page). LVBench: none found.

    Differs: stage 2, which drops cache entries while the answer is written, is not part of this: it cannot change the
    first token. At ratio 1 everything stays; the released code has no such setting. Where positions do not follow from
    the order of tokens (M-RoPE), they are in raster order; there is no released form for these backbones.
    """

    off_ratio: ClassVar[str] = (
        "whole frames stay, so that no less than about 0.28 is kept, and each pruned frame keeps as many tokens as "
        "another; an odd number of frames loses the last one"
    )

    k: float | None = None  # share of a pruned frame's tokens that is dropped (released: 0.7); None: from the ratio

    def __post_init__(self) -> None:
        if self.k is not None and not 0 <= self.k <= 1:
            raise MethodError(f"DyCoke: expected k from 0 to 1 or null, got {self.k}")

    def select(
        self, tokens: VisualTokens, budget: Budget, attention_from_question: AttentionFromQuestion
    ) -> VisualTokens:
        """Features (T·P, D) -> those of the kept tokens; those of a pruned frame by rising similarity."""
        x_TPD = cells(tokens, self, same_place=True)
        count, places = x_TPD.shape[:2]
        if self.k is None and budget.ratio == 1:
            return tokens
        if count <= GROUP:
            raise MethodError(f"DyCoke needs more than {GROUP} frames or temporal cells, got {count}")
        pairs = partners(count)
        keep = self._kept(pairs, places, round(budget.ratio * len(tokens)))
        return tokens.keep(torch.cat([_frame(x_TPD, t, other, keep) + t * places for t, other in pairs.items()]))

    def _kept(self, pairs: dict[int, int | None], places: int, wanted: int) -> int:
        """Tokens of each pruned frame."""
        if self.k is not None:
            return int((1 - self.k) * places)
        whole = sum(other is None for other in pairs.values())
        return min(places, max(0, round((wanted - whole * places) / (len(pairs) - whole))))


def partners(frames: int) -> dict[int, int | None]:
    """By frame that is in the output: the frame with which it is compared; None: it stays whole."""
    found: dict[int, int | None] = {}
    for t in range(frames - frames % 2):
        third = t % GROUP == 2 and t - 2 < frames - GROUP
        found[t] = t - 1 if t % 2 else t - 2 if third else None
    return found


def _frame(x_TPD: Tensor, t: int, other: int | None, keep: int) -> Tensor:
    """Places of frame t in output order, (keep,) or (P,)."""
    if other is None:
        return torch.arange(x_TPD.shape[1])
    return cosine_similarity(x_TPD[other], x_TPD[t], dim=-1).cpu().argsort(stable=True)[:keep]
