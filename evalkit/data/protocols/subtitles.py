"""Video-MME's subtitle files (SRT), and which of their lines each protocol shows."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evalkit.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from evalkit.types import Question

_TIMES = re.compile(r"(\d+):(\d+):(\d+)[,.](\d+)\s*-->\s*(\d+):(\d+):(\d+)[,.](\d+)")
_TAG = re.compile(r"<[^>]*>")
_FONT = re.compile(r'<font color="white" size=".72c">(.*?)</font>')


@dataclass(frozen=True)
class Cue:
    """One subtitle: shown from `start` until before `end`, in seconds."""

    start: float
    end: float
    text: str  # as the file has it, its lines joined by spaces

    @property
    def plain(self) -> str:
        """The text without mark-up."""
        return _TAG.sub("", self.text).strip()

    @property
    def white(self) -> str | None:
        """What the file's white font tag encloses, which is how lmms-eval reads it; None without that tag."""
        match = _FONT.search(self.text)
        return match[1] if match else None


def cues(question: Question) -> list[Cue]:
    """The subtitles of a question's video in file order; none where there is no file. DataError if it is unreadable."""
    return [] if question.subtitle_path is None else _parsed(question.subtitle_path)


def all_lines(found: Sequence[Cue]) -> str:
    """Every subtitle, one a line."""
    return "\n".join(cue.plain for cue in found if cue.plain)


def at(found: Sequence[Cue], seconds: Sequence[float]) -> str:
    """The subtitles on screen at any of the times, each once, in file order, one a line."""
    return all_lines([cue for cue in found if any(cue.start <= second < cue.end for second in seconds)])


def at_spread_frames(found: Sequence[Cue], count: int, frames: int, fps: float) -> str:
    """lmms-eval's choice: those at `count` frames spread over the whole video, whatever the model is shown.

    Their order is that of a Python set of the subtitles' numbers, as in lmms-eval's code: not always that of time.
    """
    import numpy as np

    spans = [(int(cue.start * fps), int(cue.end * fps)) for cue in found]
    spread = np.linspace(0, frames - 1, count, dtype=int).tolist()
    hits = [k for frame in spread for k, (start, end) in enumerate(spans) if start <= frame < end]
    return "\n".join(text for k in list(set(hits)) if (text := found[k].white) is not None)


def _parsed(path: Path) -> list[Cue]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: expected a readable UTF-8 subtitle file: {error}; unpack it again") from error
    found = []
    for block in re.split(r"\n\s*\n", text):
        lines = [line for line in block.split("\n") if line.strip()]
        match = next((m for line in lines[:2] if (m := _TIMES.search(line))), None)
        if match:
            first = next(k for k, line in enumerate(lines) if _TIMES.search(line)) + 1
            found.append(Cue(_seconds(match.groups()[:4]), _seconds(match.groups()[4:]), " ".join(lines[first:])))
    if not found and text.strip():
        raise DataError(f"{path}: expected SRT subtitles (00:00:01,000 --> …), found no time in it; unpack it again")
    return found


def _seconds(parts: Sequence[str]) -> float:
    hours, minutes, seconds, milliseconds = map(int, parts)
    return hours * 3600 + minutes * 60 + seconds + milliseconds / 1000
