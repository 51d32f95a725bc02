"""Lines of answers.jsonl that have been read and checked, kept for who reads the same bytes next.

A run reads its file when it starts, and again for its tables. What has the same content then, byte for byte, which a
hash of all of it tells, is not decoded and checked a second time; anything else is.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any, NamedTuple

from evalkit.runs import parse_answer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from evalkit.types import Answer, KeptOverTime

# In valid JSON these stand between values alone: inside a string their first quotation mark would end it.
OPENS, CLOSES = ', "kept": {', '}, "'
HERE = "what is kept"  # in the place of it


class CheckedLine(NamedTuple):
    """An answer, and which run its line says that it is of."""

    answer: Answer
    run: Mapping[str, Any]  # `identity`, where the line has it, as `parse_answer.expect_run` takes it


_kept: dict[Path, tuple[bytes, Sequence[CheckedLine]]] = {}  # by file, with the hash of its content


class LineReader:
    """Reads lines in turn. What a cache keeps of a video is three quarters of a line, and most lines say the same of it
    as the one before: that is decoded once, and one object for all of them.
    """

    def __init__(self) -> None:
        self._text, self._value = "", dict[str, Any]()  # what `kept` said last
        self._kept: KeptOverTime | None = None  # as which `_value` was read, if it was

    def decode(self, line: str | bytes) -> Any:
        """As json.loads."""
        text = line if isinstance(line, str) else line.decode(json.detect_encoding(line), "surrogatepass")
        before, opened, rest = text.partition(OPENS)
        inside, closed, after = rest.partition(CLOSES)
        if opened and closed and HERE not in text:
            try:
                row = json.loads(f'{before}, "kept": "{HERE}", "{after}')
                value = self._value if inside == self._text else json.loads(f"{{{inside}}}")
            except (ValueError, RecursionError):
                return json.loads(line)  # it is not as evalkit writes it; or its error is that of the whole line
            if isinstance(row, dict) and row.get("kept") == HERE:
                if value is not self._value:
                    self._text, self._value, self._kept = inside, value, None
                return row | {"kept": value}
        return json.loads(line)

    def check(self, row: dict[str, Any], where: str) -> CheckedLine:
        """One line's object; DataError, which names `where`, where it is malformed."""
        run = {"identity": row["identity"]} if "identity" in row else {}
        if self._kept is not None and row.get("kept") is self._value:
            return CheckedLine(parse_answer.read(row | {"kept": None}, where, self._kept), run)
        answer = parse_answer.read(row, where)
        if row.get("kept") is self._value:
            self._kept = answer.kept
        return CheckedLine(answer, run)


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
