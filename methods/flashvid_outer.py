"""FlashVID's stage before the language model: diverse tokens stay, like ones are merged over time and space.

Shape letters: T frames or temporal cells, P places per cell, D feature width, L cells of a segment, A tokens of a cell
that stay.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from evalkit.encoder_view import needed
from evalkit.errors import MethodError
from evalkit.method import AttentionFromQuestion, Budget, Method
from evalkit.types import VisualTokens
from methods.clustering import density_peaks, means
from methods.flashvid_tree import diverse, merge_over_time
from methods.merged_parts import MergedParts
from methods.selection import cells, lowest

if TYPE_CHECKING:
    from evalkit.encoder_view import Need
    from evalkit.method import Draws

NEIGHBOURS = 7  # of density peaks, at most; source: released code


@dataclass(frozen=True, kw_only=True)
class FlashVIDOuter(Method):
    """In each frame the tokens stay that the encoder attends to and that differ from each other.

    The others of a segment of like frames are merged into their most similar one in the frame before, along whole
    chains, and what is left of a frame into clusters.
    Source: Fanziyang-v/FlashVID@1d37422, MIT. Question-blind, training-free. Published with the stage inside the
    language model: LLaVA-OneVision-7B, 32 frames, 10 %: VideoMME 57.8 (dense 58.6), LongVideoBench 56.5 (56.4);
    Qwen2.5-VL-7B, 10 %: VideoMME 57.3. MLVU, LVBench: none found.

    Differs: `expansion` is 1 here, so that this stage alone spends the ratio; released with 1.25 and a second stage in
    the language model, which brings the mean over layers back to the ratio. Merging over time divides the sum of a
    whole chain by the number of direct children and one, as the released code does; the paper describes a mean. Chance,
    which breaks ties of density, is seeded by run and video. A position may come twice, each time with its own feature;
    on Qwen the released code then shows one of the two twice. Where the budget covers a whole frame everything stays;
    there the released code stops.
    """

    off_ratio: ClassVar[str] = "each frame's tokens and clusters are rounded up"

    choice: Literal["auto", "attn_div", "attn_div_v2"] = "auto"  # auto: v2 where a temporal cell is one frame
    segments: int | None = None  # at least; None: 8 with attn_div_v2, 4 with attn_div
    segment_similarity: float = 0.9  # of neighbouring frames' means below which a segment ends
    merge_similarity: float = 0.8  # of tokens in neighbouring frames above which they are merged
    share: float = 0.7  # of a frame's tokens that stay unmerged
    expansion: float = 1.0  # of the ratio

    def __post_init__(self) -> None:
        sound = self.choice in ("auto", "attn_div", "attn_div_v2") and self.expansion > 0 and 0 < self.share <= 1
        if not sound or not self.merge_similarity < 1 or (self.segments or 1) < 1:
            raise MethodError(
                "FlashVIDOuter: expected choice auto, attn_div or attn_div_v2, segments from 1 or null, "
                f"merge_similarity below 1, share in (0, 1], expansion above 0; got {self}"
            )

    @property
    def needs(self) -> frozenset[Need]:
        """What the encoder attends to."""
        return frozenset({"attention"})

    def select(
        self, tokens: VisualTokens, budget: Budget, attention_from_question: AttentionFromQuestion
    ) -> VisualTokens:
        """Features (T·P, D) -> those that stay and the merged ones, ascending; a position may occur twice."""
        x_TPD = cells(tokens, self)
        count, places = x_TPD.shape[:2]
        total = math.ceil(places * budget.ratio * self.expansion)
        if total >= places:
            return tokens
        attention = needed(tokens.encoder, "attention", self).reshape(count, places).to(x_TPD.device)
        second = self.choice == "attn_div_v2" or (self.choice == "auto" and budget.cell_frames == 1)
        least = self.segments if self.segments is not None else 8 if second else 4
        parts, draw = MergedParts(), budget.draws("flashvid")
        for begin, end in segments(x_TPD.mean(1), least, self.segment_similarity):
            x_LPD = x_TPD[begin:end]
            chosen = diverse(x_LPD, attention[begin:end], math.ceil(total * self.share), toward_mean=second)
            parts.flops += 2 * (end - begin) * places**2 * x_LPD.shape[2]
            self._add(parts, x_LPD, chosen, total, begin * places, draw)
        return parts.tokens(tokens, ascending=True)

    def _add(self, parts: MergedParts, x_LPD: Tensor, chosen_LA: Tensor, total: int, first: int, draw: Draws) -> None:
        """A segment: what was chosen, then the clusters of what merging over time leaves."""
        length, places, width = x_LPD.shape
        for t, own in enumerate(chosen_LA):
            parts.add(own + t * places + first, x_LPD[t, own])
        tree = merge_over_time(x_LPD, chosen_LA, total, self.merge_similarity)
        parts.flops += 2 * (length - 1) * places**2 * width
        left = int(tree.left.sum())
        share = (total - chosen_LA.shape[1]) * length / left if left else 0.0
        for t in range(length):
            at = tree.left[t].nonzero()[:, 0]
            if math.ceil(len(at) * share):
                clusters = math.ceil(len(at) * share) if share < 1 else None
                self._add_clusters(parts, tree.features[t, at], at + t * places, clusters, tree.root, first, draw)

    def _add_clusters(
        self, parts: MergedParts, x_ND: Tensor, at: Tensor, clusters: int | None, root: Tensor, first: int, draw: Draws
    ) -> None:
        """The roots `at` (N,) of one frame as `clusters`; None: each on its own."""
        group = centers = torch.arange(len(at))
        if clusters is not None:
            peaks = density_peaks(x_ND, min(clusters, NEIGHBOURS), draw(len(at)))
            parts.flops += peaks.flops
            centers = peaks.centers(clusters)
            group = peaks.members(centers)
            x_ND, _ = means(x_ND, group, clusters)
        of_root = torch.full_like(root, -1)
        of_root[at] = group
        token = of_root[root]  # of every token of the segment, whose root may be in another frame
        source = (token >= 0).nonzero()[:, 0]
        parts.add_merged(at[centers] + first, x_ND, token[source], source + first)


def segments(mean_TD: Tensor, least: int, threshold: float) -> list[tuple[int, int]]:
    """Runs (from, to) of frames: cut where the means of neighbours are less alike than the threshold.

    Where that gives fewer than `least`, the lowest of the others are cut, too, as far as there are frames.
    """
    alike = cosine_similarity(mean_TD[:-1], mean_TD[1:], dim=-1).cpu()
    cut = alike < threshold
    more = max(0, least - 1 - int(cut.sum()))
    cut[lowest(alike.masked_fill(cut, 1.0), more)] = True
    ends = [*(cut.nonzero()[:, 0] + 1).tolist(), len(mean_TD)]
    return list(zip([0, *ends], ends, strict=False))
