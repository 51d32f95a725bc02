"""PyramidDrop: fewer visual tokens after each quarter of the LLM, by what its next layer attends to (arXiv 2410.17247).

Source: Cooperx521/PyramidDrop at 6444f30, MIT. Published for videos, by HoliTom's table: LLaVA-OneVision-7B, 25.7 % of
the FLOPs: Video-MME 56.4, LongVideoBench 54.1, MVBench 56.1, EgoSchema 58.0. Its own paper has images alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

from evalkit.errors import MethodError
from evalkit.method import Budget, Method, PruneView
from evalkit.types import FramePlan, Pruned, Video, VisualTokens
from methods.layer_budget import affordable_cells, scaled, spread_cells

LAYERS = (8, 16, 24)  # of 32, after which tokens are dropped; source: released scripts
HALF = 0.5  # of the tokens go on each time; source: released scripts (0.5, 0.25, 0.125 of all)


@dataclass(frozen=True, kw_only=True)
class PyramidDrop(Method):
    """Before some layers, keep the visual tokens that the prompt's last token attends to most in that very layer.

    The same share goes on each time, such that the ratio is met; below one half fewer frames are seen instead. `stages`
    gives layers and shares outright: ((8, 0.5), (16, 0.25)) lets half of the video's tokens go on after 8 layers.

    Differs: with grouped queries each query head has its group's key, where the released code fails. Equal scores go to
    the earlier token.
    """

    whole: ClassVar[bool] = True
    stages: tuple[tuple[int, float], ...] | None = None  # (layers before the drop, share of all tokens); None: as above

    def __post_init__(self) -> None:
        if self.stages is None:
            return
        stages = tuple((int(layer), float(share)) for layer, share in self.stages)
        object.__setattr__(self, "stages", stages)  # from a list of lists, as a file has it
        falling = [1.0, *(share for _, share in stages), 0.0]
        if [layer for layer, _ in stages] != sorted({layer for layer, _ in stages if layer > 0}) or falling != sorted(
            falling, reverse=True
        ):
            raise MethodError(f"PyramidDrop: expected stages of rising layers from 1 and falling shares; got {stages}")

    def frames(self, video: Video, budget: Budget) -> FramePlan:
        """All that the ratio pays for with half of the tokens going on each time."""
        if self.stages is not None:
            return super().frames(video, budget)
        return spread_cells(
            budget, affordable_cells(budget, mean_share(self._geometric(HALF, budget.layers), budget.layers))
        )

    def prune(self, layer: int, layers: int, tokens: VisualTokens, budget: Budget, view: PruneView) -> Pruned | None:
        """A drop, if there is one before this layer; everything that goes on, text included, is numbered anew."""
        before = view.memo if isinstance(view.memo, int) else len(tokens)  # tokens of the video
        count = self.counts(before, budget).get(layer)
        if count is None or count >= len(tokens):
            return None
        index = view.next_attention().argsort(descending=True, stable=True)[:count].sort().values
        return Pruned(index=index, renumber=True, memo=before)

    def counts(self, tokens: int, budget: Budget) -> dict[int, int]:
        """How many of a video's tokens go on, by the layer before which the others are dropped."""
        if self.stages is not None:
            return {layer: int(tokens * share) for layer, share in self.stages}
        wanted, low, high = budget.ratio * budget.dense_tokens / tokens, 0.0, 1.0
        if wanted >= 1 - 1e-9:
            return {}
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (
                (middle, high)
                if mean_share(self._geometric(middle, budget.layers), budget.layers) < wanted
                else (low, middle)
            )
        return {layer: round(tokens * share) for layer, share in self._geometric(high, budget.layers)}

    @staticmethod
    def _geometric(share: float, layers: int) -> tuple[tuple[int, float], ...]:
        """Stages of which each lets `share` of the one before go on."""
        places = [scaled(layer, layers, of=32) for layer in LAYERS]
        return tuple((layer, share ** (i + 1)) for i, layer in enumerate(places))


def mean_share(stages: tuple[tuple[int, float], ...], layers: int) -> float:
    """Mean share of the tokens that a layer sees."""
    starts = [0, *(layer for layer, _ in stages), layers]
    shares = [1.0, *(share for _, share in stages)]
    return sum(share * (end - at) for share, (at, end) in zip(shares, pairwise(starts), strict=True)) / layers
