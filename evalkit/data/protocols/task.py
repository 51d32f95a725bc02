"""One benchmark under one protocol that is a table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from evalkit.data.protocols.base import Average, PromptContext
    from evalkit.types import Question


@dataclass(frozen=True, kw_only=True)
class Task:
    """How the benchmark's questions are asked, how replies are read, and how the average is taken."""

    ask: Callable[[Question], str]
    letter: Callable[[str], str]  # reply -> the letter it names; "" where none can be read
    averages: Callable[[Average], dict[str, float]]
    max_new_tokens: int
    scoring_note: str
    ask_with_subtitles: Callable[[Question, PromptContext], str] | None = None
    system: str | None = None
    prefill: str = ""
    gold: Callable[[Question], str] = lambda question: question.answer
    leaves_out: Callable[[str, str, str], bool] = lambda gold, text, letter: False  # of every average
