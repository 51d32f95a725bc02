"""BOLT: frames drawn at even steps of the cumulated score, so that high scores get more of them (arXiv 2503.21483).

Source: sming256/BOLT at 8a9ba45, MIT. Published (README), 8/16/32 frames, uniform → BOLT, LLaVA-OneVision-7B: Video-MME
54.0→56.1, 56.7→58.3, 58.5→59.5; MLVU 58.4→63.6, 60.9→66.1, 63.1→66.8; LongVideoBench 54.2→54.5, 56.0→56.7, 56.6→58.1.
Qwen2.5-VL-7B: Video-MME 53.8→57.4, 58.8→60.9, 62.2→64.0; MLVU 57.1→63.1, 59.9→66.2, 62.5→68.4.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evalkit.errors import MethodError
from methods.frames_by_score import FramesByScore


@dataclass(frozen=True, kw_only=True)
class BOLT(FramesByScore):
    """Inverse transform sampling of the scores, sharpened by a power; a sharp peak's frame is shown several times.

    Differs: a step past the last frame, which the released code can reach, shows the last one; scores that are all
    equal, which have no scale there, are sampled evenly. Repeated frames keep their own time.
    """

    power: float = 3.0  # Video-MME and MLVU; LongVideoBench 2.5; −1: the scores as they are

    def __post_init__(self) -> None:
        if self.power != -1 and self.power <= 0:
            raise MethodError(f"BOLT: expected a power above 0, or -1 for none; got {self.power = }")

    def chosen(self, scores: Sequence[float], count: int) -> list[int]:
        """`count` positions in `scores`, in time order."""
        values = np.asarray(scores, dtype=np.float32)
        values = values - values.min()
        if values.max() == 0:
            values = np.ones_like(values)
        values = values / values.max()
        if self.power != -1:
            values = values**self.power
        reached = np.cumsum(values / values.sum())
        steps = np.linspace(1 / count, 1 - 1 / count, count)
        return [int(i) for i in np.searchsorted(reached, steps).clip(max=len(values) - 1)]
