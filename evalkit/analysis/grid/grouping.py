"""How runs and answers are put in rows: the key columns, their order, and the groups of questions."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from evalkit.runs.setups import labels, weights

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from evalkit.runs.load import Run
    from evalkit.runs.setups import Label, Setup
    from evalkit.types import Answer

KEYS = ("benchmark", "split", "backbone", "sampling", "protocol", "weights", "method", "ratio")

Row = tuple[str, float]  # method and ratio

# Labels whose alphabetical order would mislead; others are sorted by name after them.
_DURATIONS = ("short", "medium", "long", "<2 min", "2-15 min", "15-60 min", ">60 min")


@dataclass(frozen=True)
class NamedRun:
    """A run, and the names that tables give its method and its setup."""

    run: Run
    method: str
    setup: Label
    weights: str  # which ones answered: runs.setups.weights

    @property
    def key(self) -> dict[str, Any]:
        """The key columns, `KEYS` → value."""
        run = self.run
        values = (run.label, run.split, *self.setup, self.weights, self.method, run.ratio)
        return dict(zip(KEYS, values, strict=True))


def entries(runs: Sequence[Run]) -> list[NamedRun]:
    """Runs in table order: benchmarks, setups and methods by first appearance, ratios falling.

    Setups that differ are named by what differs. Runs of one setup that differ only in something no column shows (a
    hyper-parameter, the method's source, the subset) get the first digits of their identity behind the method's name:
    they are never pooled and never look the same. A method that was run with several weights in one setup is one
    method for each of them, "xcomp (base)" and "xcomp (adapter xcomp)".
    """
    own = _weights(runs)
    count = Counter((_visible(run), own[id(run)]) for run in runs)
    several = _several(runs, own)
    names = labels(run.setup for run in runs)

    def method(run: Run) -> str:
        name = f"{run.method} ({own[id(run)]})" if (run.setup, run.method) in several else run.method
        return name if count[_visible(run), own[id(run)]] == 1 else f"{name}#{run.identity[:8]}"

    return [NamedRun(run, method(run), names[run.setup], own[id(run)]) for run in _ordered(runs)]


def _weights(runs: Sequence[Run]) -> dict[int, str]:
    """Which weights answered each run, by the run's id()."""
    return dict(zip(map(id, runs), weights([run.setup for run in runs]), strict=True))


def _several(runs: Sequence[Run], own: Mapping[int, str]) -> set[tuple[Setup, str]]:
    """Setups and methods with runs by more than one set of weights."""
    found: dict[tuple[Setup, str], set[str]] = {}
    for run in runs:
        found.setdefault((run.setup, run.method), set()).add(own[id(run)])
    return {key for key, names in found.items() if len(names) > 1}


def by_setup(runs: Sequence[Run]) -> dict[Label, list[NamedRun]]:
    """Runs that may be compared: every setting the same that is not of the method."""
    return of_setups(entries(runs))


def of_setups(members: Sequence[NamedRun]) -> dict[Label, list[NamedRun]]:
    """The same of runs that have their names already."""
    setups: dict[Label, list[NamedRun]] = {}
    for entry in members:
        setups.setdefault(entry.setup, []).append(entry)
    return setups


def _visible(run: Run) -> tuple[Any, ...]:
    return run.label, run.split, run.setup, run.method, run.ratio


def _ordered(runs: Sequence[Run]) -> list[Run]:
    benchmarks = rank((run.label, run.split) for run in runs)
    setups = rank(run.setup for run in runs)
    methods = rank(run.method for run in runs)

    def place(run: Run) -> tuple[Any, ...]:
        return benchmarks[run.label, run.split], setups[run.setup], methods[run.method], -run.ratio, run.identity

    return sorted(runs, key=place)


def reference(members: Sequence[NamedRun]) -> str:
    """The method that the others are compared with, as tables call it; `members` in the order of a table.

    It is the one that most of the runs record, and the first method where none records one that is there.
    """
    named = Counter(entry.run.reference for entry in members if entry.run.reference is not None)
    for name, _ in named.most_common():  # equal counts by first appearance
        found = next((entry.method for entry in members if entry.run.method == name), None)
        if found is not None:
            return found
    return members[0].method


def rows(members: Sequence[NamedRun]) -> dict[Row, list[NamedRun]]:
    """The members of each row of a table, one per benchmark; methods by first appearance, ratios falling."""
    place = rank(entry.run.method for entry in members)
    found: dict[Row, list[NamedRun]] = {}
    for entry in sorted(members, key=lambda entry: (place[entry.run.method], -entry.run.ratio, entry.method)):
        found.setdefault((entry.method, entry.run.ratio), []).append(entry)
    return found


def rank(values: Iterable[Any]) -> dict[Any, int]:
    """Each distinct value's place by first appearance."""
    return {value: place for place, value in enumerate(dict.fromkeys(values))}


def grouped(answers: Sequence[Answer], kinds: Sequence[str] | None = None) -> dict[tuple[str, str], list[Answer]]:
    """Answers under ("all", "all") and under every (kind, label); one with several labels stands under each.

    `kinds` limits the kinds; None takes all. Duration comes first.
    """
    groups: dict[tuple[str, str], list[Answer]] = {}
    for answer in answers:
        for kind, label in _labels(answer.groups, kinds):
            groups.setdefault((kind, label), []).append(answer)
    return {("all", "all"): list(answers)} | {key: groups[key] for key in sorted(groups, key=_group_place)}


def _labels(groups: Mapping[str, tuple[str, ...]], kinds: Sequence[str] | None) -> list[tuple[str, str]]:
    return [(kind, label) for kind, labels in groups.items() if kinds is None or kind in kinds for label in labels]


def _group_place(key: tuple[str, str]) -> tuple[bool, str, int, str]:
    kind, label = key
    return kind != "duration", kind, _DURATIONS.index(label) if label in _DURATIONS else len(_DURATIONS), label
