"""`python -m evalkit compare A B`: paired statistics of run against run, on the same questions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from evalkit import sanitize
from evalkit.analysis.compare import pairing
from evalkit.analysis.stats.paired_tests import holm
from evalkit.analysis.tables.columns import COMPARISON
from evalkit.analysis.tables.formatting import number, p_value, render, setup_line
from evalkit.errors import DataError
from evalkit.runs import setups

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from evalkit.analysis.compare.pairing import Pair
    from evalkit.analysis.stats.paired_tests import Difference
    from evalkit.runs.load import Run

_CAPTION = """
Δ accuracy is B minus A in percentage points, on the n questions that have a score in both, with a 95 % CI bootstrapped
over videos; the expected CI half-width is what so many questions can show: half an interval at 10 % flips. p (sign
flip) is the permutation test that exchanges A and B video by video. p (McNemar), the exact test of gained against lost,
takes questions as independent: where those of a video move together it rejects far too often. Both are adjusted for the
rows of this table (Holm), without those with the same inputs and replies on both sides (–). failed counts questions of
A / of B without an answer; excluded are those without a score in A or in B.
"""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One pair of runs; p-values adjusted for the table it stands in."""

    pair: Pair  # ours is B, theirs is A
    p_mcnemar_holm: float
    p_sign_flip_holm: float

    @property
    def difference(self) -> Difference:
        """B minus A."""
        return self.pair.paired.difference


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What `compare` found."""

    a: Path
    b: Path
    rows: tuple[Row, ...]
    alone: tuple[str, ...]  # runs without a partner, in words


def compare(a: Path, b: Path, points: tuple[str, str] | None = None) -> Comparison:
    """Pair the runs of two folders and test every pair; of `points` (METHOD@RATIO of a, of b) alone where given.

    Pairs may be of two setups (another backbone, dtype, …): the result names the settings that differ.

    Raises DataError where nothing can be paired, or where a pair's questions, protocol or sampling differ.
    """
    left, right = pairing.read(a), pairing.read(b)
    if points is not None:
        left, right = pairing.of_point(left, points[0]), pairing.of_point(right, points[1])
    found = pairing.partnered(left, right, across=points is not None)
    _refuse(found)
    return Comparison(a=a, b=b, rows=tuple(_rows(found)), alone=tuple(_alone(found, left, right)))


def _refuse(found: Sequence[Pair]) -> None:
    reasons = [f"{pairing.name(pair.ours)}: {text}" for pair in found for text in pairing.obstacles(pair)]
    if reasons:
        raise DataError(
            "expected runs that were asked the same questions in the same way, came\n  "
            + "\n  ".join(reasons)
            + "\nRun both with the same benchmark, subset, protocol and sampling."
        )


def _rows(found: Sequence[Pair]) -> list[Row]:
    repeats = [pair.paired.repeats for pair in found]
    tested = [pair.paired.difference for pair in found]
    mcnemar = holm([one.p_mcnemar for one in tested], without=repeats)
    flips = holm([one.p_sign_flip for one in tested], without=repeats)
    rows = zip(found, mcnemar, flips, strict=True)
    return [Row(pair=pair, p_mcnemar_holm=first, p_sign_flip_holm=second) for pair, first, second in rows]


def _alone(found: Sequence[Pair], left: Sequence[Run], right: Sequence[Run]) -> list[str]:
    paired = {id(run) for pair in found for run in (pair.theirs, pair.ours)}
    return pairing.listed(
        {side: [r for r in runs if id(r) not in paired] for side, runs in (("A", left), ("B", right))}
    )


# ---- as text


def markdown(found: Comparison) -> str:
    """Head, one table, and the questions that flipped."""
    lines = ["# Comparison\n", f"- A: {found.a}", f"- B: {found.b}", *(f"- {text}" for text in found.alone), ""]
    lines += _setups([row.pair for row in found.rows])
    table = render(pd.DataFrame([_texts(row) for row in found.rows]), left=("benchmark", "A", "B"))
    return sanitize.markdown("\n".join([*lines, table]) + _CAPTION + "\n" + "\n".join(_flips(found)))


def _setups(found: Sequence[Pair]) -> list[str]:
    """The setup of both sides; where it is not the same, that of each and every setting that differs."""
    names = setups.labels(run.setup for pair in found for run in (pair.theirs, pair.ours))
    lines: dict[str, None] = {}
    for pair in found:
        both = zip(names[pair.theirs.setup], names[pair.ours.setup], strict=True)
        backbone, sampling, protocol = (one if one == other else f"{one} (A), {other} (B)" for one, other in both)
        differs = f"settings differ, A against B: {setups.in_words(pair.settings)}\n" if pair.settings else ""
        lines[setup_line((backbone, sampling, protocol)) + differs] = None
    return list(lines)


def _texts(row: Row) -> dict[str, str]:
    pair, d = row.pair, row.difference
    first, second = _accuracies(pair)
    values = vars(d) | {"accuracy_a": first, "accuracy_b": second, "excluded": len(pair.paired.excluded)}
    shown = {name: column.text(values[name]) for name, column in COMPARISON.items() if name in values}
    shown |= {
        "delta_pp": number(d.delta_pp, 1) if math.isnan(d.delta_pp) else f"{d.delta_pp:+.1f}",
        "p_sign_flip_holm": p_value(row.p_sign_flip_holm),
        "p_mcnemar_holm": p_value(row.p_mcnemar_holm),
        "failed": f"{pairing.failed(pair.theirs)} / {pairing.failed(pair.ours)}",
    }
    return {
        "benchmark": f"{pair.theirs.label}, {pair.theirs.split}",
        "A": f"{pair.theirs.method} {pair.theirs.ratio:g}",
        "B": f"{pair.ours.method} {pair.ours.ratio:g}",
        **{column.title: shown[name] for name, column in COMPARISON.items()},
    }


def _accuracies(pair: Pair) -> tuple[float, float]:
    """Percent of A and of B on the questions that have a score in both."""
    ours, theirs = pair.paired.accuracy
    return theirs, ours


def _flips(found: Comparison) -> list[str]:
    lines = ["## Flips\n"]
    for row in found.rows:
        theirs, ours, paired = row.pair.theirs, row.pair.ours, row.pair.paired
        lines.append(f"- {pairing.name(theirs)} → {ours.method} at ratio {ours.ratio:g}")
        kinds = (("gained", paired.gained), ("lost", paired.lost), ("excluded", sorted(paired.excluded)))
        lines += [f"  - {kind}: {', '.join(ids)}" for kind, ids in kinds if ids]
    return lines


def plain(found: Comparison) -> dict[str, Any]:
    """The same for JSON, with the raw p-values and all ids; null where it cannot be computed."""
    return {"a": str(found.a), "b": str(found.b), "alone": list(found.alone), "rows": [_values(r) for r in found.rows]}


def _values(row: Row) -> dict[str, Any]:
    pair, paired = row.pair, row.pair.paired
    numbers = {key: value for key, value in vars(row.difference).items() if key not in {"gained", "lost"}}
    first, second = _accuracies(pair)
    numbers |= {"accuracy_a": first, "accuracy_b": second}
    numbers |= {"p_sign_flip_holm": row.p_sign_flip_holm, "p_mcnemar_holm": row.p_mcnemar_holm}
    return {
        "benchmark": pair.theirs.config["benchmark"]["name"],
        "label": pair.theirs.label,
        "split": pair.theirs.split,
        "a": _side(pair.theirs),
        "b": _side(pair.ours),
        **{key: None if math.isnan(value) else value for key, value in numbers.items()},
        "settings": {name: list(values) for name, values in pair.settings.items()},
        "gained": list(paired.gained),
        "lost": list(paired.lost),
        "excluded": sorted(paired.excluded),
    }


def _side(run: Run) -> dict[str, Any]:
    who = {"method": run.method, "ratio": run.ratio, "backbone": run.setup.base[0], "identity": run.identity}
    return who | {"folder": str(run.folder), "failed": pairing.failed(run)}
