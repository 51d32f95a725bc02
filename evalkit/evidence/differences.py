"""The table of paired differences: every method against the first one, at the same ratio, on the same questions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from evalkit.evidence.cells import against, cells
from evalkit.evidence.groups import Entry, by_setup
from evalkit.evidence.layout import number, render, setup_line
from evalkit.evidence.paired import holm

if TYPE_CHECKING:
    from evalkit.evidence.answers import Run

_CAPTION = """
Points of accuracy over all benchmarks' questions that both answered, with a 95 % interval bootstrapped over videos.
gained and lost count questions that only one of the two has right; p is McNemar's, by Holm over the table's rows.
± is what so many questions can show at all: half an interval at 10 % flips.
"""


def differences(runs: Sequence[Run]) -> pd.DataFrame:
    """One row per setup × method × ratio that has a counterpart: the first method at the same ratio."""
    rows = [row for members in by_setup(runs).values() for row in _rows(members)]
    return pd.DataFrame(rows)


def section(runs: Sequence[Run]) -> str:
    """The same as a compact table; empty where there is only one method."""
    parts = []
    for setup, members in by_setup(runs).items():
        rows = list(_rows(members))
        if rows:
            parts += [setup_line(setup), render(pd.DataFrame(map(_text, rows)))]
    return "\n".join(["# Paired differences\n", *parts]) + _CAPTION if parts else ""


def _rows(members: Sequence[Entry]) -> Iterator[dict[str, Any]]:
    grid = cells(members)
    first = {cell.ratio: cell for cell in grid if cell.method == grid[0].method}
    pairs = [(cell, first[cell.ratio]) for cell in grid if cell.method != grid[0].method and cell.ratio in first]
    found = [against(ours, theirs) for ours, theirs in pairs]
    adjusted = holm([d.p for d in found])
    for (ours, theirs), d, p in zip(pairs, found, adjusted, strict=True):
        yield {"method": ours.method, "ratio": ours.ratio, "against": theirs.method, **vars(d), "p_holm": p}


def _text(row: dict[str, Any]) -> dict[str, str]:
    return {
        "method": row["method"],
        "ratio": f"{row['ratio']:g}",
        "against": row["against"],
        "points": f"{row['points']:+.1f}",
        "low": number(row["low"], 1),
        "high": number(row["high"], 1),
        "gained": str(row["gained"]),
        "lost": str(row["lost"]),
        "p": "<0.001" if row["p_holm"] < 0.001 else number(row["p_holm"], 3),
        "n": str(row["n"]),
        "±": number(row["expected_half_width"], 1),
    }
