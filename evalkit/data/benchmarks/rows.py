"""From the rows of annotation files to questions, with the bad rows kept apart."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from evalkit.data.benchmarks.files import RowError
from evalkit.errors import DataError
from evalkit.types import BadRow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from evalkit.types import Question


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row as read, and where it stands."""

    file: Path
    number: int  # from 0, inside its file
    data: Any = field(repr=False)  # an object; anything else is a bad row
    place: str = ""  # where a person finds it, if not by its number

    @property
    def default_id(self) -> str:
        """`<file stem>:<row>`, for rows that bring no id of their own."""
        return f"{self.file.stem}:{self.number}"

    @property
    def where(self) -> str:
        """File and row, for messages."""
        return f"{self.file}, {self.place or f'row {self.number} (counted from 0)'}"


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """What a format's reader hands back."""

    split: str
    questions: tuple[Question, ...]
    bad_rows: tuple[BadRow, ...]
    notes: tuple[str, ...] = ()


def rows_of(file: Path, values: Iterable[Any]) -> list[Row]:
    """The values of a file as numbered rows."""
    return [Row(file=file, number=number, data=value) for number, value in enumerate(values)]


def collect(
    benchmark: str, rows: Iterable[Row], identify: Callable[[Row], str], build: Callable[[Row, str], Question]
) -> tuple[tuple[Question, ...], tuple[BadRow, ...]]:
    """Questions and bad rows in file order; `identify` gives a row's id, `build` its question; both raise RowError."""
    questions: list[Question] = []
    bad: list[BadRow] = []
    seen: set[str] = set()
    files: dict[str, Path] = {}  # of each video id
    for row in rows:
        name = row.default_id
        try:
            name = _fresh(identify(_checked(row)), seen)
            question = build(row, name)
            _expect_one_file(question, files)
            questions.append(question)
        except RowError as error:
            name = _unused(name, seen)
            bad.append(BadRow(benchmark=benchmark, id=name, message=f"{row.where}: {error}"))
        seen.add(name)
    return tuple(questions), tuple(bad)


def _checked(row: Row) -> Row:
    if isinstance(row.data, DataError):
        raise RowError(str(row.data))
    if not isinstance(row.data, dict):
        raise RowError(
            f"expected an object with named fields, got a {type(row.data).__name__}; download the file again"
        )
    return row


def _fresh(name: str, seen: set[str]) -> str:
    if name in seen:
        raise RowError(f"expected an id that no earlier row has, got {name!r} again; remove one of the two rows")
    return name


def _expect_one_file(question: Question, files: dict[str, Path]) -> None:
    """All questions about a video are asked about one file."""
    first = files.setdefault(question.video_id, question.video_path)
    if first != question.video_path:
        raise RowError(
            f"expected one file for the video {question.video_id!r}, an earlier row names {first.name}, this one "
            f"{question.video_path.name}; correct one of the two"
        )


def _unused(name: str, seen: set[str]) -> str:
    """Bad rows are recorded under an id too; it must not be taken for a good row's."""
    while name in seen:
        name += "+"
    return name
