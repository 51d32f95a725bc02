"""Worlds with many events in every frame, for the regression of the vision tower alone."""

from __future__ import annotations

import numpy as np

from evalkit.tiny.videos.world import COLORS, DIGITS, OBJECTS, PLACES, TRAIN_SEEDS, Event, Scene, World

CELLS = 16  # cells of a video, each with its own events; drawing a place costs more than drawing a cell
SCENES = 4
EVENTS = 6  # per cell at most, as far as they fit
APART = 0.27  # least distance of centres, share of the frame's width


def times() -> np.ndarray:
    """Moments of the frames, (2·CELLS,)."""
    return (np.arange(2 * CELLS) + 0.5) / (2 * CELLS)


def draw(seed: int) -> World:
    """A world with crowded scenes; events last for the first frame of a cell, the second, or both."""
    rng = np.random.default_rng((TRAIN_SEEDS.start, seed))
    edges = [0.0, *np.sort(rng.uniform(0.05, 0.95, SCENES - 1)).tolist(), 1.0]
    places = rng.choice(PLACES, SCENES, replace=False)
    scenes = tuple(Scene(place=str(p), start=a, end=b) for p, a, b in zip(places, edges, edges[1:], strict=False))
    return World(seed=seed, scenes=scenes, events=tuple(e for cell in range(CELLS) for e in _cell(rng, cell)))


def _cell(rng: np.random.Generator, cell: int) -> list[Event]:
    centres: list[np.ndarray] = []
    for _ in range(3 * EVENTS):
        spot = rng.uniform(0.16, 0.84, 2)
        if len(centres) < EVENTS and all(np.abs(spot - c).max() > APART for c in centres):
            centres.append(spot)
    return [_event(rng, float(x), float(y), cell) for x, y in centres]


def _event(rng: np.random.Generator, x: float, y: float, cell: int) -> Event:
    is_sign = rng.random() < 0.3
    from_half, to_half = ((0, 2), (0, 1), (1, 2))[int(rng.integers(3))]
    dx, dy = rng.uniform(-0.02, 0.02, 2)
    return Event(
        thing=str(rng.choice(DIGITS if is_sign else OBJECTS)),
        color="" if is_sign else str(rng.choice(COLORS)),
        start=(cell + from_half / 2) / CELLS,
        end=(cell + to_half / 2) / CELLS,
        x=x,
        y=y,
        dx=float(dx),
        dy=float(dy),
        size=float(rng.uniform(0.19, 0.23)) + (0.06 if is_sign else 0.0),
    )
