"""What the small model is taught, in which order. Joint training from scratch stays at chance; these stages do not."""

from __future__ import annotations

from dataclasses import dataclass

from evalkit.tiny.batches import Shape

SEED = 7
BETAS = (0.9, 0.98)
FIRST_KINDS = ("color", "object", "after", "before", "grounding")


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """Some steps on samples of one shape."""

    name: str
    steps: int
    shape: Shape
    rate: tuple[float, float]  # learning rate at the first and the last step, linear between
    source: str  # "symbols": sums of word embeddings; "frames": regress them; "pixels": all weights, end to end
    noise: float = 0.1  # on symbols, per feature


def _symbols(name: str, steps: int, rate: tuple[float, float], shape: Shape) -> Lesson:
    return Lesson(name=name, steps=steps, shape=shape, rate=rate, source="symbols")


LESSONS: tuple[Lesson, ...] = (
    # two objects: the question's word finds its event (a few hundred steps; with more objects it takes thousands)
    _symbols(
        "pairs",
        150,
        (2e-3, 2e-3),
        Shape(videos=64, questions=6, dense=64, cells=5, tokens=16, objects=(2, 2), options=False, kinds=FIRST_KINDS),
    ),
    _symbols(
        "few",
        150,
        (2e-3, 2e-3),
        Shape(videos=64, questions=8, dense=64, cells=8, tokens=28, objects=(2, 4), options=False, kinds=FIRST_KINDS),
    ),
    _symbols(
        "words", 300, (2e-3, 2e-3), Shape(videos=64, questions=8, dense=64, cells=14, tokens=48, options=False)
    ),
    _symbols("letters", 300, (2e-3, 1.5e-3), Shape(videos=48, questions=5, dense=64, cells=14, tokens=48)),
    _symbols("longer", 200, (1.5e-3, 1e-3), Shape(videos=24, questions=8, dense=64, cells=40, tokens=160)),
    _symbols("long", 150, (1e-3, 3e-4), Shape(videos=12, questions=10, dense=96, cells=80, tokens=400)),
)
