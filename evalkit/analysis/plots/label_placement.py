"""Where labels stand: beside a point of their own line, touching nothing, and only if all of them find room."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.path import Path
from matplotlib.transforms import Bbox

Place = tuple[float, float]  # in points of the page
Line = Sequence[Place]

MARKER = 2.9  # half of a marker's width with its edge
_GAP = 2.2  # between a marker or bar and its label
_AIR = 1.0  # around a label
_ALONE = 4.5  # a label has no other method's marker or bar so near ...
_COLUMN = 8.0  # ... and does not stand above or below a bar that has another one so near
_DIRECTIONS = ((1, 0), (-1, 0), (1, 1), (-1, 1), (1, -1), (-1, -1), (0, 1), (0, -1))


@dataclass(frozen=True)
class Spot:
    """A point with its bar."""

    x: float
    low: float
    y: float
    high: float


@dataclass(frozen=True)
class Wanted:
    """A label to be placed: beside one of the method's points, or along its level line."""

    width: float
    height: float
    spots: tuple[Spot, ...] = ()  # by ratio
    level: tuple[float, float, float] | None = None  # height, left and right end

    @property
    def lines(self) -> list[Line]:
        """The method's line and bars."""
        bars = [[(spot.x, spot.low), (spot.x, spot.high)] for spot in self.spots]
        return [[(spot.x, spot.y) for spot in self.spots], *bars] if self.spots else []


def place(wanted: Sequence[Wanted], frame: Bbox, lines: Sequence[Line]) -> list[Place] | None:
    """The centre of every label, inside `frame`, clear of each other's lines and of `lines`; None: no room for all."""
    # One path each: matplotlib's test takes the way from one stroke to the next for a stroke, too.
    strokes = [Path(line) for line in (*lines, *(line for label in wanted for line in label.lines))]
    options = []
    for label in wanted:
        others = [spot for other in wanted if other is not label for spot in other.spots]
        near = [box.padded(_ALONE) for spot in others for box in _taken(spot)]
        taken = [*near, *(_taken(spot)[0] for spot in label.spots)]
        options.append([box for box in _candidates(label, others) if _free(box, frame, strokes, taken)])
    found = _choose(options)
    return None if found is None else [((box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2) for box in found]


def _choose(options: Sequence[Sequence[Bbox]]) -> list[Bbox] | None:
    """One of each so that no two overlap: the label with the fewest places left takes its first. None: one has none."""
    left = dict(enumerate(map(list, options)))
    taken: dict[int, Bbox] = {}
    while left:
        label = min(left, key=lambda i: len(left[i]))
        boxes = left.pop(label)
        if not boxes:
            return None
        taken[label] = boxes[0]
        left = {i: [box for box in others if not box.overlaps(boxes[0])] for i, others in left.items()}
    return [taken[i] for i in range(len(options))]


def _candidates(label: Wanted, others: Sequence[Spot]) -> Iterator[Bbox]:
    width, height = label.width / 2 + _AIR, label.height / 2
    if label.level is not None:
        y, left, right = label.level
        for x in np.linspace(right - width, left + width, 5):
            yield from (_box(float(x), y + side * (height + _AIR), width, height) for side in (1, -1))
        return
    first, *inner, last = *label.spots, label.spots[-1]
    for spot in dict.fromkeys((first, last, *inner)):  # the ends of the line first
        crowded = any(abs(other.x - spot.x) < _COLUMN for other in others)
        for right, up in _DIRECTIONS:
            if right or not crowded:
                yield _beside(spot, right, up, width, height)


def _beside(spot: Spot, right: int, up: int, width: float, height: float) -> Bbox:
    """Left, right and at the corners of the marker; above and below its bar."""
    if not right:
        end = max(spot.y + MARKER, spot.high) if up > 0 else min(spot.y - MARKER, spot.low)
        return _box(spot.x, end + up * (_GAP + height), width, height)
    away = (MARKER + _GAP) * (0.6 if up else 1)  # corners of a marker are rarely filled
    return _box(spot.x + right * (away + width), spot.y + up * (away + height), width, height)


def _box(x: float, y: float, width: float, height: float) -> Bbox:
    return Bbox.from_extents(x - width, y - height, x + width, y + height)


def _taken(spot: Spot) -> tuple[Bbox, Bbox]:
    """What marker and bar cover."""
    return _box(spot.x, spot.y, MARKER, MARKER), Bbox.from_extents(spot.x - 0.1, spot.low, spot.x + 0.1, spot.high)


def _free(box: Bbox, frame: Bbox, strokes: Sequence[Path], taken: Sequence[Bbox]) -> bool:
    if not (frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1):
        return False
    return not any(box.overlaps(other) for other in taken) and not any(
        stroke.intersects_bbox(box, filled=False) for stroke in strokes
    )
