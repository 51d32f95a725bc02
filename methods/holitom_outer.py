"""HoliTom's stage before the language model: static places of a window are merged over time (arXiv 2505.21334).

Shape letters: T frames or temporal cells, P places per cell, D feature width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from evalkit.encoder_view import needed
from evalkit.errors import MethodError
from evalkit.method import AttentionFromQuestion, Budget, Method
from evalkit.types import VisualTokens
from methods.clustering import density_peaks, means
from methods.merged_parts import MergedParts
from methods.selection import cells, highest, others, similarity

if TYPE_CHECKING:
    from evalkit.encoder_view import Need
    from evalkit.method import Draws


@dataclass(frozen=True, kw_only=True)
class HoliTomOuter(Method):
    """The video is cut into windows so that as many tokens as possible stand still; those are averaged and clustered.

    What moves stays where the encoder's attention is highest.
    Source: cokeshao/HoliTom@e9b2972, Apache-2.0. Question-blind, training-free. Published ("w/o M";
    LLaVA-OneVision-7B, 32 frames, 25 / 20 / 15 / 10 %): VideoMME 59.1 / 58.6 / 58.1 / 56.9 (dense 58.6),
    LongVideoBench 56.5 / 56.3 / 57.0 / 56.5 (56.4). MLVU, LVBench: none found.

    Differs: moving tokens are never merged, as in the released code, where the option for it cannot run. Chance, which
    breaks ties of density, is seeded by run and video. LLaVA-Video's released form sorts tokens by place; so does this
    one there, with newlines behind the rows that are left. For Qwen there is no released form. At ratio 1 static places
    are still merged.
    """

    identity_at_one: ClassVar[bool] = False
    off_ratio: ClassVar[str] = "static places are merged at any ratio, and each frame's share is rounded up"

    similarity: float | None = None  # of a place in neighbouring frames above which it is static; None: by the ratio
    beta: float = 0.6  # of itself that a cluster's centre keeps
    neighbours: int = 7  # of density peaks, at most
    window: int = 1024  # frames of a window, at most
    plain_mean: bool = False  # True: a cluster's mean instead, as the released code with `NO_BETA=1`

    def __post_init__(self) -> None:
        if min(self.neighbours, self.window) < 1 or not 0 <= self.beta <= 1:
            raise MethodError(f"HoliTomOuter: expected neighbours and window from 1, beta from 0 to 1; got {self}")

    @property
    def needs(self) -> frozenset[Need]:
        """What the encoder attends to."""
        return frozenset({"attention"})

    def select(
        self, tokens: VisualTokens, budget: Budget, attention_from_question: AttentionFromQuestion
    ) -> VisualTokens:
        """Features (T·P, D) -> by window its static tokens, which take its first frame, then each frame's others."""
        x_TPD = cells(tokens, self, same_place=True)
        count, places = x_TPD.shape[:2]
        attention = needed(tokens.encoder, "attention", self).reshape(count, places)
        static = (similarity(x_TPD) > self._threshold(budget.ratio)).cpu()
        found, reduced = windows(static, self.window)
        share = min(1.0, budget.ratio / ((len(tokens) - reduced) / len(tokens)))
        parts, draw = MergedParts(), budget.draws("holitom")
        for begin, end in found:
            still = static[begin : end - 1].all(0) & torch.tensor(end - begin > 1)
            self._add_static(parts, x_TPD[begin:end], still.nonzero()[:, 0], share, begin * places, draw)
            for t in range(begin, end):
                moving = others(places, still.nonzero()[:, 0])
                index = moving[highest(attention[t, moving], math.ceil(len(moving) * share))]
                parts.add(index + t * places, x_TPD[t, index])
        return parts.tokens(tokens, ascending=False)

    def _threshold(self, ratio: float) -> float:
        """Released: 0.65 at ratio 0.1, 0.8 from 0.15 on."""
        if self.similarity is not None:
            return self.similarity
        return 0.65 if ratio < 0.125 else 0.8

    def _add_static(
        self, parts: MergedParts, x_LPD: Tensor, still: Tensor, share: float, first: int, draw: Draws
    ) -> None:
        """Clusters of the static places, each averaged over the window; where none is kept they are all lost."""
        keep = round(len(still) * share)
        if not keep:
            return
        mean_SD = x_LPD[:, still].mean(0)
        peaks = density_peaks(mean_SD, min(self.neighbours, keep), draw(len(still)))
        centers = peaks.centers(keep)
        group, rest = peaks.members(centers), others(len(still), centers)
        merged = self._merged(mean_SD, centers, rest, group[rest])
        source = torch.arange(len(x_LPD))[:, None] * x_LPD.shape[1] + still  # (L, S)
        parts.flops += peaks.flops
        parts.add_merged(still[centers] + first, merged, group.repeat(len(x_LPD)), (source + first).flatten())

    def _merged(self, mean_SD: Tensor, centers: Tensor, rest: Tensor, group: Tensor) -> Tensor:
        mean, count = means(mean_SD[rest], group, len(centers))
        center, members = mean_SD[centers], count[:, None]
        if self.plain_mean:
            return (center + mean * members) / (1 + members)
        return center.where(members == 0, self.beta * center + (1 - self.beta) * mean)


def windows(static_TP: Tensor, longest: int) -> tuple[list[tuple[int, int]], int]:
    """Windows (from, to) of frames by which most tokens are saved, and how many; `static_TP` (T − 1, P) of each step.

    A place that is static at every step of a window of n frames saves n − 1 tokens. Of equal choices a frame on its
    own goes first, then the shorter window.
    """
    best, length = [0], [1]  # of the first frames: tokens saved, frames of the last window
    run = torch.zeros(static_TP.shape[1], dtype=torch.long)  # steps for which each place has been static
    for i, step in enumerate(static_TP, 1):
        run = (run + 1) * step
        at_least = torch.bincount(run, minlength=i + 1).flip(0).cumsum(0).flip(0)  # places static for so many steps
        most = min(i, longest - 1)
        steps = torch.arange(1, most + 1)
        before = torch.tensor([0, *best])[i - steps]
        saved = before + at_least[1 : most + 1] * steps
        at = int(saved.argmax()) if most else 0
        better = most > 0 and int(saved[at]) > best[-1]
        best.append(int(saved[at]) if better else best[-1])
        length.append(at + 2 if better else 1)
    return _backtracked(length), best[-1]


def _backtracked(length: list[int]) -> list[tuple[int, int]]:
    found, end = [], len(length)
    while end > 0:
        found.append((end - length[end - 1], end))
        end = found[-1][0]
    return found[::-1]
