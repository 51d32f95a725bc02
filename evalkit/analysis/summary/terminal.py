"""What a stream can show: its size, its characters and colours."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import TextIO

_LOG = (100, 30)  # columns and rows where the stream is a file or a pipe
_WIDEST = 120  # columns: longer lines are hard to read
_DRAWN = "●■▲◆▼×│─┤┬⡇Δ≈"  # what a summary is drawn with
# In the order of writing: what a summary and the labels of benchmarks have beyond ASCII.
_PLAIN = str.maketrans(
    {"Δ": "delta", "≈": "~", "±": "+-", "–": "-", "−": "-", "…": "...", "·": "-", "×": "x", "\N{NO-BREAK SPACE}": " "}
)


@dataclass(frozen=True, kw_only=True)
class Terminal:
    """Where a summary is shown."""

    columns: int
    rows: int
    unicode: bool = True
    colour: bool = False

    @classmethod
    def of(cls, stream: TextIO) -> Terminal:
        """The stream's own size where it is a terminal; colours there alone, unless NO_COLOR or a dumb TERM forbid."""
        shown = stream.isatty()
        columns, rows = shutil.get_terminal_size(_LOG) if shown else _LOG
        forbidden = bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"
        return cls(
            columns=min(columns, _WIDEST),
            rows=rows,
            unicode=_carries(stream.encoding),
            colour=shown and not forbidden,
        )

    def text(self, text: str) -> str:
        """The text in characters that the terminal has; a question mark for what has no place in ASCII."""
        return text if self.unicode else text.translate(_PLAIN).encode("ascii", "replace").decode()


def _carries(encoding: str | None) -> bool:
    try:
        _DRAWN.encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
