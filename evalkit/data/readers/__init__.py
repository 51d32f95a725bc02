"""The three video readers, by name.

A reader takes a file's timeline and ascending frame numbers and yields (frame number, pixels (height, width, 3) uint8
RGB, upright, at full size). It yields only frames of which it is sure; what it leaves out is read again, see
`evalkit.data.video.decode`. All readers give the same pixels, bit for bit.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from evalkit.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    import numpy as np

    from evalkit.data.readers.timeline import Timeline

    Reader = Callable[[Timeline, Sequence[int]], Generator[tuple[int, np.ndarray]]]

NAMES = ("pyav", "torchcodec", "decord")


def reader_named(name: str) -> Reader:
    """The reader called `name`; its library is imported here and nowhere earlier. ConfigError for any other name."""
    if name not in NAMES:
        raise ConfigError(f"unknown video reader: expected one of {', '.join(NAMES)}, got {name!r}; set reader=pyav")
    reader: Reader = import_module(f"evalkit.data.readers.{name}").read
    return reader
