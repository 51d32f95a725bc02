"""Video readers by name.

A reader takes a file's timeline and ascending frame numbers and yields (frame number, pixels (height, width, 3) uint8
RGB, upright, at full size). It yields only frames of which it is sure; what it leaves out is read again, see
`evalkit.data.video.decode`. All readers give the same pixels, bit for bit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from evalkit.plugins import Registry

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    import numpy as np

    from evalkit.data.readers.timeline import Timeline

    Reader = Callable[[Timeline, Sequence[int]], Generator[tuple[int, np.ndarray]]]

REGISTRY: Registry[Reader] = Registry(
    "readers",
    {name: f"evalkit.data.readers.{name}:read" for name in ("pyav", "torchcodec", "decord")},
    check=callable,
    expected="a function of a timeline and frame numbers",
    remedy="install its package, or set reader=pyav",
)


def reader_named(name: str) -> Reader:
    """The reader called `name`; its library is imported here and nowhere earlier. ConfigError for any other name."""
    return REGISTRY[name]
