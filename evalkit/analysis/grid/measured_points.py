"""Operating points with their answers: a method at a ratio, on one question set or on all sets of a setup."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from evalkit.analysis.grid import seconds
from evalkit.analysis.grid.costs import MEASURES, mean_costs
from evalkit.analysis.grid.grouping import NamedRun, by_setup, grouped, rank, reference, rows
from evalkit.analysis.grid.paired import Paired, Statistics, pair
from evalkit.analysis.stats import accuracy_interval

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evalkit.analysis.stats.accuracy_interval import Interval
    from evalkit.ledger import Timing
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


@dataclass(frozen=True, eq=False)
class MeasuredPoint:
    """One method at one ratio; `parts` has one run for each benchmark. What is computed of it is computed once."""

    method: str  # as tables call it
    ratio: float  # nominal
    parts: tuple[NamedRun, ...]

    @property
    def role(self) -> str:
        """method, control or reference."""
        return self.parts[0].run.role

    @property
    def weights(self) -> str:
        """Which weights answered: `base`, or `adapter NAME`."""
        return self.parts[0].weights

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

    @property
    def mean_costs(self) -> dict[str, Any]:
        """Its row of the budget table: over all questions of all parts."""
        return self.costs_by_duration["all", "all"]

    @cached_property
    def costs_by_duration(self) -> dict[tuple[str, str], dict[str, Any]]:
        """Its rows of the budget table: ("all", "all"), then ("duration", bucket)."""
        groups = grouped(list(self.answers.values()), ("duration",))
        timings = seconds.of(part.run for part in self.parts)
        return {group: mean_costs(own, self.ratio, _of_questions(own, timings)) for group, own in groups.items()}

    @cached_property
    def costs(self) -> dict[str, float]:
        """Every measure of the budget table that can be held against another point's; nan where not known.

        Seconds of shared work cannot: they depend on what else was run.
        """
        hidden = seconds.SECONDS if self.mean_costs["seconds"] == "shared" else ()
        return {name: math.nan if name in hidden else float(self.mean_costs[name]) for name in MEASURES}


def _of_questions(answers: Sequence[Answer], timings: Sequence[Timing] | None) -> list[Timing] | None:
    """The measurements on these questions; None where a run was not timed."""
    asked = {(answer.benchmark, answer.question_id) for answer in answers}
    return None if timings is None else [t for t in timings if (t.benchmark, t.question_id) in asked]


@dataclass(frozen=True)
class QuestionSet:
    """The operating points on the same questions under the same setup: one benchmark's, or those of all together."""

    setup: Label
    name: str  # the benchmark's label, or `ALL`
    split: str  # "" for all together
    points: tuple[MeasuredPoint, ...]  # methods in the order of their configuration, ratios falling
    named: str = ""  # the reference; "" for the first method
    known: Statistics = field(default_factory=dict, repr=False, compare=False)  # shared by the sets of one collection

    @property
    def reference(self) -> str:
        """The method that the others are compared with: the one of the configuration, or else the first."""
        return self.named or self.points[0].method

    @property
    def curve(self) -> tuple[MeasuredPoint, ...]:
        """The reference at all its ratios, falling."""
        return tuple(point for point in self.points if point.method == self.reference)

    @property
    def dense(self) -> MeasuredPoint | None:
        """The dense run, every sampled frame and every token: the reference at ratio 1. None where it was not run.

        Where a method or a control was chosen as the reference, which need not keep everything at ratio 1, it is the
        first baseline (role reference) that is there.
        """
        baselines = [point.method for point in self.points if point.role == "reference"]
        chosen = self.reference if self.reference in baselines or not baselines else baselines[0]
        return self.at(chosen, 1)

    def costs(self, cost: str) -> list[float]:
        """What each point spent, a key of `MEASURES`; nan where that is not known or compares with nothing.

        Seconds are held against each other where they were measured in the same way: where any point was timed, of
        those that were timed on every video that any was, under the same conditions.
        """
        if cost not in seconds.SECONDS or not any(point.mean_costs["seconds"] == "timed" for point in self.points):
            return [point.costs[cost] for point in self.points]
        timed = [seconds.keys(part.run for part in point.parts) for point in self.points]
        every = frozenset().union(*timed)
        return [
            point.costs[cost] if own == every and point.mean_costs["seconds"] == "timed" else math.nan
            for point, own in zip(self.points, timed, strict=True)
        ]

    def paired(self, ours: MeasuredPoint, theirs: MeasuredPoint, *also: MeasuredPoint) -> Paired[Key]:
        """Ours beside theirs, as `paired`, with the statistics of this set's collection."""
        return paired(ours, theirs, *also, known=self.known)

    def at(self, method: str, ratio: float) -> MeasuredPoint | None:
        """The point of a method at a ratio, None where there is none."""
        return next((point for point in self.points if (point.method, point.ratio) == (method, ratio)), None)


def question_sets(runs: Sequence[Run]) -> list[QuestionSet]:
    """Per setup: one set for each benchmark, and first, where there are several, one for all of them together.

    A method at a ratio stands in the latter only where it was run on every benchmark.
    """
    known: Statistics = {}
    return [own for setup, members in by_setup(runs).items() for own in sets(setup, members, pooled(members), known)]


def sets(
    setup: Label, members: Sequence[NamedRun], together: Sequence[MeasuredPoint], known: Statistics
) -> list[QuestionSet]:
    """The question sets of one setup; `together` are its pooled points, `known` the statistics computed so far."""
    benchmarks = rank((entry.run.label, entry.run.split) for entry in members)
    if len(benchmarks) == 1:
        ((label, split),) = benchmarks
        return [_set(setup, label, split, tuple(together), known)]
    own = [
        _set(setup, label, split, pooled([e for e in members if (e.run.label, e.run.split) == (label, split)]), known)
        for label, split in benchmarks
    ]
    everywhere = tuple(point for point in together if len(point.parts) == len(benchmarks))
    return [_set(setup, ALL, "", everywhere, known), *own] if everywhere else own


def _set(setup: Label, name: str, split: str, found: tuple[MeasuredPoint, ...], known: Statistics) -> QuestionSet:
    named = reference([part for point in found for part in point.parts])
    return QuestionSet(setup, name, split, found, named, known)


def pooled(members: Sequence[NamedRun]) -> tuple[MeasuredPoint, ...]:
    """Runs of one setup by method and ratio, each point over all benchmarks that it was run on."""
    return tuple(MeasuredPoint(method, ratio, tuple(parts)) for (method, ratio), parts in rows(members).items())


def paired(
    ours: MeasuredPoint, theirs: MeasuredPoint, *also: MeasuredPoint, known: Statistics | None = None
) -> Paired[Key]:
    """Ours beside theirs on the questions that have a score in both, and in every one of `also`."""
    return pair(ours.answers, theirs.answers, *(one.answers for one in also), video=ours.video, known=known)
