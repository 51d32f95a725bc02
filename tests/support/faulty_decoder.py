"""A decoder for child processes that ends as a file's name says; it imports little, so that they start at once."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from evalkit.errors import VideoError

if TYPE_CHECKING:
    from pathlib import Path


def fine_or_not(path: Path) -> None:
    """A decoder that follows the file's name."""
    if "hang" in path.name:
        path.with_name("pipe").open()  # nobody ever writes to it
    if "crash" in path.name:
        os._exit(7)
    if "kill" in path.name:
        os.kill(os.getpid(), 9)
    if "bad" in path.name:
        raise VideoError("not a video")
    if "odd" in path.name:
        raise ZeroDivisionError("of a library")
