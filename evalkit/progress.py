"""A progress bar with the time left: redrawn on a terminal, a line every half minute in a log."""

from __future__ import annotations

import sys
from typing import Any, TextIO

from tqdm import tqdm

LOG_SECONDS = 30.0


class Lines:
    """A stream on which every redrawing of the bar is a line of its own."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        """Write the bar's text without the carriage returns that redraw it."""
        line = text.strip("\r\n ")
        return self.stream.write(line + "\n") if line else 0

    def flush(self) -> None:
        """Pass on."""
        self.stream.flush()


def progress(total: int, unit: str) -> tqdm[Any]:
    """A bar on stderr for `total` units of work; none where there is nothing to do.

    The time left is that of the mean so far, as work comes in lots: all answers about a video, from several workers.
    """
    options: dict[str, Any] = {"total": total, "unit": unit, "disable": not total, "smoothing": 0}
    if sys.stderr.isatty():
        return tqdm(**options)
    lines: Any = Lines(sys.stderr)
    return tqdm(**options, file=lines, mininterval=LOG_SECONDS, maxinterval=LOG_SECONDS, ascii=True, ncols=100)
