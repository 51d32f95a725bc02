"""One HTML page with everything that a results folder says; it needs no network and no other file."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from evalkit.evidence.accuracy import Averages, official
from evalkit.evidence.report.document import document

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from evalkit.evidence.answers import Run

__all__ = ["THUMBNAILS_MB", "write"]

THUMBNAILS_MB = 8.0


def write(
    runs: Sequence[Run], folder: Path, *, thumbnails_mb: float = THUMBNAILS_MB, averages: Averages = official
) -> Path:
    """Write report.html into `folder`, replaced whole; thumbnails take up to `thumbnails_mb` of it, 0 for none.

    The same answers and videos give the same bytes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "report.html"
    fresh = path.with_name(f".{path.name}.{os.getpid()}")  # a reader sees the old page or the new one
    fresh.write_text(document(runs, thumbnails_mb=thumbnails_mb, averages=averages), encoding="utf-8", newline="\n")
    return fresh.replace(path)
