"""The shape of training samples: a module of its own, so that the recipe is read without loading torch."""

from __future__ import annotations

from dataclasses import dataclass

from evalkit.tiny.prompts import FORMATS
from evalkit.tiny.videos.questions import KINDS
from evalkit.tiny.videos.world import TRAIN_SEEDS


@dataclass(frozen=True, kw_only=True)
class Shape:
    """How large the samples of a batch are."""

    videos: int
    questions: int  # per video
    dense: int  # cells that the video is sampled at
    cells: int  # of them, how many are shown; those with an event are preferred, and all are numbered anew
    tokens: int  # visual tokens shown; those with an event are preferred
    objects: tuple[int, int] = (3, 6)  # fewest and most
    options: bool = True  # False: the question alone, answered by a word
    kinds: tuple[str, ...] = tuple(KINDS)
    unseen: float = 0.1  # share of the questions on moments that no sampled frame shows that are kept
    single: bool = False  # True: one token per event, the one that shows it best
    formats: tuple[str, ...] = FORMATS  # whose prompts; one of them per batch
    seeds: range = TRAIN_SEEDS
