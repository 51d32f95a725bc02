"""One column of a table: name, heading, unit, decimals, definition."""

from __future__ import annotations

import math
from dataclasses import dataclass

from evalkit.analysis.tables.formatting import number, significant

SIGNIFICANT = -1  # in the place of decimals: three significant digits, for what spans orders of magnitude
TEXT = -2  # in the place of decimals: no number


@dataclass(frozen=True)
class Column:
    """One column of a table."""

    name: str  # in CSV files and frames
    title: str  # above the column wherever people read it
    unit: str  # "" where it has none
    decimals: int  # SIGNIFICANT, TEXT or the number of decimals
    definition: str  # Markdown

    def text(self, value: object) -> str:
        """A value as tables print it; a dash where it is not known."""
        if not isinstance(value, int | float):
            return str(value) or "–"
        if self.decimals == TEXT:
            return "–" if math.isnan(value) else f"{value:g}"
        return significant(value) if self.decimals == SIGNIFICANT else number(value, self.decimals)


def section(*columns: Column) -> dict[str, Column]:
    """Columns by name."""
    return {column.name: column for column in columns}
