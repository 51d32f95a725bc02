"""Flips: questions that are right here and wrong in the dense run, or the other way round, and the page's table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from evalkit.analysis.grid.grouping import grouped
from evalkit.analysis.report.html_table import Field, Head, Line, Link, Table
from evalkit.analysis.report.setup import point_key
from evalkit.analysis.tables.formatting import grouped_number
from evalkit.sanitize import clean

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from evalkit.analysis.grid.measured_points import Key, MeasuredPoint, QuestionSet

KINDS = {"duration": "duration", "evidence": "where the answer lies", "task_type": "task type"}

_NOTE = """
+ gained: right here, wrong in the dense run; − lost: the other way round; of the questions that have a score in both.
The shade is gained minus lost as a share of the group's questions. n counts the dense run's questions. Each number
leads to its questions.
"""


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
    """One row of the table: a group of questions, and the flips of each point in it."""

    kind: str  # all, or a key of KINDS
    label: str
    n: int  # questions that the dense run was asked
    counts: tuple[Count, ...]


def against_dense(own: QuestionSet) -> tuple[tuple[MeasuredPoint, ...], tuple[Group, ...]]:
    """The points other than the dense run, and a row for all questions and for each group; none without a dense run."""
    dense = own.dense
    if dense is None:
        return (), ()
    others = tuple(point for point in own.points if point is not dense)
    changed = [changes(point, dense) for point in others]
    rows = []
    for (kind, label), keys in groups(dense).items():
        rows.append(Group(kind, label, len(keys), tuple(count(keys, change) for change in changed)))
    return others, tuple(rows)


def changes(point: MeasuredPoint, dense: MeasuredPoint) -> dict[Key, int]:
    """1 for gained, -1 for lost, 0 for neither, of every question that has a score in both."""
    return {key: int(right) - int(dense.scored[key]) for key, right in point.scored.items() if key in dense.scored}


def count(keys: Sequence[Key], change: dict[Key, int]) -> Count:
    """Flips among `keys`, of what `changes` found."""
    own = [change[key] for key in keys if key in change]
    return Count(len(own), own.count(1), own.count(-1))


def groups(dense: MeasuredPoint) -> dict[tuple[str, str], list[Key]]:
    """Kind and label → questions, as `grouped`; kinds in the order of KINDS."""
    keys = {id(answer): key for key, answer in dense.answers.items()}
    found = grouped(list(dense.answers.values()), tuple(KINDS))
    places = {kind: place for place, kind in enumerate(("all", *KINDS))}
    return {group: [keys[id(answer)] for answer in found[group]] for group in sorted(found, key=lambda g: places[g[0]])}


def table(own: QuestionSet, slug: str) -> Table | None:
    """One line for each group of questions, one column for each point; None without a dense run to compare with."""
    others, groups = against_dense(own)
    if not others:
        return None
    methods = list(dict.fromkeys(point.method for point in others))
    top = tuple(Head(method, sum(point.method == method for point in others)) for method in methods)
    heads = tuple(Head(f"{point.ratio:g}") for point in others)
    opens = [place == 0 or point.method != others[place - 1].method for place, point in enumerate(others)]
    return Table(
        "Flips against the dense run", "questions, n", (top, heads), tuple(_lines(groups, others, opens, slug)), _NOTE
    )


def _lines(
    groups: Sequence[Group], others: Sequence[MeasuredPoint], opens: Sequence[bool], slug: str
) -> Iterator[Line]:
    kind = "all"
    for group in groups:
        if group.kind != kind:
            kind = group.kind
            yield Line(f"by {KINDS[kind]}", heading=True)
        points = zip(others, group.counts, opens, strict=True)
        fields = tuple(_field(point, count, group, opens, slug) for point, count, opens in points)
        yield Line("all" if kind == "all" else group.label, grouped_number(group.n, 0), fields)


def _field(point: MeasuredPoint, count: Count, group: Group, opens: bool, slug: str) -> Field:
    place = " opens" if opens else ""
    if not count.gained and not count.lost:
        return Field("0" if count.n else "–", f"none{place}")
    links = tuple(
        Link(f"{sign}{value}", _address(slug, point, name, group) if value else "")
        for sign, value, name in (("+", count.gained, "gained"), ("\N{MINUS SIGN}", count.lost, "lost"))
    )
    return Field(kind=f"flips {'loss' if count.net < 0 else 'gain'}{place}", links=links, shade=abs(count.net))


def _address(slug: str, point: MeasuredPoint, outcome: str, group: Group) -> str:
    """What the page's address holds behind "#" for these questions alone."""
    own = {"set": slug, "point": point_key(point), "outcome": outcome}
    return urlencode(own if group.kind == "all" else own | {f"by.{group.kind}": clean(group.label)})
