"""A protocol for any question about any video: no benchmark's rows, no published scoring."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evalkit.data.protocols.base import Average, PromptContext, Protocol, official_micro
from evalkit.data.protocols.table_protocol import lettered
from evalkit.types import Reply

if TYPE_CHECKING:
    from evalkit.types import Question

INSTRUCTION = "Answer with the option's letter from the given choices directly."
TOKENS = (16, 256)  # of a reply: with options, without


@dataclass(frozen=True)
class PlainProtocol(Protocol):
    """The question, its lettered options and the request for a letter; without options the question alone."""

    name: str = "plain"
    version: str = "1"
    stop: tuple[str, ...] = ()
    subtitles: bool = False
    limit: int = TOKENS[0]  # tokens of a reply

    def prompt(self, question: Question, shown: PromptContext | None = None) -> str:
        """Question, options "A. …" on a line each, instruction."""
        if not question.options:
            return question.text
        return f"{question.text}\n{lettered(question.options, '{}. {}' + chr(10))}{INSTRUCTION}"

    def max_new_tokens(self, benchmark_name: str) -> int:
        """As set."""
        return self.limit

    def read(self, question: Question, text: str) -> Reply:
        """The first capital letter of an option that stands alone; None, and not scored, where there is no option."""
        letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[: len(question.options)]
        found = re.search(rf"\b[{letters}]\b", text) if letters else None
        letter = found[0] if found else None
        return Reply(letter=letter, correct=letter == question.answer if question.answer else None)

    def averages(self, benchmark_name: str, rows: Average) -> dict[str, float]:
        """Percent right of all questions."""
        return official_micro(rows) if rows else {}
