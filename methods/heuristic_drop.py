"""VideoChat-Flash's training-free drop of visual tokens between layers (arXiv 2501.00574; XComp compares with it).

Shape letters: L decoder layers, N visual tokens, T cells.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from evalkit.errors import MethodError
from evalkit.method import AttentionFromQuestion, Budget, Method, PruneView
from evalkit.types import FramePlan, Pruned, Video, VisualTokens
from methods.layer_budget import affordable_cells, spread_cells

DEPTH = 28  # layers of the released models, to which the schedules below belong
# (layer after which tokens are dropped, share of the video's tokens that goes on), in order
SCHEDULES: dict[str, tuple[tuple[int, float], ...]] = {
    "released": ((24, 0.5),),  # source: config.json of the released checkpoints
    "model_card": ((4, 0.75), (18, 0.25)),  # source: their model cards, "global compress"; XComp Table 2
    "pyramid": ((8, 0.5), (16, 0.25), (24, 0.125)),  # source: PyramidDrop (arXiv 2410.17247), whose code it follows
}


@dataclass(frozen=True, kw_only=True)
class HeuristicDrop(Method):
    """After some layers keep the share of visual tokens that the prompt's last token attends to most in the next one.

    `choice: uniform` keeps evenly spaced ones instead, and does not look at the question; `uniform0_attention` does so
    at the first drop alone. The ratio is spent on the schedule first: below its mean share fewer frames are seen, above
    it more tokens are kept at each drop, up to all at ratio 1.

    Differs: what is kept is the released code's, but it is found by passes of their own before the video is read, one
    for each drop by attention up to its layer, where the released code chooses on the way. They are counted. Equal
    attention goes to the earlier token. Schedules are scaled to the backbone's depth.
    """

    schedule: Literal["released", "model_card", "pyramid"] = "released"
    choice: Literal["attention", "uniform", "uniform0_attention"] = "attention"
    frame_ratio: float | None = None  # share of the cells that are seen, the schedule as it is; None: from the ratio

    def __post_init__(self) -> None:
        known = self.schedule in SCHEDULES and self.choice in ("attention", "uniform", "uniform0_attention")
        if not known or not 0 < (self.frame_ratio or 1) <= 1:
            raise MethodError(
                f"HeuristicDrop: expected schedule {'|'.join(SCHEDULES)}, choice attention|uniform|uniform0_attention, "
                f"frame_ratio in (0, 1] or null; got {self}"
            )

    @property
    def query_aware(self) -> bool:
        """The question's last token chooses, unless tokens are kept evenly."""
        return self.choice != "uniform" and (self.choice == "attention" or len(SCHEDULES[self.schedule]) > 1)

    def frames(self, video: Video, budget: Budget) -> FramePlan:
        """As many clips as the budget allows under the schedule, spread over the video by the run's sampling preset."""
        return spread_cells(budget, self.cells(budget))

    def select(
        self, tokens: VisualTokens, budget: Budget, attention_from_question: AttentionFromQuestion
    ) -> VisualTokens:
        """All N tokens, with the layers that see each of them."""
        until = torch.full((len(tokens),), budget.layers)
        for stage, (layer, count) in enumerate(self.drops(budget, len(tokens))):
            left = (until > layer).nonzero()[:, 0]
            if count < len(left):
                kept = self._kept(stage, layer, count, until, tokens, attention_from_question)
                until[left] = until[left].where(torch.isin(torch.arange(len(left)), kept), layer)
        return tokens if bool((until == budget.layers).all()) else replace(tokens, until=until)

    def prune(self, layer: int, layers: int, tokens: VisualTokens, budget: Budget, view: PruneView) -> Pruned | None:
        """The tokens that `select` lets go on to layer `layer`."""
        if tokens.until is None or layer not in [at for at, _ in self.schedule_at(layers)]:
            return None
        return Pruned(index=(tokens.until > layer).nonzero()[:, 0])

    def cells(self, budget: Budget) -> int:
        """Cells that are seen, in whole clips."""
        if self.frame_ratio is not None:
            return budget.cells_at(self.frame_ratio)
        return affordable_cells(budget, self._share(budget.layers))

    def schedule_at(self, layers: int) -> list[tuple[int, float]]:
        """(layer, from 0, before which tokens are dropped; share that goes on) in a decoder of `layers`."""
        return [
            (min(layers, max(1, round(after * layers / DEPTH))), share) for after, share in SCHEDULES[self.schedule]
        ]

    def drops(self, budget: Budget, tokens: int) -> list[tuple[int, int]]:
        """(layer, from 0, before which tokens are dropped; tokens that go on), lifted to what the budget allows."""
        base = [(layer, max(1, int(tokens * share + 1e-6))) for layer, share in self.schedule_at(budget.layers)]
        if self.frame_ratio is not None:
            return base
        ends = [layer for layer, _ in base[1:]] + [budget.layers]
        spent = tokens * base[0][0] + sum(n * (end - at) for (at, n), end in zip(base, ends, strict=True))
        free = tokens * budget.layers - spent
        missing = round(budget.ratio * budget.dense_tokens * budget.layers) - spent
        lift = 0.0 if free == 0 else min(1.0, max(0.0, missing / free))
        return [(layer, n + round(lift * (tokens - n))) for layer, n in base]

    def _share(self, layers: int) -> float:
        """Mean share of a video's tokens that a layer sees under the schedule."""
        drops = self.schedule_at(layers)
        ends = [layer for layer, _ in drops[1:]] + [layers]
        return (drops[0][0] + sum(s * (end - at) for (at, s), end in zip(drops, ends, strict=True))) / layers

    def _kept(
        self,
        stage: int,
        layer: int,
        count: int,
        until: Tensor,
        tokens: VisualTokens,
        attention_from_question: AttentionFromQuestion,
    ) -> Tensor:
        """Which `count` of the tokens that layer `layer` would see go on, positions among those."""
        if self.choice == "uniform" or (self.choice == "uniform0_attention" and stage == 0):
            return torch.linspace(0, int((until > layer).sum()) - 1, count, dtype=torch.long)
        cells = len(tokens.cell_seconds)
        looked = attention_from_question(
            range(cells), windows=[(0, cells)], layers=range(layer, layer + 1), until=until, last=True
        )[0, 0]
        return looked.argsort(descending=True, stable=True)[:count]
