"""What passes between a method that settles a chunk's eviction when all layers have run, and the engine.

Shape letters: S visual tokens of a chunk, R rows of position ids.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class VideoPart:
    """Which part of a video a chunk is, and what of it stays."""

    number: int  # of the chunk, from 0
    share: float  # of its tokens that stays, as `Method.shares` says; 1 or more: all
    video_share: float  # of all the video's tokens, which the ratio leaves
    before: int  # tokens of text before the video
    left: int  # tokens of the video that come after the chunk, separators included
    suffix: int  # tokens of text after the video
    prompt_tokens: int  # of the whole prompt


@dataclass(frozen=True, kw_only=True)
class Guide:
    """Text that follows the video, fed behind one of its chunks: each token of it attends to cache, chunk and text."""

    tokens: int  # the last so many of the text
    offset: int | None = None  # by which its ids are lowered; None: such that they follow the chunk's last id in time
    stays: bool = False  # whether its keys and values stay in the cache, where nothing of the chunk is cut


@dataclass(frozen=True, kw_only=True)
class Scored:
    """What `Method.evict` returns where `Method.settle` chooses later: how much each token of the chunk counts."""

    scores: Tensor = field(repr=False)  # (S,) float32, on either device
    positions: Tensor | None = field(default=None, repr=False)  # (R, S) new ids of the whole chunk; None: the old ones
    closes_gap: bool = True  # what comes after new ids continues from there; False: it keeps its own ids
    flops: int = 0  # operations of the matrix products that the scores took
