"""A tracker: names of runs in a text file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from evalkit.trackers import Tracked


@dataclass(frozen=True)
class TextFile:
    """One line a run."""

    file: Path

    def log(self, run: Tracked) -> str:
        """Append the run's name."""
        with self.file.open("a", encoding="utf-8") as file:
            file.write(f"{run.name}\n")
        return str(self.file)


def connect(file: str) -> TextFile:
    """The settings are those of tracker.text_file."""
    return TextFile(Path(file))
