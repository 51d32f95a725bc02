"""QC-Comp: the LLM's own attention from the question chooses the frames (XComp, arXiv 2604.14149, §3.3, Algorithm C).

Numbers that count frames are turned into temporal cells of the backbone. Shape letters: T cells of the video,
L layers that score, W windows of a pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from evalkit.errors import MethodError
from evalkit.method import AttentionFromQuestion, Budget, Method
from evalkit.types import VisualTokens

MIDDLE = (6 / 28, 24 / 28)  # source: released code averages layers 6..23 of 28, counted from 0


@dataclass(frozen=True, kw_only=True)
class QCComp(Method):
    """Keep the cells that the question attends to most, in time order and without gaps.

    The video is read in chunks with margins; in each layer short windows with positions counted anew are attended by
    the question alone. `segment: global` is the paper's baseline: one window as long as the chunk, no margins.

    Differs: only the question's own rows are computed, each frame is encoded once and each chunk read once per video
    (the released code runs whole layers, per question). Videos shorter than a chunk are one chunk, read around the end
    again until chunk and margins are full; the released code leaves those below 1,024 frames as they are.
    """

    clip: int = 8  # frames that are scored together
    window: int = 64  # frames
    stride: int = 32  # frames between windows
    chunk: int = 512  # frames that a pass scores; it reads a margin of window − stride on either side beside them
    repeats: int = 2  # passes over the video, each shifted
    segment: Literal["local", "global"] = "local"
    mask: Literal["none", "causal"] = "none"  # whether the question's tokens see later ones; the released code: yes
    skip: int = 0  # first tokens after the video whose attention is not used
    first_layer: int | None = None  # from 0; None: the released 6 of 28, scaled to the backbone
    last_layer: int | None = None  # None: the released 23 of 28, scaled
    frame_ratio: float | None = None  # share of the cells that go on; None: from the ratio
    times: Literal["compact", "true_time"] = "compact"  # compact: survivors take the first slots, as released

    def __post_init__(self) -> None:
        sound = min(self.clip, self.stride, self.repeats) >= 1 and self.skip >= 0
        sound = sound and not (self.stride % self.clip or self.window % self.stride or self.chunk % self.stride)
        if not sound or not 0 < (self.frame_ratio or 1) <= 1:
            raise MethodError(
                "QCComp: expected stride in multiples of clip, window and chunk in multiples of stride, skip from 0, "
                f"frame_ratio in (0, 1] or null; got {self}"
            )

    @property
    def query_aware(self) -> bool:
        """The question chooses."""
        return True

    def select(
        self, tokens: VisualTokens, budget: Budget, attention_from_question: AttentionFromQuestion
    ) -> VisualTokens:
        """Features (T·P, D) -> (K·P, D) of the K cells with the highest scores."""
        cells, kept = len(tokens.cell_seconds), self.kept(budget)
        if len(tokens) != cells * tokens.grid[0] * tokens.grid[1]:
            raise MethodError(
                f"QCComp chooses whole cells: expected {cells} of {tokens.grid} tokens, got {len(tokens)} tokens; "
                "let it select before tokens are dropped"
            )
        if kept >= cells:
            return tokens
        best = (
            self.scores(cells, budget, attention_from_question)
            .argsort(descending=True, stable=True)[:kept]
            .sort()
            .values
        )
        chosen = tokens.keep(torch.isin(tokens.cell, best).nonzero()[:, 0])
        if self.times == "true_time":
            return chosen
        return replace(chosen, slot=torch.searchsorted(best, chosen.cell), span=kept)

    def kept(self, budget: Budget) -> int:
        """Cells to keep."""
        return budget.cells_at(budget.ratio if self.frame_ratio is None else self.frame_ratio)

    def scores(self, cells: int, budget: Budget, attention_from_question: AttentionFromQuestion) -> Tensor:
        """How much the question attends to each cell, (T,) float64: summed over layers, averaged over passes."""
        layers = self.layers(budget.layers)
        total = torch.zeros(len(layers), cells, dtype=torch.float64)
        count = torch.zeros(cells, dtype=torch.float64)
        clip, width, stride, _ = self.sizes(cells, budget.cell_frames)
        for read in self.passes(cells, budget.cell_frames):
            windows = [(0, len(read))]
            if self.segment == "local":
                windows = [(at, at + width) for at in range(0, len(read) - width + 1, stride)]
            weights = attention_from_question(
                read,
                windows=windows,
                layers=layers,
                skip=self.skip,
                causal=self.mask == "causal",
                closing=self.segment == "global",
            )
            per_clip, valid = clips(weights, windows, len(read) // clip, clip)
            index = torch.tensor(read)[valid.repeat_interleave(clip)]
            total.index_add_(1, index, per_clip[:, valid].repeat_interleave(clip, 1))
            count.index_add_(0, index, torch.ones(len(index), dtype=torch.float64))
        found = (total / count).sum(0)
        if not bool(found.isfinite().all()):  # a score that is no number would sort before all others
            lost = (~found.isfinite()).nonzero()[:, 0]
            raise MethodError(
                f"QCComp: expected a finite score for each of {cells} cells, got none for {len(lost)} of them, first "
                f"cell {int(lost[0])}; features or attention are not finite there, or no window covers them"
            )
        return found

    def layers(self, layers: int) -> range:
        """Layers that score, from 0."""
        first = round(layers * MIDDLE[0]) if self.first_layer is None else self.first_layer
        stop = round(layers * MIDDLE[1]) if self.last_layer is None else self.last_layer + 1
        if not 0 <= first < stop <= layers:
            raise MethodError(f"QCComp: expected layers in 0..{layers - 1}, got first {first}, last {stop - 1}")
        return range(first, stop)

    def sizes(self, cells: int, cell_frames: int) -> tuple[int, int, int, int]:
        """Clip, window, stride and chunk in cells; a chunk is no longer than the video, up to a whole stride."""
        if self.clip % cell_frames:
            raise MethodError(
                f"QCComp: expected clips of whole cells, a multiple of this backbone's {cell_frames} frames; "
                f"got clip = {self.clip}"
            )
        clip = self.clip // cell_frames
        window, stride, chunk = (clip * (size // self.clip) for size in (self.window, self.stride, self.chunk))
        return clip, window, stride, min(chunk, -(-cells // stride) * stride)

    def passes(self, cells: int, cell_frames: int) -> list[list[int]]:
        """The cells that each pass reads, in order; over the video's end it goes on at the start.

        Together the passes of a repeat score every cell.
        """
        clip, window, stride, chunk = self.sizes(cells, cell_frames)
        # whole windows but one stride on either side: every clip between is in window / stride of them
        margin = 0 if self.segment == "global" else 2 * (window - stride)
        starts = [
            (chunk * i + repeat * (clip // self.repeats) + repeat * (chunk // self.repeats)) % cells
            for repeat in range(self.repeats)
            for i in range(-(-cells // chunk))
        ]
        return [[(start + i) % cells for i in range(chunk + margin)] for start in starts]


def clips(weights: Tensor, windows: Sequence[tuple[int, int]], count: int, clip: int) -> tuple[Tensor, Tensor]:
    """Cell scores (L, W, width) -> clip scores (L, clips), the mean over windows, and which clips (clips,) count.

    Clips that fewer windows cover than the most are margins.
    """
    total = torch.zeros(len(weights), count, dtype=torch.float64)
    covered = torch.zeros(count, dtype=torch.long)
    for i, (start, stop) in enumerate(windows):
        inside = slice(start // clip, stop // clip)
        total[:, inside] += weights[:, i].reshape(len(weights), -1, clip).mean(2)
        covered[inside] += 1
    return total / covered.clamp(min=1), covered == covered.max()
