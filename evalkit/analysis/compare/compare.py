"""`python -m evalkit compare A B`: paired statistics of run against run, on the same questions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from evalkit.analysis.compare import pairing
from evalkit.analysis.stats.paired_tests import Difference, difference, holm
from evalkit.analysis.tables.formatting import number, p_value, render, setup_line
from evalkit.errors import DataError
from evalkit.runs import setups

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from evalkit.analysis.compare.pairing import Pair
    from evalkit.runs.load import Run

_CAPTION = """
points is B minus A, on the n questions that have a score in both, with a 95 % interval bootstrapped over videos; ± is
what so many questions can show at all: half an interval at 10 % flips. sign flip is the permutation test that exchanges
A and B video by video. McNemar, the exact test of gained against lost, takes questions as independent: where those of a
video move together it rejects far too often. Both p are adjusted for the rows of this table (Holm), without those with
the same inputs and replies on both sides (–). failed counts questions of A / of B without an answer; left out are those
without a score in A or in B.
"""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One pair of runs; p-values adjusted for the table it stands in."""

    pair: Pair
    difference: Difference
    mcnemar_holm: float
    sign_flip_holm: float


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What `compare` found."""

    a: Path
    b: Path
    rows: tuple[Row, ...]
    alone: tuple[str, ...]  # runs without a partner, in words


def compare(a: Path, b: Path, cells: tuple[str, str] | None = None) -> Comparison:
    """Pair the runs of two folders and test every pair; of `cells` (METHOD@RATIO of a, of b) alone where given.

    Pairs may be of two setups (another backbone, dtype, …): the result names the settings that differ.

    Raises DataError where nothing can be paired, or where a pair's questions, protocol or sampling differ.
    """
    left, right = pairing.read(a), pairing.read(b)
    if cells is not None:
        left, right = pairing.of_cell(left, cells[0]), pairing.of_cell(right, cells[1])
    found = pairing.matched(left, right, across=cells is not None)
    _refuse(found)
    tested = [difference(ours, theirs, videos) for ours, theirs, videos in _marks(found)]
    return Comparison(a=a, b=b, rows=tuple(_rows(found, tested)), alone=tuple(_alone(found, left, right)))


def _marks(found: Sequence[Pair]) -> list[tuple[list[bool], list[bool], list[str]]]:
    """B first: differences are what B changes."""
    return [(second, first, videos) for first, second, videos in (pair.marks() for pair in found)]


def _refuse(found: Sequence[Pair]) -> None:
    reasons = [f"{pairing.name(pair.b)}: {text}" for pair in found for text in pairing.obstacles(pair)]
    if reasons:
        raise DataError(
            "expected runs that were asked the same questions in the same way, came\n  "
            + "\n  ".join(reasons)
            + "\nRun both with the same benchmark, subset, protocol and sampling."
        )


def _rows(found: Sequence[Pair], tested: Sequence[Difference]) -> list[Row]:
    same = [pair.same for pair in found]
    mcnemar, flips = holm([d.p for d in tested], without=same), holm([d.p_flip for d in tested], without=same)
    return [
        Row(pair=pair, difference=d, mcnemar_holm=first, sign_flip_holm=second)
        for pair, d, first, second in zip(found, tested, mcnemar, flips, strict=True)
    ]


def _alone(found: Sequence[Pair], left: Sequence[Run], right: Sequence[Run]) -> list[str]:
    paired = {id(run) for pair in found for run in (pair.a, pair.b)}
    return pairing.listed(
        {side: [r for r in runs if id(r) not in paired] for side, runs in (("A", left), ("B", right))}
    )


# ---- as text


def markdown(found: Comparison) -> str:
    """Head, one table, and the questions that flipped."""
    lines = ["# Comparison\n", f"- A: {found.a}", f"- B: {found.b}", *(f"- {text}" for text in found.alone), ""]
    lines += _setups([row.pair for row in found.rows])
    table = render(pd.DataFrame([_texts(row) for row in found.rows]), left=("benchmark", "A", "B"))
    return "\n".join([*lines, table]) + _CAPTION + "\n" + "\n".join(_flips(found))


def _setups(found: Sequence[Pair]) -> list[str]:
    """The setup of both sides; where it is not the same, that of each and every setting that differs."""
    names = setups.labels(run.setup for pair in found for run in (pair.a, pair.b))
    lines: dict[str, None] = {}
    for pair in found:
        both = zip(names[pair.a.setup], names[pair.b.setup], strict=True)
        backbone, sampling, protocol = (one if one == other else f"{one} (A), {other} (B)" for one, other in both)
        differs = f"settings differ, A against B: {setups.in_words(pair.settings)}\n" if pair.settings else ""
        lines[setup_line((backbone, sampling, protocol)) + differs] = None
    return list(lines)


def _texts(row: Row) -> dict[str, str]:
    pair, d = row.pair, row.difference
    return {
        "benchmark": f"{pair.a.label}, {pair.a.split}",
        "A": f"{pair.a.method} {pair.a.ratio:g}",
        "B": f"{pair.b.method} {pair.b.ratio:g}",
        "A %": number(percent(pair)[0], 1),
        "B %": number(percent(pair)[1], 1),
        "points": number(d.points, 1) if math.isnan(d.points) else f"{d.points:+.1f}",
        "low": number(d.low, 1),
        "high": number(d.high, 1),
        "±": number(d.expected_half_width, 1),
        "gained": str(d.gained),
        "lost": str(d.lost),
        "sign flip": p_value(row.sign_flip_holm),
        "McNemar": p_value(row.mcnemar_holm),
        "n": str(d.n),
        "videos": str(d.clusters),
        "failed": f"{pairing.failed(pair.a)} / {pairing.failed(pair.b)}",
        "left out": str(len(pair.left_out)),
    }


def percent(pair: Pair) -> tuple[float, float]:
    """Accuracy of a and of b on the questions that have a score in both; nan where there are none."""
    first, second, _ = pair.marks()
    n = len(first)
    return (100 * sum(first) / n, 100 * sum(second) / n) if n else (math.nan, math.nan)


def _flips(found: Comparison) -> list[str]:
    lines = ["## Flips\n"]
    for row in found.rows:
        lines.append(f"- {pairing.name(row.pair.a)} → {row.pair.b.method} at ratio {row.pair.b.ratio:g}")
        kinds = (("gained", row.pair.gained), ("lost", row.pair.lost), ("left out", row.pair.left_out))
        lines += [f"  - {kind}: {', '.join(ids)}" for kind, ids in kinds if ids]
    return lines


def plain(found: Comparison) -> dict[str, Any]:
    """The same for JSON, with the raw p-values and all ids; null where the data cannot say."""
    return {"a": str(found.a), "b": str(found.b), "alone": list(found.alone), "rows": [_values(r) for r in found.rows]}


def _values(row: Row) -> dict[str, Any]:
    pair, d = row.pair, row.difference
    numbers = {key: value for key, value in vars(d).items() if key not in {"p", "p_flip", "gained", "lost"}}
    first, second = percent(pair)
    numbers |= {"percent_a": first, "percent_b": second, "sign_flip_p": d.p_flip}
    numbers |= {"sign_flip_p_holm": row.sign_flip_holm, "mcnemar_p": d.p, "mcnemar_p_holm": row.mcnemar_holm}
    return {
        "benchmark": pair.a.config["benchmark"]["name"],
        "label": pair.a.label,
        "split": pair.a.split,
        "a": _side(pair.a),
        "b": _side(pair.b),
        **{key: None if math.isnan(value) else value for key, value in numbers.items()},
        "settings": {name: list(values) for name, values in pair.settings.items()},
        "gained": list(pair.gained),
        "lost": list(pair.lost),
        "left_out": list(pair.left_out),
    }


def _side(run: Run) -> dict[str, Any]:
    who = {"method": run.method, "ratio": run.ratio, "backbone": run.setup.base[0], "identity": run.identity}
    return who | {"folder": str(run.folder), "failed": pairing.failed(run)}
