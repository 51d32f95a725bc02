"""FlashVID's inner stage: late in the LLM, only the visual tokens that the prompt's last token attends to.

Source: Fanziyang-v/FlashVID at 1d37422, MIT (paper: "FlashVID"). Published with the outer stage alone: a radar figure
for 10 %, LLaVA-OneVision-7B: Video-MME 57.8, LongVideoBench 56.5; Qwen2.5-VL-7B: 57.3, 57.1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from evalkit.errors import MethodError
from methods.one_cut import OneCut


@dataclass(frozen=True, kw_only=True)
class FlashVIDInner(OneCut):
    """As FastV, after layer 20 of 28 and with 30 % of the tokens.

    Differs: without its outer stage a lower ratio is met with fewer frames, a higher one with more tokens. Equal scores
    go to the earlier token. Newlines between rows are not visual tokens here and compete with none.
    """

    released_layer: ClassVar[int] = 20
    least: ClassVar[float] = 0.3
    kept: float | None = None  # share of the tokens that goes on, as published 0.3; None: from the ratio

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.kept is not None and not 0 < self.kept <= 1:
            raise MethodError(f"FlashVIDInner: expected kept in (0, 1] or null; got {self.kept = }")

    def published(self, tokens: int) -> int | None:
        """Rounded up."""
        return None if self.kept is None else math.ceil(tokens * self.kept)
