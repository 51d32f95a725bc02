"""FastVID: salient tokens of every frame, and context gathered over segments of like frames (arXiv 2503.11187).

The released code has two algorithms, one for LLaVA-OneVision and one for Qwen2.5-VL; both are here.
Shape letters: T frames or temporal cells, P places per cell, D feature width, L cells of a segment.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from evalkit.encoder_view import needed
from evalkit.errors import MethodError
from evalkit.method import AttentionFromQuestion, Budget, Method
from evalkit.types import VisualTokens
from methods.clustering import density_peaks, means, most_similar
from methods.merged_parts import MergedParts
from methods.selection import cells, highest, others

if TYPE_CHECKING:
    from evalkit.encoder_view import Need
    from evalkit.method import Draws

NEIGHBOURS = 4  # of density peaks; source: released code


@dataclass(frozen=True, kw_only=True)
class FastVID(Method):
    """What the encoder's summary of a frame attends to stays; the rest is merged into anchors of its segment.

    A segment is a run of like frames. Anchors are density peaks of some of its frames; every token of the segment that
    does not stay goes to the most similar anchor of each such frame, which keeps `beta` of itself at least.
    Source: LunarShen/FastVID@a40a109, MIT. Question-blind, training-free. Published: LLaVA-OneVision-7B, 32 frames,
    VideoMME 58.0 / 57.3 at 25 / 10 % (dense 58.6), LongVideoBench 56.3 / 56.3 (56.4); Qwen2.5-VL-7B at r 0.27, its own
    log: VideoMME 62.9. MLVU, LVBench: none found.

    Differs: chance, by which the released code breaks ties of density, is seeded by run and video. At ratio 1
    everything stays. LLaVA-Video's released form takes newlines into account and is not this one.
    """

    off_ratio: ClassVar[str] = "a segment's tokens are shared out in whole numbers, rounded down"

    rules: Literal["auto", "llava", "qwen"] = "auto"  # auto: llava where a temporal cell is one frame, else qwen
    segments: int = 8  # at least; a video has to have as many cells
    similarity: float | None = None  # of neighbouring cells below which a segment ends; None: 0.9 llava, 0.84 qwen
    ignore: float = 0.95  # qwen: neighbours in a segment that are at least so similar share one cell's tokens
    context: float = 0.4  # share of the tokens that gather context
    stride: int = 4  # every so many cells (qwen: runs of nearly equal cells) of a segment have anchors
    beta: float = 0.6  # of itself that an anchor keeps, at least

    def __post_init__(self) -> None:
        sound = self.rules in ("auto", "llava", "qwen") and min(self.segments, self.stride) >= 1
        if not sound or not 0 < self.context < 1 or not 0 <= self.beta <= 1:
            raise MethodError(
                "FastVID: expected rules auto, llava or qwen, segments and stride from 1, context between 0 and 1, "
                f"beta from 0 to 1; got {self}"
            )

    @property
    def needs(self) -> frozenset[Need]:
        """What the encoder's summary of a cell attends to, and the summary itself."""
        return frozenset({"pooled_attention", "summary"})

    def select(
        self, tokens: VisualTokens, budget: Budget, attention_from_question: AttentionFromQuestion
    ) -> VisualTokens:
        """Features (T·P, D) -> salient tokens as they are, anchors merged, ascending."""
        x_TPD = cells(tokens, self)
        places = x_TPD.shape[1]
        count = int(places * budget.ratio)
        if count >= places:
            return tokens
        qwen = budget.cell_frames > 1 if self.rules == "auto" else self.rules == "qwen"
        attention = needed(tokens.encoder, "pooled_attention", self).reshape(-1, places)
        alike = similarities(needed(tokens.encoder, "summary", self))
        threshold = (0.84 if qwen else 0.9) if self.similarity is None else self.similarity
        parts, draw = MergedParts(), budget.draws("fastvid")
        for begin, end in segments(alike, self.segments, threshold):
            share = self._on_qwen(alike[begin : end - 1], count, places) if qwen else self._on_llava(end - begin, count)
            check(share, places)
            segment = Segment(x_TPD[begin:end], attention[begin:end], begin * places, share, parts, self.beta, draw)
            segment.add_qwen() if qwen else segment.add_llava(int(count * self.context))
        return replace(parts.tokens(tokens, ascending=True), original_ids=not qwen)

    def _on_llava(self, length: int, count: int) -> list[Share]:
        """Salient tokens in every cell, anchors in the last and every `stride`-th before it."""
        context = int(count * self.context)
        anchored = range(length - 1, -1, -self.stride)
        each = context * length // len(anchored)
        return [Share(count - context, each if t in anchored else 0) for t in range(length)]

    def _on_qwen(self, alike: Tensor, count: int, places: int) -> list[Share]:
        """Tokens in the last cell of each run of nearly equal cells alone; `alike` (L − 1,) of neighbours."""
        length = len(alike) + 1
        context = max(int(count * length * self.context), 1)
        salient = count * length - context
        if length == 1:
            return [Share(salient, context)]
        ends = [*(alike < self.ignore).nonzero()[:, 0].tolist(), length - 1]
        anchored = ends[:: -self.stride]  # from the last on: what is left over goes to the latest
        of_context = {t: min(n, places // 2) for t, n in zip(anchored, even(context, len(anchored)), strict=True)}
        of_salient = dict(zip(ends, even(salient, len(ends)), strict=True))  # and to the earliest
        shares = [(of_salient.get(t, 0), of_context.get(t, 0)) for t in range(length)]
        return [Share(min(own, places - gathered), gathered) for own, gathered in shares]


@dataclass(frozen=True)
class Share:
    """Tokens of one cell."""

    salient: int  # that stay
    context: int  # anchors


def similarities(summary_TG: Tensor) -> Tensor:
    """Cosine of each cell's summary with the next one's, (T − 1,) on the CPU."""
    return cosine_similarity(summary_TG[:-1].float(), summary_TG[1:].float(), dim=-1).cpu()


def segments(alike: Tensor, least: int, threshold: float) -> list[tuple[int, int]]:
    """Runs (from, to) of cells: cut where neighbours are less `alike` (T − 1,) than the threshold.

    And at the lowest, so that there are `least` runs. MethodError for fewer cells.
    """
    if len(alike) + 1 < least:
        raise MethodError(
            f"FastVID needs {least} frames or temporal cells, as many as segments, got {len(alike) + 1}; sample more "
            "frames or lower method.segments"
        )
    cut = alike < threshold
    cut[highest(-alike, least - 1)] = True
    ends = [*(cut.nonzero()[:, 0] + 1).tolist(), len(alike) + 1]
    return list(zip([0, *ends], ends, strict=False))


def even(total: int, parts: int) -> list[int]:
    """`total` in whole parts; what is left over goes to the first ones."""
    return [total // parts + (i < total % parts) for i in range(parts)]


def check(shares: list[Share], places: int) -> None:
    """MethodError where the released code stops, too."""
    if sum(share.salient for share in shares) < 1 or sum(share.context for share in shares) < 1:
        raise MethodError("FastVID needs a salient and a context token in every segment: the ratio is too low")
    for share in shares:
        left = places - share.salient
        if share.context > left or (share.context and left < NEIGHBOURS):
            raise MethodError(
                f"FastVID asks for {share.context} context tokens in a frame of which {left} tokens are left: lower "
                "the ratio or method.stride"
            )


@dataclass(frozen=True)
class Segment:
    """Cells that are merged together; what they give is added to `parts`."""

    features: Tensor  # (L, P, D)
    attention: Tensor  # (L, P)
    first: int  # position of the segment's first token
    shares: list[Share]
    parts: MergedParts
    beta: float
    draw: Draws

    def add_llava(self, context: int) -> None:
        """Anchors are members of themselves; where a cell has no more than its own `context`, it merges alone."""
        rest = self._add_salient()
        members = torch.cat(rest)
        for t, share in enumerate(self.shares):
            anchors = self._anchors(t, rest[t], share.context)  # chance is drawn for every cell
            if share.context:
                self._merge(anchors, rest[t] if share.context == context else members)

    def add_qwen(self) -> None:
        """Anchors are no members of their own cell's, but of others'."""
        rest = self._add_salient()
        members = torch.cat(rest)
        for t, share in enumerate(self.shares):
            if share.context:
                anchors = self._anchors(t, rest[t], share.context)
                self._merge(anchors, members[~torch.isin(members, anchors)])

    def _add_salient(self) -> list[Tensor]:
        """By cell the positions in the segment of the tokens that are left, (n,) each."""
        rest, places = [], self.features.shape[1]
        for t, share in enumerate(self.shares):
            salient = highest(self.attention[t], share.salient)
            self.parts.add(salient + t * places + self.first, self.features[t, salient])
            rest.append(others(places, salient) + t * places)
        return rest

    def _anchors(self, t: int, rest: Tensor, count: int) -> Tensor:
        """Density peaks of a cell's remaining tokens, ascending."""
        noise = self.draw(len(rest))
        if not count:
            return rest[:0]
        peaks = density_peaks(self.features.flatten(0, 1)[rest], NEIGHBOURS, noise)
        self.parts.flops += peaks.flops
        return rest[peaks.centers(count)]

    def _merge(self, anchors: Tensor, members: Tensor) -> None:
        """Every member goes to the most similar anchor."""
        flat = self.features.flatten(0, 1)
        group, flops = most_similar(flat[members], flat[anchors])
        mean, count = means(flat[members], group, len(anchors))
        own = (1 / (count + 1)).clamp(min=self.beta)[:, None]
        own = own.where(count[:, None] > 0, torch.ones_like(own))
        self.parts.flops += flops
        self.parts.add_merged(
            anchors + self.first,
            own * flat[anchors] + (1 - own) * mean,
            torch.cat([torch.arange(len(anchors)), group]),
            torch.cat([anchors, members]) + self.first,
        )
