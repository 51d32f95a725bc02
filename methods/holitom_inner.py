"""HoliTom's inner stage: late in the LLM, tokens of low attention are merged into those of high (arXiv 2505.21334).

Source: cokeshao/HoliTom at e9b2972, Apache-2.0. Published with the outer stage, LLaVA-OneVision-7B, 32 frames,
25/20/15/10 % before the LLM: Video-MME 58.9/58.6/57.3/56.8, LongVideoBench 56.7/57.1/56.4/56.3.
Shape letters: n visual tokens, D width, K tokens that go on, J that join them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import normalize

from evalkit.errors import MethodError
from evalkit.method import PruneView
from evalkit.types import Pruned
from methods.one_cut import OneCut

BLOCK = 4096  # tokens that are compared with all that go on at a time


@dataclass(frozen=True, kw_only=True)
class HoliTomInner(OneCut):
    """After layer 18 of 28, half of the tokens go on; each of the others joins the most similar of those.

    What joins is averaged in one after the other, in prompt order: the last one counts for half.

    Differs: the layer whose attention is read stays causal, as in the paper; in the released code it is not
    (`mask: released`). Equal scores go to the earlier token.
    """

    released_layer: ClassVar[int] = 18
    least: ClassVar[float] = 0.5
    merged: float | None = None  # share of the tokens that is merged away, as published 0.5; None: from the ratio
    mask: str = "causal"  # or released: the last layer before the cut sees later tokens, too

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.mask not in ("causal", "released") or (self.merged is not None and not 0 <= self.merged < 1):
            raise MethodError(
                f"HoliTomInner: expected mask causal|released and merged in [0, 1) or null; got {self.mask = }, "
                f"{self.merged = }"
            )

    def sees_later(self, layer: int, layers: int) -> bool:
        """The released code's last layer before the cut."""
        return self.mask == "released" and layer == self.cut(layers) - 1

    def published(self, tokens: int) -> int | None:
        """Rounded half to even."""
        return None if self.merged is None else round(tokens * (1 - self.merged))

    def left(self, best: Tensor, rest: Tensor, view: PruneView) -> Pruned:
        """The K best with what joins them."""
        states = view.states
        chosen, joining = (states[index.to(states.device)] for index in (best, rest))
        merged = averaged_in(chosen, joining, nearest(joining, chosen))
        order = best.argsort()
        flops = 2 * joining.shape[0] * chosen.shape[0] * states.shape[1]
        return Pruned(index=best[order], states=merged[order.to(merged.device)], renumber=False, flops=flops)


def nearest(joining: Tensor, chosen: Tensor) -> Tensor:
    """For each of joining (J, D) the most similar of chosen (K, D) by cosine, of equal ones the first, (J,) long."""
    across = normalize(chosen, dim=-1).T
    parts = [joining[start : start + BLOCK] for start in range(0, len(joining), BLOCK)]
    blocks = [(normalize(part, dim=-1) @ across).argmax(-1) for part in parts]
    return torch.cat(blocks) if blocks else joining.new_zeros(0, dtype=torch.long)


def averaged_in(chosen: Tensor, joining: Tensor, into: Tensor) -> Tensor:
    """Chosen (K, D) after each of joining (J, D), in order, was averaged into the one at `into` (J,)."""
    out, waiting = chosen.clone(), torch.arange(len(into), device=into.device)
    while len(waiting):
        # the first of those that wait for each; those of different ones do not touch each other
        target = into[waiting]
        first = torch.full((len(chosen),), len(into), device=into.device).scatter_reduce(0, target, waiting, "amin")
        now = first[target] == waiting
        out[target[now]] = (out[target[now]] + joining[waiting[now]]) / 2
        waiting = waiting[~now]
    return out
