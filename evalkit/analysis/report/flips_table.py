"""The page's table of flips; every number leads to its questions."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlencode

from evalkit.analysis.report.flips import KINDS, Count, Group, against_dense
from evalkit.analysis.report.html_table import Field, Head, Line, Link, Table
from evalkit.analysis.report.sanitize import clean
from evalkit.analysis.report.setup import cell_key
from evalkit.analysis.tables.numbers import figure

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from evalkit.analysis.grid.cells import MeasuredPoint, QuestionSet

_NOTE = """
+ gained: right here, wrong in the dense run; − lost: the other way round; of the questions that have a score in both.
The shade is gained minus lost as a share of the group's questions. n counts the dense run's questions. Each number
leads to its questions.
"""


def table(own: QuestionSet, slug: str) -> Table | None:
    """One line for each group of questions, one column for each cell; None without a dense run to compare with."""
    others, groups = against_dense(own)
    if not others:
        return None
    methods = list(dict.fromkeys(cell.method for cell in others))
    top = tuple(Head(method, sum(cell.method == method for cell in others)) for method in methods)
    heads = tuple(Head(f"{cell.ratio:g}") for cell in others)
    opens = [place == 0 or cell.method != others[place - 1].method for place, cell in enumerate(others)]
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
        cells = zip(others, group.counts, opens, strict=True)
        fields = tuple(_field(cell, count, group, opens, slug) for cell, count, opens in cells)
        yield Line("all" if kind == "all" else group.label, figure(group.n, 0), fields)


def _field(cell: MeasuredPoint, count: Count, group: Group, opens: bool, slug: str) -> Field:
    place = " opens" if opens else ""
    if not count.gained and not count.lost:
        return Field("0" if count.n else "–", f"none{place}")
    links = tuple(
        Link(f"{sign}{value}", _address(slug, cell, name, group) if value else "")
        for sign, value, name in (("+", count.gained, "gained"), ("\N{MINUS SIGN}", count.lost, "lost"))
    )
    return Field(kind=f"flips {'loss' if count.net < 0 else 'gain'}{place}", links=links, shade=abs(count.net))


def _address(slug: str, cell: MeasuredPoint, outcome: str, group: Group) -> str:
    """What the page's address holds behind "#" for these questions alone."""
    own = {"set": slug, "cell": cell_key(cell), "outcome": outcome}
    return urlencode(own if group.kind == "all" else own | {f"by.{group.kind}": clean(group.label)})
