"""AKS, adaptive keyframe sampling: high scores, spread over the video (arXiv 2502.21271).

Source: ncTimTang/AKS at 4667501, which has no licence: written from a description of what it does, without its code.
Published: frame lists for Video-MME and LongVideoBench by BLIP-ITM scores, 32 and 64 frames; no table of scores found.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from evalkit.errors import MethodError
from methods.frames_by_score import FramesByScore


@dataclass(frozen=True, kw_only=True)
class AKS(FramesByScore):
    """Halve the video again and again unless few frames stand out; each final part shows its highest-scored frames.

    Differs: the released code leaves over what does not divide among the parts, and with fewer frames than parts shows
    none of them; its loader then samples uniformly. Here parts are no more than frames, and the frames left over go to
    the highest scores not yet shown (`short: fill`); `short: uniform` does as released. Scores that are all equal have
    no scale there; here they count as 0.
    """

    threshold: float = 0.8  # how far the best frames' mean score lies above the part's mean, for the part to stay whole
    deviation: float = -100.0  # and how far its scores must spread
    depth: int = 5  # halvings at most
    stride: int = 1  # every so many-th score is used
    short: Literal["fill", "uniform"] = "fill"

    def __post_init__(self) -> None:
        if self.depth < 0 or self.stride < 1 or self.short not in ("fill", "uniform"):
            raise MethodError(f"AKS: expected depth from 0, stride from 1 and short fill|uniform; got {self}")

    def chosen(self, scores: Sequence[float], count: int) -> list[int]:
        """The frames of all parts, then the best of the rest."""
        limit = self.depth if self.short == "uniform" else min(self.depth, int(math.log2(count)))
        kept = self.released(scores, count, limit)
        if self.short == "fill":
            left = [i for i in best(np.asarray(scores), len(scores)) if i not in set(kept)]
            kept = sorted(kept + left[: count - len(kept)])
        return kept

    def released(self, scores: Sequence[float], count: int, depth: int | None = None) -> list[int]:
        """The released choice: at most `count` positions in `scores`, ascending; all where there are fewer."""
        used = range(0, len(scores) // self.stride * self.stride, self.stride)
        if len(used) < count:
            return list(used)
        values = np.array([scores[i] for i in used], dtype=np.float64)
        parts = self.parts(values, count, self.depth if depth is None else depth)
        kept = [start + i for start, stop, level in parts for i in best(values[start:stop], count // 2**level)]
        return [used[i] for i in sorted(kept)]

    def parts(self, scores: np.ndarray, count: int, depth: int) -> list[tuple[int, int, int]]:
        """(from, to, halvings) of the final parts, in the order in which they are found, level by level."""
        width = float(np.ptp(scores))
        scaled = (scores - scores.min()) / width if width > 0 else np.zeros_like(scores)
        waiting, final = deque([(0, len(scores), 0)]), []
        while waiting:
            start, stop, level = waiting.popleft()
            if level == depth or self._stands_out(scaled[start:stop], count):
                final.append((start, stop, level))
                continue
            middle = start + (stop - start) // 2
            waiting += [(start, middle, level + 1), (middle, stop, level + 1)]
        return final

    def _stands_out(self, scaled: np.ndarray, count: int) -> bool:
        """`count` is that of the whole video, as in the released code."""
        if not len(scaled):
            return False
        highest = np.sort(scaled)[::-1][:count]
        return bool(highest.mean() - scaled.mean() > self.threshold and scaled.std() > self.deviation)


def best(scores: np.ndarray, count: int) -> list[int]:
    """Positions of the `count` highest scores, of equal ones the earlier, highest first."""
    return [int(i) for i in np.argsort(-scores, kind="stable")[:count]]
