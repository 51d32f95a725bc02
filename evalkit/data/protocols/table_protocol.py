"""Protocols that are a table: per benchmark, how to ask, read and average."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from evalkit.data import benchmarks
from evalkit.data.protocols.base import Average, PromptContext, Protocol
from evalkit.errors import ConfigError
from evalkit.types import LETTERS, Reply

if TYPE_CHECKING:
    from evalkit.data.protocols.task import Task
    from evalkit.types import Question


@dataclass(frozen=True, kw_only=True)
class TableProtocol(Protocol):
    """A protocol by its table: its own `tasks`, and those that benchmarks have under its name."""

    name: str
    version: str  # raised when a prompt, reader or average changes
    tasks: Mapping[str, Task] = field(default_factory=dict)  # by benchmark; they go before the benchmark's own
    subtitles: bool = False
    stop: tuple[str, ...] = ()

    def with_subtitles(self) -> Protocol:
        """The same table, its prompts with subtitles."""
        return replace(self, name=f"{self.name}_subtitles", subtitles=True)

    def covers(self, benchmark_name: str) -> bool:
        """Whether it has a task."""
        return self._found(benchmark_name) is not None

    def prompt(self, question: Question, context: PromptContext | None = None) -> str:
        """The user's turn, byte for byte."""
        task = self._task(question.benchmark)
        if not self.subtitles:
            return task.ask(question)
        if task.ask_with_subtitles is None:
            raise ConfigError(
                f"protocol={self.name}: {question.benchmark} has no subtitles; "
                f"use protocol={self.name.removesuffix('_subtitles')}"
            )
        return task.ask_with_subtitles(question, needed(context, self.name))

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
        found = self._found(benchmark)
        if found is None:
            own = ", ".join(benchmarks.REGISTRY[benchmark].protocols) or "none that is a table"
            raise ConfigError(f"protocol={self.name} has no task for {benchmark}; {benchmark} has protocols: {own}")
        return found

    def _found(self, benchmark: str) -> Task | None:
        if benchmark in self.tasks:
            return self.tasks[benchmark]
        return benchmarks.REGISTRY[benchmark].protocols.get(self.name.removesuffix("_subtitles"))


def needed(context: PromptContext | None, name: str) -> PromptContext:
    """`context`, for a prompt that cannot be written without it."""
    if context is None:
        raise ConfigError(f"protocol={name}: subtitles need to know the video and the frames' times; pass `context`")
    return context


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
