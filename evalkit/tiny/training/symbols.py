"""What each visual token of a cell shows, as weights over words: the training target of the vision tower."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from evalkit.tiny.model import GRID
from evalkit.tiny.prompts import vocab
from evalkit.tiny.videos.world import COLORS, DIGITS, OBJECTS, PLACES, Event, World

CONCEPTS = (*PLACES, *COLORS, *OBJECTS, *DIGITS, "object", "sign")
INDEX = {name: i for i, name in enumerate(CONCEPTS)}
EVENTS = [INDEX["object"], INDEX["sign"]]  # concepts of any token that shows an event
WHERE = [INDEX[name] for name in PLACES]
COLOR = [INDEX[name] for name in COLORS]
THINGS = [INDEX[name] for name in (*OBJECTS, *DIGITS)]
FULL = 0.35  # share of an event's area from which on a token shows it fully


@lru_cache(maxsize=1)
def concept_ids() -> tuple[int, ...]:
    """Token id of each concept's word, with the space before it."""
    return tuple(vocab()[" " + name] for name in CONCEPTS)


def moments(cells: int) -> np.ndarray:
    """Shares of the video at which frames are sampled for `cells` cells, (2·cells,)."""
    return np.linspace(0.0, 1.0, 2 * cells, endpoint=False) + 0.25 / cells


def weights(world: World, times: np.ndarray) -> np.ndarray:
    """Concept weights (T, places, concepts) float32 of the cells made of frames at `times` (2T,)."""
    out = np.zeros((len(times) // 2, GRID * GRID, len(CONCEPTS)), np.float32)
    edges = np.array([s.end for s in world.scenes[:-1]])
    for frame, index in enumerate(np.searchsorted(edges, times, side="right").tolist()):
        out[frame // 2, :, INDEX[world.scenes[index].place]] += 0.5
    for event in world.events:
        for frame in np.flatnonzero((times >= event.start) & (times < event.end)).tolist():
            _show(out[frame // 2], event, _covered(event, float(times[frame])))
    return out


def _show(cell: np.ndarray, event: Event, covered: np.ndarray) -> None:
    names = (event.thing, event.color, "object") if event.color else (event.thing, "sign")
    for name in names:
        np.maximum(cell[:, INDEX[name]], covered, out=cell[:, INDEX[name]])


def _covered(event: Event, u: float) -> np.ndarray:
    """Share of the event that each place shows at moment `u`, (places,), clipped to [0, 1]."""
    low = np.arange(GRID) / GRID
    shares = [
        np.clip(np.minimum(c + event.size / 2, low + 1 / GRID) - np.maximum(c - event.size / 2, low), 0, None)
        for c in event.at(u)
    ]
    area = np.outer(shares[1], shares[0]).ravel() / event.size**2
    return np.clip(area / FULL, 0, 1).astype(np.float32)


def sampled(spans: tuple[tuple[float, float], ...], times: np.ndarray) -> bool:
    """Whether every span holds at least one sampled moment."""
    return all(bool(((times >= a) & (times < b)).any()) for a, b in spans)
