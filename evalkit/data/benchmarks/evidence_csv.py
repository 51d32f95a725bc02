"""Evidence spans from a table of your own, such as the key scenes that another project annotated for a benchmark.

A CSV file with a header: `start_s` and `end_s` in seconds from the video's beginning, and `question_id`, `video_id` or
both. A row belongs to its question, or, where it names none, to every question about its video; where it names both,
the question is one about that video. Several rows are several spans. Other columns are not read.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from evalkit.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from evalkit.data.benchmarks.evidence_spans import Spans
    from evalkit.types import Benchmark

TIMES = ("start_s", "end_s")
IDS = ("question_id", "video_id")


@dataclass(frozen=True, kw_only=True)
class EvidenceTable:
    """The spans of a file."""

    file: Path
    by_question: Mapping[str, Spans]
    by_video: Mapping[str, Spans]
    pairs: Mapping[tuple[str, str], int]  # question and video that stand in one row -> its number

    def spans(self, question_id: str, video_id: str) -> Spans:
        """A question's own spans, else those of its video; () where the file names neither."""
        return self.by_question.get(question_id) or self.by_video.get(video_id, ())

    def check(self, questions: Iterable[tuple[str, str]]) -> None:
        """DataError where a row names one of the `questions`, pairs of question and video, beside another video."""
        known: dict[str, set[str]] = {}
        for question, video in questions:
            known.setdefault(question, set()).add(video)
        for (question, video), number in self.pairs.items():
            if question in known and video not in known[question]:
                raise DataError(
                    f"{self.file}, row {number}: expected question {question} beside its video, "
                    f"{' or '.join(sorted(known[question]))}, got {video}; correct the row"
                )

    def nothing_fits(self, example: str) -> DataError:
        """The error for a file that names no question at hand; `example` is an id that it could name."""
        names = [*self.by_question, *self.by_video]
        return DataError(
            f"{self.file}: expected ids of the questions or videos at hand, such as {example!r}, came "
            f"{len(names)} others, such as {names[0]!r}; name the file that belongs to this benchmark"
        )


def read(file: Path) -> EvidenceTable:
    """The table of `file`. DataError for a file or a row that is no such table: its number, expected, got."""
    found: dict[str, dict[str, list[tuple[float, float]]]] = {name: {} for name in IDS}
    pairs: dict[tuple[str, str], int] = {}
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            rows = csv.DictReader(lines, strict=True)
            _check_header(file, rows.fieldnames or ())
            for row in rows:
                number, (name, which) = rows.line_num, _named(file, rows.line_num, row)
                found[name].setdefault(which, []).append(_span(file, number, row))
                if name == "question_id" and (video := (row.get("video_id") or "").strip()):
                    pairs.setdefault((which, video), number)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{file}: expected a readable CSV file in UTF-8: {error}; correct it") from error
    if not any(found.values()):
        raise DataError(f"{file}: expected a row for each evidence span, got none below the header; correct it")
    by_question, by_video = ({key: tuple(spans) for key, spans in found[name].items()} for name in IDS)
    return EvidenceTable(file=file, by_question=by_question, by_video=by_video, pairs=pairs)


def placed(loaded: Sequence[Benchmark], file: Path) -> list[Benchmark]:
    """Question sets with the spans of `file` in the place of their own, where it names a question or its video.

    Notes say how many it names. DataError where it names none of any set, and as `read`.
    """
    table = read(file)
    table.check((question.id, question.video_id) for benchmark in loaded for question in benchmark.questions)
    found = [_one(benchmark, table) for benchmark in loaded]
    if not any(named for _, named in found):
        raise table.nothing_fits(next((q.id for benchmark in loaded for q in benchmark.questions), "none"))
    return [benchmark for benchmark, _ in found]


def _one(benchmark: Benchmark, table: EvidenceTable) -> tuple[Benchmark, int]:
    given = [table.spans(question.id, question.video_id) for question in benchmark.questions]
    named = sum(map(bool, given))
    questions = tuple(
        replace(question, evidence_s=spans or question.evidence_s)
        for question, spans in zip(benchmark.questions, given, strict=True)
    )
    note = f"evidence spans of {named} of {len(questions)} questions from {table.file.name}"
    return replace(benchmark, questions=questions, notes=(*benchmark.notes, note)), named


def _check_header(file: Path, header: Sequence[str]) -> None:
    if not set(TIMES) <= set(header) or not set(IDS) & set(header):
        raise DataError(
            f"{file}, row 1: expected a header with {', '.join(TIMES)} and {' or '.join(IDS)}, got "
            f"{', '.join(header) or 'nothing'}; correct it"
        )


def _named(file: Path, number: int, row: Mapping[str | None, Any]) -> tuple[str, str]:
    """Which column names the row's question or video, and what it says."""
    if None in row:  # where csv.DictReader puts cells that no column has
        raise DataError(f"{file}, row {number}: expected a cell for each column, got more; correct the row")
    for name in IDS:
        if which := (row.get(name) or "").strip():
            return name, which
    raise DataError(f"{file}, row {number}: expected {' or '.join(IDS)}, got neither; correct the row")


def _span(file: Path, number: int, row: Mapping[str | None, Any]) -> tuple[float, float]:
    start, end = (_second(row.get(name)) for name in TIMES)
    if start is None or end is None or not 0 <= start <= end:
        raise DataError(
            f"{file}, row {number}: expected seconds with 0 <= start_s <= end_s, such as 12.5 and 18, got "
            f"{row.get('start_s')!r} and {row.get('end_s')!r}; correct the row"
        )
    return start, end


def _second(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None
