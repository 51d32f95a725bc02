"""What a protocol is, and the averages in use."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from evalkit.types import Question, Reply

Average = Sequence[tuple[Mapping[str, tuple[str, ...]], bool]]  # (groups, correct) of every scored question


class Protocol(ABC):
    """One published way to ask and score. `name` and `version` belong to a run's identity."""

    name: str
    version: str  # of the code that asks and scores
    stop: tuple[str, ...]  # generation ends before the first of these

    @abstractmethod
    def prompt(self, question: Question) -> str:
        """The user's turn, without the video and without the model's chat template."""

    @abstractmethod
    def max_new_tokens(self, benchmark_name: str) -> int:
        """Length limit of a reply, in tokens."""

    @abstractmethod
    def read(self, question: Question, text: str) -> Reply:
        """The letter that a reply names, and whether it is right. An unreadable reply is never right."""

    @abstractmethod
    def averages(self, benchmark_name: str, rows: Average) -> dict[str, float]:
        """Averages in percent, the official one first and so named; empty if there are no rows."""


def micro(rows: Average) -> float:
    """Percent right of all questions."""
    return 100 * sum(right for _, right in rows) / len(rows)


def macro(rows: Average, key: str) -> float:
    """Mean over the labels of group `key` of the percent right; labels without questions are left out."""
    by_label: dict[str, list[bool]] = {}
    for groups, right in rows:
        for label in groups[key]:
            by_label.setdefault(label, []).append(right)
    return sum(100 * sum(rights) / len(rights) for rights in by_label.values()) / len(by_label)
