"""Frames of a world: a place under a drifting camera and changing light, events on top, sensor noise over all."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from evalkit.tiny.videos.sprites import sprite
from evalkit.tiny.videos.world import Event, World

MARGIN = 0.25  # of a frame: how far the camera can drift
NOISE = 2.0  # standard deviation of the sensor, in 8-bit steps
NOISE_FRAMES = 8
Color = tuple[int, int, int]
Texture = Callable[[np.ndarray, np.ndarray, np.random.Generator], np.ndarray]


def _rgb(color: Color) -> np.ndarray:
    return np.array(color, np.float32)


def _mix(low: Color, high: Color, share: np.ndarray) -> np.ndarray:
    out: np.ndarray = _rgb(low) + share[..., None].astype(np.float32) * (_rgb(high) - _rgb(low))
    return out


def _spots(x: np.ndarray, y: np.ndarray, rng: np.random.Generator, count: int, radius: float) -> np.ndarray:
    out = np.zeros_like(x, dtype=bool)
    for cx, cy in rng.random((count, 2)):
        out |= (x - cx) ** 2 + (y - cy) ** 2 < radius**2
    return out


def _beach(x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    shore = 0.75 + 0.02 * np.sin(x * rng.uniform(10, 20) + rng.uniform(0, 6))
    return np.where(
        (y > shore)[..., None], _mix((225, 200, 140), (240, 220, 165), y), _mix((110, 180, 215), (150, 210, 225), y)
    )


def _forest(x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    trunks = np.sin(x * rng.uniform(55, 75) + rng.uniform(0, 6)) > 0.55
    return np.where(trunks[..., None], _rgb((70, 48, 30)), _mix((24, 70, 34), (38, 92, 44), y))


def _desert(x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    dunes = 0.5 + 0.5 * np.sin(y * rng.uniform(22, 30) + 2.0 * np.sin(x * rng.uniform(4, 8) + rng.uniform(0, 6)))
    return _mix((190, 120, 60), (215, 150, 85), dunes)


def _city(x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    windows = ((x * rng.uniform(18, 24)) % 1 > 0.5) & ((y * rng.uniform(18, 24)) % 1 > 0.5)
    return np.where(windows[..., None], _rgb((150, 150, 120)), _rgb((95, 95, 105)))


def _snow(x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.where(
        _spots(x, y, rng, 30, 0.04)[..., None], _rgb((205, 215, 230)), _mix((228, 232, 238), (238, 240, 244), y)
    )


def _sea(x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    waves = np.sin(y * rng.uniform(70, 90) + 1.5 * np.sin(x * rng.uniform(10, 16) + rng.uniform(0, 6)))
    return _mix((20, 70, 120), (45, 110, 155), 0.5 + 0.5 * waves)


def _meadow(x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    ground = _mix((110, 165, 70), (130, 185, 80), 0.5 + 0.5 * np.sin(x * 40) * np.sin(y * 37))
    return np.where(_spots(x, y, rng, 50, 0.012)[..., None], _rgb((235, 190, 205)), ground)


def _night(x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.where(_spots(x, y, rng, 60, 0.008)[..., None], _rgb((190, 190, 200)), _mix((10, 10, 28), (22, 20, 45), y))


TEXTURES: dict[str, Texture] = {
    "beach": _beach,
    "forest": _forest,
    "desert": _desert,
    "city": _city,
    "snow": _snow,
    "sea": _sea,
    "meadow": _meadow,
    "night": _night,
}


class Painter:
    """Draws frames of one world at `size` × `size` pixels."""

    def __init__(self, world: World, size: int) -> None:
        self.world, self.size = world, size
        rng = np.random.default_rng((world.seed, 1))
        wide = size + 2 * round(size * MARGIN)
        line = np.arange(wide) / size
        x, y = np.meshgrid(line, line)
        self._places = {s.place: TEXTURES[s.place](x, y, rng) for s in world.scenes}
        self._phase = rng.uniform(0, 2 * np.pi, 3)
        self._speed = rng.uniform(3, 9, 3)  # radians per video: slow
        gray = rng.normal(0, NOISE, (NOISE_FRAMES, size + 16, size + 16, 1)).astype(np.float32)
        self._noise = np.repeat(gray, 3, axis=-1)  # added to the three colors, faster than by broadcasting

    def frame(self, u: float, number: int) -> np.ndarray:
        """The frame at moment `u` (share of the video), (size, size, 3) uint8; `number` varies the noise."""
        sway = np.sin(self._phase + self._speed * u)
        top, left = (round(self.size * MARGIN * (1 + s)) for s in sway[:2])
        place = self._places[self.world.scene_at(u).place]
        image = place[top : top + self.size, left : left + self.size] * np.float32(1 + 0.08 * sway[2])
        for event in self.world.events:
            if event.start <= u < event.end:
                self._put(image, event, u)
        shift = number * 7 % 16, number * 11 % 16
        noise = self._noise[number % NOISE_FRAMES, shift[0] :, shift[1] :][: self.size, : self.size]
        image += noise
        np.clip(image, 0, 255, out=image)
        return image.astype(np.uint8)

    def _put(self, image: np.ndarray, event: Event, u: float) -> None:
        size = round(event.size * self.size)
        colors, opacity = sprite(event.thing, event.color, size)
        left, top = (round(c * self.size - size / 2) for c in event.at(u))
        part = image[top : top + size, left : left + size]
        part += opacity * (colors - part)
