"""Texts of answers and annotation files on their way into the page: cut, numbered, safe inside a script element."""

from __future__ import annotations

import json
import re
from typing import Any

from markupsafe import Markup

from evalkit.sanitize import clean

LIMIT = 3000  # characters of a prompt or reply that the page holds; subtitles are longer
_HEAD = 1000  # of them from its beginning: questions stand at the end

_FIRST_OPTION = re.compile(r"^\s*\(?A[).]", re.MULTILINE)
_LEAD_IN = re.compile(r"^\s*Options?\s*:?\s*$|^\s*Question\s*:\s*", re.IGNORECASE)


def cut(text: str) -> str:
    """`text`, with a note in its middle for what is left out of a long one."""
    text = clean(text)
    if len(text) <= LIMIT:
        return text
    gone = len(text) - LIMIT
    return f"{text[:_HEAD]}\n[… {gone:,} characters left out …]\n{text[-(LIMIT - _HEAD) :]}"


def title(prompt: str) -> str:
    """The question in one line: what stands in a prompt before its first option, the last line of it."""
    found = _FIRST_OPTION.search(prompt)
    lines = [_LEAD_IN.sub("", line).strip() for line in prompt[: found.start() if found else None].splitlines()]
    line = next((line for line in reversed(lines) if line), "")
    return line if len(line) <= 240 else f"{line[:239]}…"


def embedded(value: Any) -> Markup:
    """`value` as JSON that may stand inside a script element, whatever its texts hold."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)  # noqa: S704 – what could end the element is escaped


class Texts:
    """Every distinct text once; columns hold its number."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def number(self, text: str | None) -> int:
        """The place of `text` in `all`; -1 stands for none."""
        return -1 if text is None else self._numbers.setdefault(cut(text), len(self._numbers))

    @property
    def all(self) -> list[str]:
        """The texts in the order of their numbers."""
        return list(self._numbers)
