"""Scores that others published, from a CSV file such as docs/published_scores.csv.

Its header is `COLUMNS`. method, backbone and benchmark are names of this project, score and tolerance are in percent
and percentage points, source says where the score stands. The other columns are empty where the source does not say:
group (`duration=long`: of these questions alone), ratio, frames, protocol, questions, note.
"""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evalkit.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

NEEDED = ("method", "backbone", "benchmark", "score", "tolerance", "source")
SETTINGS = ("ratio", "frames", "protocol", "questions")  # that a run says, too
COLUMNS = (*NEEDED[:3], "group", *SETTINGS, *NEEDED[3:], "note")


@dataclass(frozen=True, kw_only=True)
class PublishedScore:
    """One score as published; None and "" where its source does not say."""

    method: str
    backbone: str
    benchmark: str
    group: tuple[str, str] | None  # kind and label of the questions, e.g. ("duration", "long"); None: all
    ratio: float | None  # in (0, 1]
    frames: int | None
    protocol: str | None
    questions: int | None  # that were scored
    score: float  # percent
    tolerance: float  # percentage points
    source: str
    note: str


def read(file: Path) -> tuple[PublishedScore, ...]:
    """The rows of `file`. DataError for a file or a row that is no such table: its number, expected, got."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            rows = csv.DictReader(lines, strict=True)
            _check_header(file, rows.fieldnames or ())
            found = tuple(_row(f"{file}, line {rows.line_num}", row) for row in rows)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{file}: expected a readable CSV file in UTF-8: {error}; correct it") from error
    if not found:
        raise DataError(f"{file}: expected a row for each published score, got none below the header; correct it")
    return found


def _check_header(file: Path, header: Sequence[str]) -> None:
    if set(header) != set(COLUMNS):
        got = ", ".join(header) or "nothing"
        raise DataError(f"{file}, line 1: expected the columns {', '.join(COLUMNS)}, got {got}; correct it")


def _row(where: str, row: Mapping[str | None, str | list[str] | None]) -> PublishedScore:
    cells = {key: value.strip() for key, value in row.items() if key is not None and isinstance(value, str)}
    if None in row or len(cells) < len(COLUMNS):
        raise DataError(f"{where}: expected {len(COLUMNS)} cells, got another number; quote texts that hold a comma")
    if empty := [name for name in NEEDED if not cells[name]]:
        raise DataError(f"{where}: expected {', '.join(NEEDED)}, got nothing for {', '.join(empty)}; correct the row")
    return PublishedScore(
        method=cells["method"],
        backbone=cells["backbone"],
        benchmark=cells["benchmark"],
        group=_group(where, cells["group"]),
        ratio=_within(where, cells, "ratio", 1) if cells["ratio"] else None,
        frames=_count(where, cells, "frames"),
        protocol=cells["protocol"] or None,
        questions=_count(where, cells, "questions"),
        score=_within(where, cells, "score", 100, zero=True),
        tolerance=_within(where, cells, "tolerance", 100, zero=True),
        source=cells["source"],
        note=cells["note"],
    )


def _group(where: str, text: str) -> tuple[str, str] | None:
    kind, equals, label = text.partition("=")
    if text and not (kind and equals and label):
        raise DataError(f"{where}: expected group as KIND=LABEL, such as duration=long, got {text!r}; correct the row")
    return (kind, label) if text else None


def _within(where: str, cells: Mapping[str, str], name: str, most: float, *, zero: bool = False) -> float:
    try:
        value = float(cells[name])
    except ValueError:
        value = math.nan
    if not (0 <= value <= most if zero else 0 < value <= most):
        opening = "[" if zero else "("
        raise DataError(f"{where}: expected {name} in {opening}0, {most:g}], got {cells[name]!r}; correct the row")
    return value


def _count(where: str, cells: Mapping[str, str], name: str) -> int | None:
    text = cells[name]
    if text and not (text.isascii() and text.isdigit() and int(text)):
        raise DataError(f"{where}: expected a whole number of {name}, got {text!r}; correct the row")
    return int(text) if text else None
