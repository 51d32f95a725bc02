"""The table of paired differences: every method against the reference, at the same ratio, on the same questions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from evalkit.analysis.grid.grouping import KEYS, reference
from evalkit.analysis.grid.measured_points import paired
from evalkit.analysis.stats.paired_tests import expected_ci_half_width, holm
from evalkit.analysis.tables.columns import DIFFERENCES, titles
from evalkit.analysis.tables.formatting import delta_and_ci, p_value, render, setup_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from evalkit.analysis.grid.measured_points import MeasuredPoint
    from evalkit.analysis.grid.paired import Statistics
    from evalkit.runs.setups import Label

COLUMNS = (*KEYS[2:], *DIFFERENCES)

_CAPTION = """
Δ accuracy is the method's accuracy minus the reference's at the same ratio, in percentage points, over all benchmarks'
questions that have a score in both, [95 % CI] bootstrapped over videos. flips counts questions gained and lost: correct
in only one of the two. p (sign flip) is the permutation test that exchanges the two methods video by video. p
(McNemar), the exact test of gained against lost, takes questions as independent: where those of a video move together
it rejects far too often, and decides nothing here. Both are adjusted for the rows of this table (Holm), without those
that repeat the reference, same inputs and same replies (–). The expected CI half-width is what so many questions can
show: half an interval at 10 % flips.
"""
_EXCLUDED = "excluded counts questions without a score in one of the two: they are in no number of the row.\n"


def rows(setup: Label, points: Sequence[MeasuredPoint], known: Statistics) -> list[dict[str, Any]]:
    """One row per method × ratio of a setup that has a counterpart: the reference at the same ratio."""
    name = reference([part for point in points for part in point.parts])
    theirs_at = {point.ratio: point for point in points if point.method == name}
    pairs = [(ours, theirs_at[ours.ratio]) for ours in points if ours.method != name and ours.ratio in theirs_at]
    found = [paired(ours, theirs, known=known) for ours, theirs in pairs]
    repeats = [one.repeats for one in found]
    mcnemar = holm([one.difference.p_mcnemar for one in found], without=repeats)
    flips = holm([one.difference.p_sign_flip for one in found], without=repeats)
    names = dict(zip(KEYS[2:5], setup, strict=True))
    return [
        names
        | {
            "weights": ours.weights,
            "method": ours.method,
            "ratio": ours.ratio,
            "reference": theirs.method,
            "excluded": len(one.excluded),
        }
        | vars(one.difference)
        | {"p_mcnemar_holm": independent, "p_sign_flip_holm": flip}
        for (ours, theirs), one, independent, flip in zip(pairs, found, mcnemar, flips, strict=True)
    ]


def frame(by_setup: Mapping[Label, Sequence[dict[str, Any]]]) -> pd.DataFrame:
    """The rows of all setups."""
    return pd.DataFrame([row for own in by_setup.values() for row in own], columns=list(COLUMNS))


def section(by_setup: Mapping[Label, Sequence[dict[str, Any]]]) -> str:
    """The same as a compact table; empty where there is only one method."""
    parts, any_excluded = [], False
    for setup, own in by_setup.items():
        if own:
            gaps = any(row["excluded"] for row in own)
            table = render(pd.DataFrame([_text(row, gaps) for row in own]))
            parts += [
                setup_line(setup),
                f"reference {own[0]['reference']}, at the same ratio",
                expected(row["n"] for row in own) + "\n",
                table,
            ]
            any_excluded |= gaps
    return "\n".join(["# Paired differences\n", *parts]) + _CAPTION + _EXCLUDED * any_excluded if parts else ""


def expected(counts: Iterable[int]) -> str:
    """The expected CI half-width: it depends on n alone, so that it needs no column."""
    column = DIFFERENCES["expected_ci_half_width"]
    halves = {n: column.text(expected_ci_half_width(n)) for n in counts}
    return f"{column.title}: {', '.join(f'{half} pp at n = {n}' for n, half in halves.items())}"


def _text(row: dict[str, Any], gaps: bool) -> dict[str, str]:
    delta, flip, mcnemar = titles(DIFFERENCES, ("delta_pp", "p_sign_flip_holm", "p_mcnemar_holm"))
    shown = ("n", *(("excluded",) if gaps else ()))
    return {
        "method": row["method"],
        "ratio": f"{row['ratio']:g}",
        delta: delta_and_ci(row["delta_pp"], row["ci_low"], row["ci_high"]),
        "flips": f"+{row['gained']} -{row['lost']}",
        flip: p_value(row["p_sign_flip_holm"]),
        mcnemar: p_value(row["p_mcnemar_holm"]),
        **{DIFFERENCES[name].title: DIFFERENCES[name].text(row[name]) for name in shown},
    }
