"""What kinds of questions are lost: each operating point against the dense run, by group of questions."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlencode

import numpy as np

from evalkit.analysis.report import flips
from evalkit.analysis.report.html_table import NONE, Field, Head, Line, Link, Table
from evalkit.analysis.report.setup import point_key
from evalkit.analysis.stats.group_tests import sign_flips
from evalkit.analysis.stats.paired_tests import holm
from evalkit.analysis.tables.column_texts import SIGNIFICANT
from evalkit.analysis.tables.formatting import grouped_number, signed
from evalkit.sanitize import clean

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from evalkit.analysis.grid.measured_points import Key, MeasuredPoint, QuestionSet

KINDS = ("task_type", "evidence", "duration")  # of flips.KINDS: the most telling first
_FULL = 40.0  # percentage points: a difference as large has all of its colour

_NOTE = """
Δ accuracy in percentage points against the dense run on the same questions; n counts them, in a cell where it is not
the column's. * p below 0.05 by sign flips video by video, with Holm's correction over all cells. The shade repeats the
number: blue gained, orange lost. A number leads to the questions that were lost, or, where none was, gained. Rows that
repeat the dense run's answers are not shown.
"""


class _Cells:
    """The differences of some points in some groups, and their p-values."""

    def __init__(self, points: Sequence[MeasuredPoint], dense: MeasuredPoint, groups: Sequence[Sequence[Key]]) -> None:
        changed = [flips.changes(point, dense) for point in points]
        self.counts = [[flips.count(keys, change) for keys in groups] for change in changed]
        places = {video: n for n, video in enumerate(sorted({dense.video(key) for keys in groups for key in keys}))}
        sums = np.zeros((len(places), len(points) * len(groups)))
        for column, (change, keys) in enumerate((change, keys) for change in changed for keys in groups):
            for key in keys:
                sums[places[dense.video(key)], column] += change.get(key, 0)
        empty = [not one.n for own in self.counts for one in own]
        adjusted = holm(sign_flips(sums).tolist(), without=empty)
        self.p = [adjusted[n * len(groups) : (n + 1) * len(groups)] for n in range(len(points))]


def maps(own: QuestionSet, points: Sequence[MeasuredPoint], slug: str) -> list[Table]:
    """A table for each kind of group that has two labels or more; none without a dense run to compare with."""
    dense = own.dense
    shown = [point for point in points if dense is not None and not _repeats(own, point, dense)]
    if dense is None or not shown:
        return []
    groups = {key: keys for key, keys in flips.groups(dense).items() if key[0] in KINDS}
    if not groups:
        return []
    cells = _Cells(shown, dense, list(groups.values()))
    kinds = [kind for kind in KINDS if sum(group[0] == kind for group in groups) > 1]
    return [_table(kind, groups, shown, cells, slug) for kind in kinds]


def _repeats(own: QuestionSet, point: MeasuredPoint, dense: MeasuredPoint) -> bool:
    return point is dense or own.paired(point, dense).repeats


def _table(
    kind: str,
    groups: dict[tuple[str, str], list[Key]],
    points: Sequence[MeasuredPoint],
    cells: _Cells,
    slug: str,
) -> Table:
    columns = [place for place, group in enumerate(groups) if group[0] == kind]
    labels = [list(groups)[place][1] for place in columns]
    sizes = [max(own[place].n for own in cells.counts) for place in columns]
    heads = tuple(
        Head(label, kind="label", detail=f"n = {grouped_number(size, 0)}")
        for label, size in zip(labels, sizes, strict=True)
    )
    lines = tuple(
        Line(
            point.method,
            f"{point.ratio:g}",
            tuple(_fields(cells, n, columns, sizes, _addresses(slug, point, kind, labels))),
            opens=n > 0 and point.method != points[n - 1].method,
        )
        for n, point in enumerate(points)
    )
    return Table(f"by {flips.KINDS[kind]}", "method, ratio", (heads,), lines, _NOTE)


def _addresses(slug: str, point: MeasuredPoint, kind: str, labels: Sequence[str]) -> list[dict[str, str]]:
    """Behind "#", without the outcome, of each group."""
    return [{"set": slug, "point": point_key(point), f"by.{kind}": clean(label)} for label in labels]


def _fields(
    cells: _Cells, row: int, columns: Sequence[int], sizes: Sequence[int], addresses: Sequence[dict[str, str]]
) -> Iterator[Field]:
    for column, size, where in zip(columns, sizes, addresses, strict=True):
        count, p = cells.counts[row][column], cells.p[row][column]
        if not count.n:
            yield NONE
            continue
        points = 100 * count.net
        text = signed(points) if points else "0"
        outcome = "lost" if count.lost else "gained" if count.gained else ""
        yield Field(
            kind=f"heat {'loss' if points < 0 else 'gain'}",
            links=(Link(text + "*" * (p < SIGNIFICANT), urlencode(where | {"outcome": outcome}) if outcome else ""),),
            shade=min(1.0, abs(points) / _FULL),
            detail="" if count.n == size else f"n = {grouped_number(count.n, 0)}",
        )
