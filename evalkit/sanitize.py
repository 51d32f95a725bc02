"""Texts of strangers (question texts, replies, ids, names, labels) on their way to a terminal, page or table.

Nothing in them may act where they are shown: no control or direction characters, no HTML or link in Markdown, no
formula in a spreadsheet.
"""

from __future__ import annotations

import logging
import re

# No HTML, not even UTF-8, or turning the direction of everything that follows in a line
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069]")
_CARRIAGE_RETURN = re.compile(r"\r(?!\n)")  # takes a terminal back to the start of the line, to write over it
# What CommonMark and GitHub read as a tag, an autolink, a link or image, a link's definition, a bare address. Behind an
# odd number of backslashes it is escaped already, so that what went through once is left as it is.
_UNESCAPED = r"(?<!\\)((?:\\\\)*)"
_ACTIVE = re.compile(
    _UNESCAPED + r"(<(?=[A-Za-z/!?])|(?<=\])[(\[:]|(?<=:)/(?=/)|(?<=www)\.|(?<=[\w.+-])@(?=[\w-]+\.))", re.IGNORECASE
)
_BAR = re.compile(_UNESCAPED + r"\|")
_FORMULA = re.compile("[=+\\-@\t\r\uff1d\uff0b\uff0d\uff20]")  # what begins a formula in a spreadsheet; also full-width
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)


def clean(text: str) -> str:
    """`text` with a replacement character for all that HTML or UTF-8 cannot carry, or that would turn the page."""
    return _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", text)


def printable(text: str) -> str:
    """`text` for a terminal or a log, where a lone carriage return would let it write over its line."""
    return _CARRIAGE_RETURN.sub("\N{REPLACEMENT CHARACTER}", clean(text))


def one_line(text: str) -> str:
    """`text` without line ends and repeated white space."""
    return printable(" ".join(text.split()))


def markdown(document: str) -> str:
    """A whole Markdown document in which no text is HTML or a link; ours have neither. Twice is as once."""
    return _ACTIVE.sub(r"\1\\\2", printable(document))


def table_cell(text: str) -> str:
    """`text` as a cell of a Markdown table: a bar or line end in it does not break the table."""
    return _BAR.sub(r"\1\\|", markdown(one_line(text)))


def csv_cell(value: object) -> object:
    """`value` as a spreadsheet may open it: a text that it would take for a formula begins with an apostrophe."""
    if not isinstance(value, str):
        return value
    text = printable(value)
    formula = _FORMULA.match(value.lstrip(" ")) and not _NUMBER.fullmatch(value)
    return f"'{text}" if formula else text


class PrintableFormatter(logging.Formatter):
    """Log lines in which no control character of a name or message reaches the terminal."""

    def format(self, record: logging.LogRecord) -> str:
        """The line as the format has it, cleaned."""
        return printable(super().format(record))
