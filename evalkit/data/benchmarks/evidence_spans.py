"""The spans of a video that hold the answer to a question, where they are known."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from evalkit.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

    from evalkit.types import Question

FILE = "evidence.json"  # {question id: [[from, to], …]} in seconds, beside the annotations
_CLOCK = re.compile(r"(\d+):(\d\d)-(\d+):(\d\d)")  # LVBench's time_reference: minutes and seconds

QUARTERS = ("1st quarter", "2nd quarter", "3rd quarter", "4th quarter")

Spans = tuple[tuple[float, float], ...]


def placed(questions: Sequence[Question], root: Path) -> tuple[Question, ...]:
    """The questions with their spans: from `root`/evidence.json where it names them, else from their own rows.

    A time in a row that cannot be read, or ends before it begins, counts as not known (LVBench has "None"). Raises
    DataError for a malformed file.
    """
    known = _read(root / FILE)
    return tuple(replace(q, evidence_s=known.get(q.id) or clock(q.row.get("time_reference"))) for q in questions)


def group(spans: Spans, duration_s: float) -> dict[str, tuple[str, ...]]:
    """Which quarter of a video of so many seconds holds the answer, as a group of questions; {} where not known."""
    ends = [moment for span in spans for moment in span]
    if not ends:
        return {}
    first, last = (min(3, int(4 * moment / duration_s)) for moment in (min(ends), max(ends)))
    return {"evidence": (QUARTERS[first] if first == last else "several quarters",)}


def clock(text: Any) -> Spans:
    """ "01:30-02:05" -> ((90, 125),); anything else, and what ends before it begins -> ()."""
    found = _CLOCK.fullmatch(text.strip()) if isinstance(text, str) else None
    if found is None:
        return ()
    a, b, c, d = map(int, found.groups())
    start, end = 60.0 * a + b, 60.0 * c + d
    return ((start, end),) if start <= end else ()


def _read(file: Path) -> dict[str, Spans]:
    if not file.is_file():
        return {}
    try:
        table = json.loads(file.read_text(encoding="utf-8"))
        return {key: tuple(_span(*span) for span in spans) for key, spans in table.items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise DataError(
            f"{file}: expected an object of question ids with spans [from, to] in seconds, 0 <= from <= to, but {error}"
            "; correct it"
        ) from error


def _span(start: float, end: float) -> tuple[float, float]:
    if not 0 <= start <= end < math.inf:
        raise ValueError(f"came {[start, end]}")
    return float(start), float(end)
