"""Protocols that are a table: per benchmark, how to ask, read and average. The tables stand in files of their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evalkit.data.protocols.base import Average, PromptContext, Protocol
from evalkit.errors import ConfigError
from evalkit.types import LETTERS, Reply

if TYPE_CHECKING:
    from evalkit.types import Question


@dataclass(frozen=True, kw_only=True)
class Task:
    """One benchmark under one protocol."""

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


@dataclass(frozen=True, kw_only=True)
class Published(Protocol):
    """A protocol by its table."""

    name: str
    version: str
    tasks: Mapping[str, Task]
    subtitles: bool = False
    stop: tuple[str, ...] = ()

    def prompt(self, question: Question, shown: PromptContext | None = None) -> str:
        """The user's turn, byte for byte."""
        task = self._task(question.benchmark)
        if not self.subtitles:
            return task.ask(question)
        if task.ask_with_subtitles is None:
            raise ConfigError(
                f"protocol={self.name}: {question.benchmark} has no subtitles; "
                f"use protocol={self.name.removesuffix('_subtitles')}"
            )
        return task.ask_with_subtitles(question, needed(shown, self.name))

    def system(self, benchmark_name: str) -> str | None:
        """From the table."""
        return self._task(benchmark_name).system

    def prefill(self, benchmark_name: str) -> str:
        """From the table."""
        return self._task(benchmark_name).prefill

    def max_new_tokens(self, benchmark_name: str) -> int:
        """From the table."""
        return self._task(benchmark_name).max_new_tokens

    def gold(self, question: Question) -> str:
        """By the table's rule for rows with a quirk."""
        return self._task(question.benchmark).gold(question)

    def read(self, question: Question, text: str) -> Reply:
        """By the table's reader and its rule for what counts."""
        task, gold = self._task(question.benchmark), self.gold(question)
        letter = task.letter(text)
        right = letter != "" and letter == gold
        return Reply(letter=letter or None, correct=None if task.leaves_out(gold, text, letter) else right)

    def scoring_note(self, benchmark_name: str) -> str:
        """From the table."""
        return self._task(benchmark_name).scoring_note

    def averages(self, benchmark_name: str, rows: Average) -> dict[str, float]:
        """From the table."""
        task = self._task(benchmark_name)
        return task.averages(rows) if rows else {}

    def _task(self, benchmark: str) -> Task:
        if benchmark not in self.tasks:
            raise ConfigError(f"protocol={self.name} has no task for {benchmark!r}; it has {', '.join(self.tasks)}")
        return self.tasks[benchmark]


def needed(shown: PromptContext | None, name: str) -> PromptContext:
    """`shown`, for a prompt that cannot be written without it."""
    if shown is None:
        raise ConfigError(f"protocol={name}: subtitles need to know the video and the frames' times; pass `shown`")
    return shown


def first_match(question: Question) -> str:
    """MLVU's right letter where the first of two equal options counts instead of the last."""
    if question.answer == "":
        return ""
    candidates = mlvu_parts(question)[1]
    return LETTERS[candidates.index(candidates[LETTERS.index(question.answer)])]


def mlvu_parts(question: Question) -> tuple[str, tuple[str, ...]]:
    """Question and option texts of an MLVU row as the file spells them, white space included."""
    candidates = tuple(question.row.get("candidates") or question.options)
    block = "\n" + lettered(candidates, "({}) {}\n")
    whole: str = question.row["question"]
    return (whole.removesuffix(block) if whole.endswith(block) else question.text), candidates


def lettered(options: tuple[str, ...], form: str) -> str:
    """Options one after the other, each with its letter in the form given."""
    return "".join(form.format(letter, option) for letter, option in zip(LETTERS, options, strict=False))
