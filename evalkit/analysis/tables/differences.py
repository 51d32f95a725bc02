"""The table of paired differences: every method against the reference, at the same ratio, on the same questions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from evalkit.analysis.grid.cells import against, cells, same
from evalkit.analysis.grid.grouping import KEYS, NamedRun, by_setup, reference
from evalkit.analysis.stats.paired_tests import holm
from evalkit.analysis.tables.formatting import change, number, p_value, render, setup_line

if TYPE_CHECKING:
    from evalkit.runs.load import Run

_NUMBERS = ("n", "left_out", "clusters", "points", "low", "high", "gained", "lost")
COLUMNS = (*KEYS[2:], "against", *_NUMBERS, "p_flip", "p_flip_holm", "p", "p_holm", "expected_half_width")

_CAPTION = """
Points of accuracy above the reference's at the same ratio, over all benchmarks' questions that have a score in both,
[95 % interval] bootstrapped over videos. flips counts questions gained and lost: right in only one of the two. sign
flip is the permutation test that exchanges the two methods video by video. McNemar, the exact test of gained against
lost, takes questions as independent: where those of a video move together it rejects far too often, and decides
nothing here. Both p are adjusted for the rows of this table (Holm), without those that repeat the reference, same
inputs and same replies (–). ± is what so many questions can show at all: half an interval at 10 % flips.
"""
_LEFT_OUT = "left out counts questions without a score in one of the two: they are in no number of the row.\n"


def differences(runs: Sequence[Run]) -> pd.DataFrame:
    """One row per setup × method × ratio that has a counterpart: the reference at the same ratio."""
    rows = [
        dict(zip(KEYS[2:5], setup, strict=True)) | row
        for setup, members in by_setup(runs).items()
        for row in _rows(members)
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def section(runs: Sequence[Run]) -> str:
    """The same as a compact table; empty where there is only one method."""
    parts, left_out = [], False
    for setup, members in by_setup(runs).items():
        rows = list(_rows(members))
        if rows:
            gaps = any(row["left_out"] for row in rows)
            table = render(pd.DataFrame([_text(row, gaps) for row in rows]))
            parts += [setup_line(setup), f"against {rows[0]['against']}, at the same ratio\n", table]
            left_out |= gaps
    return "\n".join(["# Paired differences\n", *parts]) + _CAPTION + _LEFT_OUT * left_out if parts else ""


def _rows(members: Sequence[NamedRun]) -> Iterator[dict[str, Any]]:
    grid = cells(members)
    name = reference([part for cell in grid for part in cell.parts])
    theirs_at = {cell.ratio: cell for cell in grid if cell.method == name}
    pairs = [(cell, theirs_at[cell.ratio]) for cell in grid if cell.method != name and cell.ratio in theirs_at]
    found = [against(ours, theirs) for ours, theirs in pairs]
    same_rows = [same(ours, theirs) for ours, theirs in pairs]
    mcnemar, flips = (holm(own, without=same_rows) for own in ([d.p for d in found], [d.p_flip for d in found]))
    adjusted = zip(mcnemar, flips, strict=True)
    for (ours, theirs), d, (independent, flip) in zip(pairs, found, adjusted, strict=True):
        names = {"method": ours.method, "ratio": ours.ratio, "against": theirs.method}
        left_out = len(ours.answers.keys() | theirs.answers.keys()) - d.n
        yield names | vars(d) | {"left_out": left_out, "p_holm": independent, "p_flip_holm": flip}


def _text(row: dict[str, Any], gaps: bool) -> dict[str, str]:
    texts = {
        "method": row["method"],
        "ratio": f"{row['ratio']:g}",
        "points": change(row["points"], row["low"], row["high"]),
        "flips": f"+{row['gained']} -{row['lost']}",
        "sign flip": p_value(row["p_flip_holm"]),
        "McNemar": p_value(row["p_holm"]),
        "n": str(row["n"]),
        "left out": str(row["left_out"]),
        "±": number(row["expected_half_width"], 1),
    }
    return texts if gaps else {title: text for title, text in texts.items() if title != "left out"}
