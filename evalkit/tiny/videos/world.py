"""What happens in a generated video, before anything is drawn.

A world is a row of places (scenes with cuts between them) and a few short events: coloured objects that appear, drift
and vanish, and one sign with a digit. All times are shares of the video, so that a world can be drawn at any length.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

PLACES = ("beach", "forest", "desert", "city", "snow", "sea", "meadow", "night")
COLORS = ("red", "green", "blue", "yellow", "white", "purple")
OBJECTS = ("circle", "square", "triangle", "star", "cross", "ring", "heart", "moon")
DIGITS = ("2", "3", "4", "5", "6", "7", "8", "9")

# worlds of the three splits come from disjoint ranges of seeds
TEST_SEEDS, VALIDATION_SEEDS, TRAIN_SEEDS = range(10**7, 2 * 10**7), range(2 * 10**7, 3 * 10**7), range(2**32, 2**42)
SHORTEST = 1 / 100  # of the video: an event is never missed by 128 frames spread over it
LONGEST = 1 / 50
GAP = 1 / 50  # between events: two never share a cell of the dense run (64 cells)
FEWEST, MOST = 3, 6  # objects in a video


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A stretch of the video in one place."""

    place: str
    start: float  # share of the video
    end: float


@dataclass(frozen=True, kw_only=True)
class Event:
    """An object, or the sign when `color` is empty, on screen for a short while."""

    thing: str  # an object or a digit
    color: str
    start: float  # share of the video
    end: float
    x: float  # centre when it appears, share of the frame's width
    y: float
    dx: float  # drift until it vanishes
    dy: float
    size: float  # share of the frame's width

    def at(self, u: float) -> tuple[float, float]:
        """Centre at moment `u` (share of the video)."""
        age = (u - self.start) / (self.end - self.start)
        return self.x + age * self.dx, self.y + age * self.dy


@dataclass(frozen=True, kw_only=True)
class World:
    """One video: its places and events in order of time."""

    seed: int
    scenes: tuple[Scene, ...]
    events: tuple[Event, ...]  # objects and the sign

    @property
    def objects(self) -> tuple[Event, ...]:
        """The coloured objects, in order of appearance; no object appears twice."""
        return tuple(e for e in self.events if e.color)

    @property
    def sign(self) -> Event:
        """The sign with a digit; every video has one."""
        return next(e for e in self.events if not e.color)

    def scene_at(self, u: float) -> Scene:
        """The scene on screen at moment `u` (share of the video)."""
        return next((s for s in self.scenes if u < s.end), self.scenes[-1])


def draw(seed: int, *, objects: int | None = None, dominant: bool | None = None) -> World:
    """A world from its seed. `objects`: how many; `dominant`: whether one colour outweighs the others; None: drawn."""
    rng = np.random.default_rng(seed)
    count = int(rng.integers(FEWEST, MOST + 1)) if objects is None else objects
    one_color = count > 2 and bool(rng.random() < 0.5) if dominant is None else dominant
    scenes = _scenes(rng)
    starts, lengths = _slots(rng, count + 1, [s.start for s in scenes[1:]])
    things = [str(t) for t in rng.choice(OBJECTS, count, replace=False)]
    looks = list(zip(things, _colors(rng, count, one_color), strict=True))
    looks.insert(int(rng.integers(count + 1)), (str(rng.choice(DIGITS)), ""))
    events = tuple(_event(rng, *look, s, n) for look, s, n in zip(looks, starts, lengths, strict=True))
    return World(seed=seed, scenes=scenes, events=events)


def _scenes(rng: np.random.Generator) -> tuple[Scene, ...]:
    count = int(rng.integers(3, 5))
    shares = 1 / 6 + rng.dirichlet(np.ones(count)) * (1 - count / 6)
    edges = np.concatenate([[0.0], np.cumsum(shares)])
    places = rng.choice(PLACES, count, replace=False)
    return tuple(
        Scene(place=str(p), start=float(a), end=float(b)) for p, a, b in zip(places, edges, edges[1:], strict=False)
    )


def _colors(rng: np.random.Generator, count: int, one_color: bool) -> list[str]:
    names = [str(c) for c in rng.permutation(COLORS)]
    if not one_color:
        return names[:count]
    most = count // 2 + 1
    return [str(c) for c in rng.permutation([names[0]] * most + names[1 : 1 + count - most])]


def _slots(rng: np.random.Generator, count: int, cuts: list[float]) -> tuple[list[float], list[float]]:
    """Starts and lengths of `count` events: apart from each other and from the cuts."""
    while True:
        lengths = rng.uniform(SHORTEST, LONGEST, count)
        slack = 0.97 - lengths.sum() - GAP * (count - 1)
        offsets = np.sort(rng.random(count)) * slack
        starts = 0.015 + offsets + np.concatenate([[0.0], np.cumsum(lengths[:-1] + GAP)])
        if all(c < s - GAP / 2 or c > s + n + GAP / 2 for c in cuts for s, n in zip(starts, lengths, strict=True)):
            return [float(s) for s in starts], [float(n) for n in lengths]


def _event(rng: np.random.Generator, thing: str, color: str, start: float, length: float) -> Event:
    size = rng.uniform(0.19, 0.23) + (0.06 if not color else 0.0)  # the sign is larger: digits are finer than shapes
    low, high = size / 2 + 0.01, 1 - size / 2 - 0.01  # always whole inside the frame
    x, y = rng.uniform(low, high, 2)
    end_x, end_y = (np.clip(c + d, low, high) for c, d in zip((x, y), rng.uniform(-0.12, 0.12, 2), strict=True))
    return Event(
        thing=thing,
        color=color,
        start=start,
        end=start + length,
        x=float(x),
        y=float(y),
        dx=float(end_x - x),
        dy=float(end_y - y),
        size=float(size),
    )
