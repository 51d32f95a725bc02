"""Frame scores on their way to a file: kept question by question, so that an interrupted command goes on.

`FILE.part.jsonl` holds what has been scored and with which settings; FILE itself is what `benchmark.frame_scores`
reads.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evalkit import atomic_write
from evalkit.errors import DataError


class FrameScoresFile:
    """Scores of questions' frames, below a line that says how they are made."""

    def __init__(self, out: Path, made_with: Mapping[str, Any]) -> None:
        """Goes on with what an earlier call has left. DataError where that had other settings, or FILE is whole."""
        self.out, self.part = out, out.with_name(f"{out.name}.part.jsonl")
        self.scored: dict[str, dict[str, Any]] = {}
        if self.part.exists():
            self._read(dict(made_with))
        elif out.exists():
            raise DataError(f"{out}: it is there already and complete; name another file by --out, or delete it")
        else:
            self._append({"made_with": dict(made_with)})

    def _read(self, made_with: dict[str, Any]) -> None:
        whole, lines = [], self.part.read_text(encoding="utf-8").splitlines()
        for line in lines:
            try:
                whole.append(json.loads(line))
            except ValueError:  # what was being written when the command was interrupted
                break
        begun = whole[0].get("made_with") if whole and isinstance(whole[0], dict) else None
        if begun != made_with:
            other = [name for name, value in made_with.items() if (begun or {}).get(name) != value]
            raise DataError(
                f"{self.part}: it was begun with another {' and '.join(other) or 'setting'}; repeat those settings, "
                "name another file by --out, or delete it"
            )
        if len(whole) < len(lines):
            atomic_write.replace(self.part, "".join(json.dumps(each) + "\n" for each in whole))
        for each in whole[1:]:
            self.scored[each["id"]] = {"frames": each["frames"], "scores": each["scores"]}

    def add(self, question: str, frames: Sequence[int], scores: Sequence[float]) -> None:
        """One question's frame numbers and their scores."""
        found = {"frames": list(frames), "scores": list(scores)}
        self._append({"id": question, **found})
        self.scored[question] = found

    def _append(self, line: dict[str, Any]) -> None:
        self.part.parent.mkdir(parents=True, exist_ok=True)
        with self.part.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")

    def finish(self, *, complete: bool) -> Path:
        """Write FILE with all that has been scored; where that is everything, the part goes."""
        atomic_write.replace(self.out, json.dumps(self.scored) + "\n")
        if complete:
            self.part.unlink()
        return self.out
