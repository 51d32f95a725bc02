"""Questions that changed sides against the dense run: right here and wrong there, or the other way round."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from evalkit.analysis.grid.grouping import grouped

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evalkit.analysis.grid.cells import Key, MeasuredPoint, QuestionSet

KINDS = {"duration": "duration", "evidence": "where the answer lies", "task_type": "task type"}


@dataclass(frozen=True)
class Count:
    """Flips among the questions of one group that have a score in both."""

    n: int
    gained: int
    lost: int

    @property
    def net(self) -> float:
        """Gained minus lost, as a share of the questions."""
        return (self.gained - self.lost) / self.n if self.n else 0.0


@dataclass(frozen=True)
class Group:
    """One row of the table: a group of questions, and the flips of each cell in it."""

    kind: str  # all, or a key of KINDS
    label: str
    n: int  # questions that the dense run was asked
    counts: tuple[Count, ...]


def against_dense(own: QuestionSet) -> tuple[tuple[MeasuredPoint, ...], tuple[Group, ...]]:
    """The cells other than the dense run, and a row for all questions and for each group; none without a dense run."""
    dense = own.dense
    if dense is None:
        return (), ()
    others = tuple(cell for cell in own.cells if cell is not dense)
    changed = [changes(cell, dense) for cell in others]
    rows = []
    for (kind, label), keys in _groups(dense).items():
        rows.append(Group(kind, label, len(keys), tuple(_count(keys, change) for change in changed)))
    return others, tuple(rows)


def changes(cell: MeasuredPoint, dense: MeasuredPoint) -> dict[Key, int]:
    """1 for gained, -1 for lost, 0 for neither, of every question that has a score in both."""
    return {key: int(right) - int(dense.scored[key]) for key, right in cell.scored.items() if key in dense.scored}


def _count(keys: Sequence[Key], change: dict[Key, int]) -> Count:
    own = [change[key] for key in keys if key in change]
    return Count(len(own), own.count(1), own.count(-1))


def _groups(dense: MeasuredPoint) -> dict[tuple[str, str], list[Key]]:
    """The keys of `grouped`; kinds in the order of KINDS."""
    keys = {id(answer): key for key, answer in dense.answers.items()}
    found = grouped(list(dense.answers.values()), tuple(KINDS))
    places = {kind: place for place, kind in enumerate(("all", *KINDS))}
    return {group: [keys[id(answer)] for answer in found[group]] for group in sorted(found, key=lambda g: places[g[0]])}
