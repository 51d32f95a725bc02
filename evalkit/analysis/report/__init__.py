"""One HTML page with all tables, plots and answers of a results folder; it needs no network and no other file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evalkit.analysis.report.document import document
from evalkit.atomic_write import replace

if TYPE_CHECKING:
    from pathlib import Path

    from evalkit.analysis.results import Results

__all__ = ["THUMBNAILS_MB", "write"]

THUMBNAILS_MB = 8.0


def write(results: Results, folder: Path, *, thumbnails_mb: float = THUMBNAILS_MB) -> Path:
    """Write report.html into `folder`, replaced at once; thumbnails take up to `thumbnails_mb` of it, 0 for none.

    The same answers and videos give the same bytes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    return replace(folder / "report.html", document(results, thumbnails_mb=thumbnails_mb))
