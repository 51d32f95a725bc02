"""The training stages of the small model, in order; joint training from scratch stays at chance."""

from __future__ import annotations

from dataclasses import dataclass

from evalkit.tiny.model import LAYERS
from evalkit.tiny.training.shape import Shape
from evalkit.tiny.videos.questions import KINDS

SEED = 7
SHORT_FORMATS = ("mlvu", "lvbench")
BETAS = (0.9, 0.98)
PAIR_KINDS = ("color", "object", "grounding")
HARD_KINDS = (*KINDS, "after", "before", "grounding", "count")  # those that take longest, twice


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Some steps on samples of some shapes, one after the other."""

    name: str
    steps: int
    shapes: tuple[Shape, ...]
    rate: tuple[float, float]  # learning rate at the first and the last step, linear between
    # "symbols": sums of word embeddings; "frames": regress them; "pixels": all weights, end to end; "both": these two
    source: str
    layers: int = LAYERS  # decoder layers; where a stage has more than the one before, new ones are put on top
    noise: float = 0.1  # on symbols, per feature


def _stage(
    name: str, source: str, steps: int, rate: tuple[float, float], *shapes: Shape, layers: int = LAYERS
) -> Stage:
    return Stage(name=name, steps=steps, shapes=shapes, rate=rate, source=source, layers=layers)


CROWDED = Shape(videos=6, questions=0, dense=0, cells=0, tokens=0)
LONGER = (
    Shape(videos=20, questions=5, dense=64, cells=14, tokens=60, kinds=HARD_KINDS),
    Shape(videos=12, questions=6, dense=64, cells=40, tokens=200, kinds=HARD_KINDS),
)
PICTURES = (
    Shape(videos=10, questions=6, dense=64, cells=14, tokens=100, kinds=HARD_KINDS),
    Shape(videos=4, questions=8, dense=64, cells=64, tokens=1024, kinds=HARD_KINDS),
    Shape(videos=6, questions=8, dense=32, cells=32, tokens=400, kinds=HARD_KINDS),
    Shape(videos=3, questions=8, dense=128, cells=128, tokens=600, kinds=HARD_KINDS),
)

STAGES: tuple[Stage, ...] = (
    # two objects: the question's word finds its event in hundreds of steps; with more objects it takes thousands
    _stage(
        "pairs",
        "symbols",
        500,
        (2e-3, 2e-3),
        Shape(videos=32, questions=8, dense=64, cells=4, tokens=9, objects=(2, 2), options=False, kinds=PAIR_KINDS),
        layers=6,
    ),
    _stage(
        "few",
        "symbols",
        300,
        (2e-3, 2e-3),
        Shape(videos=64, questions=8, dense=64, cells=8, tokens=28, objects=(2, 4), options=False),
        layers=6,
    ),
    _stage(
        "words",
        "symbols",
        500,
        (2e-3, 2e-3),
        Shape(videos=64, questions=8, dense=64, cells=14, tokens=48, options=False),
        Shape(videos=16, questions=10, dense=64, cells=40, tokens=200, options=False, kinds=HARD_KINDS),
        Shape(videos=8, questions=12, dense=128, cells=128, tokens=500, options=False, kinds=HARD_KINDS),
        layers=6,
    ),
    # two more layers for the options; the shorter prompts first: finding the word among them is the same in all
    _stage(
        "letters",
        "symbols",
        500,
        (2e-3, 1.5e-3),
        Shape(videos=24, questions=5, dense=64, cells=9, tokens=30, objects=(2, 4), formats=SHORT_FORMATS),
    ),
    _stage("vision", "frames", 2000, (1.5e-3, 5e-5), CROWDED),
    _stage(
        "longer",
        "symbols",
        300,
        (1.5e-3, 8e-4),
        *LONGER,
        Shape(videos=6, questions=8, dense=128, cells=128, tokens=500, kinds=HARD_KINDS),
    ),
    # the same at a rate that stays: letters still rise
    _stage(
        "longer still",
        "symbols",
        120,
        (8e-4, 8e-4),
        *LONGER,
        Shape(videos=6, questions=8, dense=64, cells=64, tokens=500, kinds=HARD_KINDS),
    ),
    _stage("vision again", "frames", 2000, (1.2e-3, 5e-5), CROWDED),
    _stage("together", "pixels", 350, (8e-4, 4.255e-4), *PICTURES),
    # the events in real videos are few: alone they let the tower forget shapes, so crowded scenes come beside them
    _stage("sharper", "both", 330, (4e-4, 2e-5), *PICTURES),
)
