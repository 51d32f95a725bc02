"""The cells of a grid: a method at a ratio, on one question set or on all sets of a setup together."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from evalkit.analysis.grid import seconds
from evalkit.analysis.grid.costs import MEASURES, spent
from evalkit.analysis.grid.grouping import NamedRun, by_setup, rank, reference, rows
from evalkit.analysis.stats import accuracy_interval
from evalkit.analysis.stats.identical import identical
from evalkit.analysis.stats.paired_tests import Difference, difference

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evalkit.analysis.stats.accuracy_interval import Interval
    from evalkit.runs.load import Run
    from evalkit.runs.setups import Label
    from evalkit.types import Answer

Key = tuple[str, str, str]  # benchmark's label, split, question id

ALL = "all benchmarks"
COSTS = {  # a measure of the budget table -> how an axis names it
    "kv_tokens": "visual KV tokens per layer",
    "llm_tokens_fed": "tokens fed to the LLM",
    "tflops": "TFLOPs per question",
    "ttft_s": "time to first token (s)",
}


@dataclass(frozen=True)
class MeasuredPoint:
    """One method at one ratio; `parts` has one run for each question set."""

    method: str  # as tables call it
    ratio: float  # nominal
    parts: tuple[NamedRun, ...]

    @property
    def role(self) -> str:
        """method, control or reference."""
        return self.parts[0].run.role

    @cached_property
    def answers(self) -> dict[Key, Answer]:
        """Every answer, failed ones included."""
        return {(p.run.label, p.run.split, a.question_id): a for p in self.parts for a in p.run.answers}

    @cached_property
    def scored(self) -> dict[Key, bool]:
        """Right or wrong, of the questions that have a score: a failed one is neither."""
        return {key: answer.correct for key, answer in self.answers.items() if answer.correct is not None}

    @cached_property
    def accuracy(self) -> Interval:
        """Every question counts once; clustered by video."""
        return accuracy_interval.accuracy(list(self.scored.values()), [self.video(key) for key in self.scored])

    @property
    def failed(self) -> int:
        """Questions without an answer."""
        return sum(answer.status == "failed" for answer in self.answers.values())

    def video(self, key: Key) -> tuple[str, str, str]:
        """The cluster that a question belongs to."""
        return (*key[:2], self.answers[key].video_id)

    @cached_property
    def spent(self) -> dict[str, Any]:
        """Its row of the budget table: over all questions of all parts."""
        return spent(list(self.answers.values()), self.ratio, seconds.of(part.run for part in self.parts))

    @cached_property
    def costs(self) -> dict[str, float]:
        """Every measure of the budget table that can be held against another cell's; nan where not known.

        Seconds of shared work cannot: they depend on what else was run.
        """
        hidden = seconds.SECONDS if self.spent["seconds"] == "shared" else ()
        return {name: math.nan if name in hidden else float(self.spent[name]) for name in MEASURES}


@dataclass(frozen=True)
class QuestionSet:
    """The cells that answer the same questions under the same setup: one benchmark's, or those of all together."""

    setup: Label
    name: str  # the benchmark's label, or `ALL`
    split: str  # "" for all together
    cells: tuple[MeasuredPoint, ...]  # methods in the order of their configuration, ratios falling
    named: str = ""  # the reference; "" for the first method

    @property
    def reference(self) -> str:
        """The method that the others are compared with: the one of the configuration, or else the first."""
        return self.named or self.cells[0].method

    @property
    def curve(self) -> tuple[MeasuredPoint, ...]:
        """The reference at all its ratios, falling."""
        return tuple(cell for cell in self.cells if cell.method == self.reference)

    @property
    def dense(self) -> MeasuredPoint | None:
        """The dense run, every sampled frame and every token: the reference at ratio 1. None where it was not run.

        Where a method or a control was chosen as the reference, which need not keep everything at ratio 1, it is the
        first baseline (role reference) that is there.
        """
        baselines = [cell.method for cell in self.cells if cell.role == "reference"]
        chosen = self.reference if self.reference in baselines or not baselines else baselines[0]
        return self.at(chosen, 1)

    def costs(self, cost: str) -> list[float]:
        """What each cell spent, a key of `MEASURES`; nan where that is not known or compares with nothing.

        Seconds are held against each other where they were measured in the same way: where any cell was timed, of
        those that were timed on every video that any was, under the same conditions.
        """
        if cost not in seconds.SECONDS or not any(cell.spent["seconds"] == "timed" for cell in self.cells):
            return [cell.costs[cost] for cell in self.cells]
        timed = [seconds.keys(part.run for part in cell.parts) for cell in self.cells]
        every = frozenset().union(*timed)
        return [
            cell.costs[cost] if own == every and cell.spent["seconds"] == "timed" else math.nan
            for cell, own in zip(self.cells, timed, strict=True)
        ]

    def at(self, method: str, ratio: float) -> MeasuredPoint | None:
        """The cell of a method at a ratio, None where there is none."""
        return next((cell for cell in self.cells if (cell.method, cell.ratio) == (method, ratio)), None)


def question_sets(runs: Sequence[Run]) -> list[QuestionSet]:
    """Per setup: one set for each benchmark, and first, where there are several, one for all of them together.

    A method at a ratio stands in the latter only where it was run on every benchmark.
    """
    return [found for setup, members in by_setup(runs).items() for found in _sets(setup, members)]


def _sets(setup: Label, members: Sequence[NamedRun]) -> list[QuestionSet]:
    benchmarks = rank((entry.run.label, entry.run.split) for entry in members)
    own = [
        _set(setup, label, split, cells([e for e in members if (e.run.label, e.run.split) == (label, split)]))
        for label, split in benchmarks
    ]
    whole = tuple(cell for cell in cells(members) if len(cell.parts) == len(benchmarks))
    return [_set(setup, ALL, "", whole), *own] if len(own) > 1 and whole else own


def _set(setup: Label, name: str, split: str, found: tuple[MeasuredPoint, ...]) -> QuestionSet:
    return QuestionSet(setup, name, split, found, reference([part for cell in found for part in cell.parts]))


def cells(members: Sequence[NamedRun]) -> tuple[MeasuredPoint, ...]:
    """Runs of one setup by method and ratio."""
    return tuple(MeasuredPoint(method, ratio, tuple(parts)) for (method, ratio), parts in rows(members).items())


def against(ours: MeasuredPoint, theirs: MeasuredPoint) -> Difference:
    """Ours minus theirs on the questions that have a score in both."""
    both = [key for key in ours.scored if key in theirs.scored]
    return difference([ours.scored[k] for k in both], [theirs.scored[k] for k in both], [ours.video(k) for k in both])


def same(ours: MeasuredPoint, theirs: MeasuredPoint) -> bool:
    """Whether the two are the same by construction: same inputs, same replies (`identical`)."""
    keys = ours.answers.keys() | theirs.answers.keys()
    return identical((ours.answers.get(key), theirs.answers.get(key)) for key in keys)
