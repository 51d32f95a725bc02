"""DPSelect: keyframes where the features of consecutive cells differ most (ReTaKe, arXiv 2412.20504, §3.2).

Shape letters: T temporal cells, P places per cell, C feature width, K = cells kept.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, max_pool1d

from evalkit.errors import MethodError
from evalkit.method import AttentionFromQuestion, Budget, Method
from evalkit.types import VisualTokens


@dataclass(frozen=True, kw_only=True)
class DPSelect(Method):
    """Keep the cells (or, place by place, the patches) that differ most from the one before; protect their peaks.

    Differs: the released code crashes at a ratio below 1 in chunked prefill; that defect is corrected here. Where
    fewer slots are left than a cell has rows or columns, its text begins among the video's ids; here it follows them.
    Ties go to the earlier cell; there the reference's order is undefined. Distances are fp32 for features of any dtype;
    the released code takes similarities in bfloat16, in steps of 1/256, and so sees ties where a video stands still.
    """

    patch_sync: bool = True  # True: whole cells (frame mode); False: every place keeps its own moments (patch mode)
    window: int = 3  # cells in which a peak is the largest
    select_ratio: float | None = None  # share of the cells to keep; None: the run's ratio
    positions: Literal["compact", "true_time"] = "compact"  # compact: survivors take the first slots, as released
    protect: bool = True  # mark the peaks as `protected`, which PivotKV reads

    def __post_init__(self) -> None:
        ratio = 1.0 if self.select_ratio is None else self.select_ratio
        if self.window < 1 or self.window % 2 == 0 or not 0 < ratio <= 1:
            raise MethodError(
                "DPSelect: expected an odd window and a select_ratio in (0, 1] or null, "
                f"got {self.window = }, {self.select_ratio = }"
            )

    def select(
        self, tokens: VisualTokens, budget: Budget, attention_from_question: AttentionFromQuestion
    ) -> VisualTokens:
        """Features (T·P, C) -> (K·P, C)."""
        share = budget.ratio if self.select_ratio is None else max(self.select_ratio, budget.ratio)
        cells = len(tokens.cell_seconds)
        x_TPC = tokens.features.reshape(cells, -1, tokens.features.shape[-1])
        distance_TS = change(x_TPC)
        if self.patch_sync:
            distance_TS = distance_TS.mean(1, keepdim=True)
        moments_KS, peak_KS = moments(distance_TS, max(1, round(share * cells)), self.window)
        places = x_TPC.shape[1]
        return self._gathered(tokens, moments_KS.expand(-1, places), peak_KS.expand(-1, places))

    def _gathered(self, tokens: VisualTokens, moments_KP: Tensor, peak_KP: Tensor) -> VisualTokens:
        kept, places = moments_KP.shape
        slot = torch.arange(kept)[:, None].expand(-1, places) if self.positions == "compact" else moments_KP
        order = (slot * places + torch.arange(places)).flatten().argsort()
        index = (moments_KP * places + torch.arange(places)).flatten()[order]
        peak = peak_KP.flatten()[order]
        return replace(
            tokens.keep(index),
            slot=slot.flatten()[order],
            protected=peak if self.protect else torch.zeros_like(peak),
            span=kept if self.positions == "compact" else None,
        )


def change(x_TPC: Tensor) -> Tensor:
    """1 − cosine similarity of each place to itself one cell before, (T, P) fp32 on the CPU; 1 at the first cell."""
    distance = x_TPC.new_ones(x_TPC.shape[:2], dtype=torch.float32)
    for t in range(1, len(x_TPC)):  # cell by cell: never a second copy of all features in fp32
        distance[t] = 1 - cosine_similarity(x_TPC[t].float(), x_TPC[t - 1].float(), dim=-1)
    return distance.cpu()


def moments(distance_TS: Tensor, keep: int, window: int) -> tuple[Tensor, Tensor]:
    """Per series S: the `keep` moments to hold, ascending, (K, S) long, and which of them are peaks, (K, S) bool.

    A peak is the first maximum of its window; peaks go first, then the largest remaining distances.
    """
    series = distance_TS.T[:, None]
    _, first = max_pool1d(series, window, stride=1, padding=window // 2, return_indices=True)
    peak_TS = torch.arange(len(distance_TS))[:, None] == first[:, 0].T
    rank = distance_TS + 2.0 * peak_TS  # distances lie in [0, 2]
    kept_KS = rank.argsort(dim=0, descending=True, stable=True)[:keep].sort(dim=0).values
    return kept_KS, peak_TS.gather(0, kept_KS)
