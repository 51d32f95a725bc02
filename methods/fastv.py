"""FastV: after two layers, only the visual tokens that the prompt's last token attends to (arXiv 2403.06764).

Source: pkunlp-icler/FastV at d165972, which has no licence: written from a description of what it does, without its
code. Published for videos, by HoliTom's table: LLaVA-OneVision-7B, 32 frames, 22.8 % of the prefill's FLOPs:
Video-MME 56.1 (dense 58.6), LongVideoBench 56.7 (56.4), MVBench 55.9, EgoSchema 57.5.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from evalkit.errors import MethodError
from methods.one_cut import OneCut


@dataclass(frozen=True, kw_only=True)
class FastV(OneCut):
    """Layers 0 to K − 1 see all; of the visual tokens go on those with the highest attention in layer K − 1.

    Differs: equal scores go to the earlier token. The choice made while the prompt is read holds for the whole reply;
    the released code chooses again for each new token where it runs without a cache.
    """

    released_layer: ClassVar[int] = 2
    least: ClassVar[float] = 0.05
    dropped: float | None = None  # share of the tokens that is dropped, the paper's R; None: from the ratio

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dropped is not None and not 0 <= self.dropped < 1:
            raise MethodError(f"FastV: expected dropped in [0, 1) or null; got {self.dropped = }")

    def published(self, tokens: int) -> int | None:
        """Rounded half to even, as the released code for transformers does."""
        return None if self.dropped is None else round(tokens * (1 - self.dropped))
