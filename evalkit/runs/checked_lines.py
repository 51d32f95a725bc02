"""Lines of answers.jsonl that have been read and checked, kept for who reads the same bytes next.

A run reads its file when it starts, and again for its tables. What has the same content then, byte for byte, which a
hash of all of it tells, is not decoded and checked a second time; anything else is.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, NamedTuple

from evalkit.runs import parse_answer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from evalkit.types import Answer


class CheckedLine(NamedTuple):
    """An answer, and which run its line says that it is of."""

    answer: Answer
    run: Mapping[str, Any]  # `identity`, where the line has it, as `parse_answer.expect_run` takes it


_kept: dict[Path, tuple[bytes, Sequence[CheckedLine]]] = {}  # by file, with the hash of its content


def check(row: dict[str, Any], where: str) -> CheckedLine:
    """One line's object; DataError, which names `where`, where it is malformed."""
    run = {"identity": row["identity"]} if "identity" in row else {}
    return CheckedLine(parse_answer.read(row, where), run)


def keep(file: Path, content: bytes, lines: Sequence[CheckedLine]) -> None:
    """All lines of a file whose content has the SHA-256 `content`."""
    _kept[file] = content, lines


def take(file: Path, data: bytes) -> Sequence[CheckedLine] | None:
    """The lines that are kept of a file, once; None where they are not those of its content, `data`."""
    content, lines = _kept.pop(file, (b"", ()))
    return lines if content == hashlib.sha256(data).digest() else None


def forget() -> None:
    """Give the memory back."""
    _kept.clear()
