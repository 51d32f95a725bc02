"""One HTML page with everything that a results folder says; it needs no network and no other file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evalkit.analysis.report.document import document
from evalkit.analysis.tables.accuracy import Averages, official
from evalkit.runs.atomic_write import replace

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from evalkit.runs.load import Run

__all__ = ["THUMBNAILS_MB", "write"]

THUMBNAILS_MB = 8.0


def write(
    runs: Sequence[Run], folder: Path, *, thumbnails_mb: float = THUMBNAILS_MB, averages: Averages = official
) -> Path:
    """Write report.html into `folder`, replaced whole; thumbnails take up to `thumbnails_mb` of it, 0 for none.

    The same answers and videos give the same bytes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    return replace(folder / "report.html", document(runs, thumbnails_mb=thumbnails_mb, averages=averages))
