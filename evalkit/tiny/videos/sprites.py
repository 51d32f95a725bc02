"""Outlines of the objects and the sign, drawn from formulas so that no font or image file is needed."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np

FINE = 4  # sub-pixels per side, for smooth edges
RGB = {
    "red": (215, 35, 35),
    "green": (40, 190, 60),
    "blue": (40, 70, 225),
    "yellow": (245, 215, 40),
    "white": (250, 250, 250),
    "purple": (165, 50, 200),
}
# rows of a 5×7 dot matrix, one bit a dot
DOTS = {
    "2": (14, 17, 1, 6, 8, 16, 31),
    "3": (30, 1, 1, 14, 1, 1, 30),
    "4": (2, 6, 10, 18, 31, 2, 2),
    "5": (31, 16, 30, 1, 1, 17, 14),
    "6": (6, 8, 16, 30, 17, 17, 14),
    "7": (31, 1, 2, 4, 8, 8, 8),
    "8": (14, 17, 17, 14, 17, 17, 14),
    "9": (14, 17, 17, 15, 1, 2, 12),
}
Outline = Callable[[np.ndarray, np.ndarray], np.ndarray]


def _star(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Five spikes: inside of five half-planes' majority."""
    angles = np.pi / 2 + 2 * np.pi / 5 * np.arange(5)
    sides = sum((x * np.cos(a) + (0.1 + y) * np.sin(a) < 0.36).astype(int) for a in angles)
    return np.asarray(sides >= 4)


SHAPES: dict[str, Outline] = {
    "circle": lambda x, y: x**2 + y**2 < 0.85,
    "square": lambda x, y: np.maximum(abs(x), abs(y)) < 0.8,
    "triangle": lambda x, y: (y < 0.8) & (y > -0.9 + 1.8 * abs(x)),
    "star": _star,
    "cross": lambda x, y: np.minimum(abs(x), abs(y)) + 0.7 * (np.maximum(abs(x), abs(y)) > 0.93) < 0.3,
    "ring": lambda x, y: (x**2 + y**2 < 0.9) & (x**2 + y**2 > 0.24),
    "heart": lambda x, y: (x**2 * 1.5 + (0.15 - 1.2 * y) ** 2 - 0.72) ** 3 < 2.0 * x**2 * (0.15 - 1.2 * y) ** 3,
    "moon": lambda x, y: (x**2 + y**2 < 0.9) & ((x - 0.45) ** 2 + (y + 0.1) ** 2 > 0.5),
}


@lru_cache(maxsize=4096)
def sprite(thing: str, color: str, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Colours (size, size, 3) and opacity (size, size, 1), float32; a dark rim sets it off from any place."""
    if not color:
        return _sign(thing, size)
    line = (np.arange(size * FINE) + 0.5) / (size * FINE) * 2 - 1
    inside = SHAPES[thing](line[None] * 1.05, line[:, None] * 1.05)
    rim = _grown(inside, max(1, round(size * FINE * 0.05)))
    opacity, fill = _shrunk(rim), _shrunk(inside)
    return (fill / np.maximum(opacity, 1e-6)) * np.array(RGB[color], np.float32), opacity


def _sign(digit: str, size: int) -> tuple[np.ndarray, np.ndarray]:
    """A white plate with a black digit."""
    dots = np.array([[row >> (4 - i) & 1 for i in range(5)] for row in DOTS[digit]])
    plate = np.zeros((11, 9))
    plate[1:-1, 1:-1] = 1
    plate[2:-2, 2:-2] -= dots
    fine = size * FINE
    rows, columns = np.arange(fine) * 11 // fine, np.arange(fine) * 9 // fine
    return _shrunk(plate[rows][:, columns]) * np.float32(250), np.ones((size, size, 1), np.float32)


def _grown(inside: np.ndarray, by: int) -> np.ndarray:
    padded = np.pad(inside, by)
    out = np.zeros_like(inside)
    for dy in range(-by, by + 1):
        for dx in range(-by, by + 1):
            if dx * dx + dy * dy <= by * by:
                out |= padded[by + dy : by + dy + len(out), by + dx : by + dx + len(out)]
    return out


def _shrunk(fine: np.ndarray) -> np.ndarray:
    size = len(fine) // FINE
    small: np.ndarray = fine.reshape(size, FINE, size, FINE).mean((1, 3), dtype=np.float32)[..., None]
    return small
