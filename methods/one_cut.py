"""What FastV and the inner stages of HoliTom and FlashVID have in common: one cut between two of the LLM's layers."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from evalkit.errors import MethodError
from evalkit.method import Budget, Method, PruneView
from evalkit.types import FramePlan, Pruned, Video, VisualTokens
from methods.layer_budget import affordable_cells, left_for_later, scaled, spread_cells


@dataclass(frozen=True, kw_only=True)
class OneCut(Method):
    """The first layers see all visual tokens, the others those that the prompt's last token attended to most.

    The score is the attention of the last layer before the cut. The ratio decides how many go on; where it is too low
    for the smallest share that a method lets go on, fewer frames are seen. Ids stay as they are.
    """

    whole: ClassVar[bool] = True
    released_layer: ClassVar[int]  # of 28
    least: ClassVar[float]  # share of the tokens that goes on at least
    layer: int | None = None  # layers that see all tokens; None: the released ones of 28, scaled to the backbone

    def __post_init__(self) -> None:
        if self.layer is not None and self.layer < 1:
            raise MethodError(f"{type(self).__name__}: expected layer from 1, or null; got {self.layer = }")

    def frames(self, video: Video, budget: Budget) -> FramePlan:
        """All that the ratio pays for."""
        if self.published(100) is not None:
            return Method.frames(self, video, budget)
        return spread_cells(budget, affordable_cells(budget, self.mean_share(budget.layers, self.least)))

    def prune(self, layer: int, layers: int, tokens: VisualTokens, budget: Budget, view: PruneView) -> Pruned | None:
        """The cut."""
        if layer != self.cut(layers):
            return None
        own = self.published(len(tokens))
        count = left_for_later(budget, len(tokens), layer) if own is None else own
        if count >= len(tokens):
            return None
        order = view.last_attention().argsort(descending=True, stable=True)
        return self.left(order[:count], order[count:].sort().values, view)

    def cut(self, layers: int) -> int:
        """The layer, from 0, before which tokens go."""
        return scaled(self.released_layer, layers) if self.layer is None else self.layer

    def mean_share(self, layers: int, share: float) -> float:
        """Mean share of the tokens that a layer sees where `share` of them goes on."""
        cut = min(layers, self.cut(layers))
        return (cut + (layers - cut) * share) / layers

    @abstractmethod
    def published(self, tokens: int) -> int | None:
        """How many of `tokens` go on by the method's own share; None: the ratio decides."""

    def left(self, best: Tensor, rest: Tensor, view: PruneView) -> Pruned:
        """What goes on: `best`, highest score first; `rest`, in prompt order, is dropped."""
        return Pruned(index=best.sort().values, renumber=False)
