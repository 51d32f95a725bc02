"""Tables of the page: what stands in each field, and how it is set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evalkit.analysis.grid.measured_points import MeasuredPoint


@dataclass(frozen=True)
class Head:
    """A column's title, or one over several columns."""

    text: str
    span: int = 1
    kind: str = ""  # names of its style
    detail: str = ""  # below the title


@dataclass(frozen=True)
class Link:
    """A number that leads to its questions."""

    text: str
    address: str  # behind "#"; "" for a number of nothing


@dataclass(frozen=True)
class Field:
    """One cell of a table: a text, or links."""

    text: str = ""
    kind: str = ""  # names of its style
    links: tuple[Link, ...] = ()
    shade: float = 0.0  # 0 … 1: how much of its side's colour lies under it
    detail: str = ""  # small, below the text


NONE = Field("–", "none")


@dataclass(frozen=True)
class Line:
    """One row; a heading stands over the rows that follow and has no fields."""

    title: str
    detail: str = ""  # a ratio or a count, beside the title
    fields: tuple[Field, ...] = ()
    opens: bool = False  # a rule above
    heading: bool = False
    address: str = ""  # behind "#": where the title leads
    note: str = ""  # small, below the title


@dataclass(frozen=True)
class Table:
    """A table with one or two rows of titles; its first column belongs to the lines' titles."""

    caption: str
    first: str
    heads: tuple[tuple[Head, ...], ...]
    lines: tuple[Line, ...]
    note: str

    @property
    def width(self) -> int:
        """Columns in all."""
        return 1 + sum(head.span for head in self.heads[-1])


def by_point(points: Sequence[MeasuredPoint], fields: Sequence[tuple[Field, ...]]) -> tuple[Line, ...]:
    """One line for each point of a grid, with a rule above each further method."""
    return tuple(
        Line(point.method, f"{point.ratio:g}", own, opens=place > 0 and point.method != points[place - 1].method)
        for place, (point, own) in enumerate(zip(points, fields, strict=True))
    )
