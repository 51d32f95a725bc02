"""The helper targets of training, by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from evalkit.model.packed_questions import IGNORE
from evalkit.tiny.model import WIDTH
from evalkit.tiny.training import symbols
from evalkit.tiny.training.auxiliary_head import SIZES, AuxiliaryHead, targets
from evalkit.tiny.videos.world import COLORS, OBJECTS, PLACES, Event, Scene, World


def event(thing: str, color: str, start: float) -> Event:
    return Event(thing=thing, color=color, start=start, end=start + 0.02, x=0.5, y=0.5, dx=0, dy=0, size=0.2)


def token(place: str, *names: str, share: float = 1.0) -> np.ndarray:
    row = np.zeros(len(symbols.CONCEPTS), np.float32)
    row[symbols.INDEX[place]] = 1.0
    for name in names:
        row[symbols.INDEX[name]] = share
    return row


WORLD = World(
    seed=1,
    scenes=(Scene(place="snow", start=0.0, end=0.5), Scene(place="sea", start=0.5, end=1.0)),
    events=(event("star", "red", 0.1), event("7", "", 0.3), event("ring", "blue", 0.6), event("moon", "red", 0.8)),
)


def test_targets_by_hand() -> None:
    """Star, star, background, sign, ring hardly seen, moon: the ring never counts."""
    weights = np.stack(
        [
            token("snow", "star", "red", "object"),
            token("snow", "star", "red", "object", share=0.5),
            token("snow"),
            token("snow", "7", "sign"),
            token("sea", "ring", "blue", "object", share=0.2),
            token("sea", "moon", "red", "object"),
        ]
    )
    thing, color, place, before, rank = targets(WORLD, weights).tolist()
    star, moon, none = OBJECTS.index("star"), OBJECTS.index("moon"), len(OBJECTS)
    seven, red, snow = len(OBJECTS) + 5, COLORS.index("red"), PLACES.index("snow")
    assert thing == [star, star, IGNORE, seven, IGNORE, moon]
    assert color == [red, red, IGNORE, IGNORE, IGNORE, red]
    assert place == [snow, snow, IGNORE, snow, IGNORE, PLACES.index("sea")]
    assert before == [none, none, IGNORE, star, IGNORE, star]
    assert rank == [1, 1, IGNORE, 1, IGNORE, 2]


def test_the_head_learns_what_is_there_and_ignores_the_rest() -> None:
    torch.manual_seed(0)
    head, hidden = AuxiliaryHead(), torch.randn(2, 6, WIDTH)
    wanted = torch.from_numpy(np.stack([targets(WORLD, np.stack([token("sea", "moon", "red", "object")] * 6))] * 2))
    optimizer = torch.optim.Adam(head.parameters(), lr=0.05)
    losses = []
    for _ in range(20):
        loss, right = head(hidden, wanted)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] / 4
    assert set(right) == set(SIZES)
    nothing = torch.full_like(wanted, IGNORE)
    silent, found = head(hidden, nothing)
    assert float(silent) == pytest.approx(0)
    assert not found
