"""The numbers of a paper's tables: one row per method and ratio on a question set, accuracy or budget."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any

import pandas as pd

from evalkit.analysis.grid.costs import SPENT
from evalkit.analysis.grid.equal_cost import Matched, against_dense, at_equal
from evalkit.analysis.grid.grouping import KEYS
from evalkit.analysis.stats.paired_tests import expected_half_width, holm
from evalkit.analysis.tables.accuracy import COUNTS, counts

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from evalkit.analysis.grid.cells import MeasuredPoint, QuestionSet

Average = tuple[str, float]  # an average's name and percent

AGAINST: dict[str, Callable[[QuestionSet, MeasuredPoint], Matched | None]] = {
    "dense": against_dense,
    "kv": partial(at_equal, cost="kv_tokens"),
    "compute": partial(at_equal, cost="tflops"),
}

_NAMES = (*KEYS[:-1], "role", "ratio")
_SCORE = ("n", "videos", "percent", "low", "high", "half_width", "average", "average_percent")
_GAP = ("points", "low", "high", "p_flip", "p_flip_holm", "n", "left_out", "expected_half_width")
_PLACE = ("lower_ratio", "upper_ratio", "weight")
_ENDS = tuple(f"{end}_{name}" for end in ("lower", "upper") for name in ("points", "low", "high"))
EQUAL_COST = ("kv", "compute")  # of AGAINST, those that may lie between two ratios of the reference

_GAPS = {key: (*_GAP, *_PLACE, *(_ENDS if key in EQUAL_COST else ())) for key in AGAINST}
ACCURACY = (
    *_NAMES,
    *_SCORE,
    *COUNTS,
    "expected_half_width",
    *(f"{key}_{name}" for key, names in _GAPS.items() for name in names),
)
_WHOLE = [f"{key}_{name}" for key in AGAINST for name in ("n", "left_out")]  # not there where nothing is compared
BUDGET = (*_NAMES, *SPENT)


def averages(scores: pd.DataFrame) -> dict[tuple[Any, ...], Average]:
    """`KEYS` of a run -> the protocol's own average, from the long accuracy table."""
    own = scores[scores["group"] == "average"].drop_duplicates(list(KEYS))  # a protocol reports its own first
    runs = own[list(KEYS)].itertuples(index=False, name=None)
    return {tuple(run): (str(name), float(p)) for run, name, p in zip(runs, own["value"], own["percent"], strict=True)}


def accuracy(found: QuestionSet, own: Mapping[tuple[Any, ...], Average]) -> pd.DataFrame:
    """Accuracy with its interval and the three differences; p-values adjusted for the rows of this set (Holm).

    Interpolated differences have no p-value, and rows that are the reference's answers by construction are no tests:
    neither counts in the correction.
    """
    gaps = {key: _gaps([minus(found, cell) for cell in found.cells], key) for key, minus in AGAINST.items()}
    rows = [
        _names(found, cell) | _score(cell, own) | {k: v for columns in gaps.values() for k, v in columns[place].items()}
        for place, cell in enumerate(found.cells)
    ]
    return pd.DataFrame(rows, columns=list(ACCURACY)).astype(dict.fromkeys(_WHOLE, "Int64"))


def interpolated(row: Mapping[Any, Any], key: str) -> bool:
    """Whether a row's difference lies between two ratios of the reference; never against dense."""
    there = key in EQUAL_COST and not math.isnan(row[f"{key}_weight"])
    return there and bool(row[f"{key}_lower_ratio"] != row[f"{key}_upper_ratio"])


def budget(found: QuestionSet) -> pd.DataFrame:
    """What the answers spent, as in the long budget table."""
    rows = [_names(found, cell) | cell.spent for cell in found.cells]
    return pd.DataFrame(rows, columns=list(BUDGET))


def _names(found: QuestionSet, cell: MeasuredPoint) -> dict[str, Any]:
    return dict(zip(_NAMES, (found.name, found.split, *found.setup, cell.method, cell.role, cell.ratio), strict=True))


def _score(cell: MeasuredPoint, own: Mapping[tuple[Any, ...], Average]) -> dict[str, Any]:
    """Only a single benchmark has an average of its own: what protocols average differs between benchmarks."""
    found = cell.accuracy
    single = tuple(cell.parts[0].key.values()) if len(cell.parts) == 1 else None
    average, percent = own.get(single, ("", math.nan)) if single else ("", math.nan)
    return {
        "n": found.n,
        "videos": found.clusters,
        "percent": found.percent,
        "low": found.low,
        "high": found.high,
        "half_width": found.half_width,
        "average": average.removesuffix(" (official)"),
        "average_percent": percent,
        **counts(cell.answers.values()),
        "expected_half_width": expected_half_width(found.n),
    }


def _gaps(found: Sequence[Matched | None], key: str) -> list[dict[str, Any]]:
    """The columns of one comparison, a dict for each row; empty where there is nothing to compare with."""
    there = [m for m in found if m is not None]
    adjusted = iter(holm([m.change.p_flip for m in there], without=[m.same for m in there]))
    return [{} if m is None else {f"{key}_{k}": v for k, v in _gap(m, next(adjusted)).items()} for m in found]


def _gap(matched: Matched, adjusted: float) -> dict[str, Any]:
    place = matched.place
    ratios = {"lower_ratio": place.lower.ratio, "upper_ratio": place.upper.ratio, "weight": place.weight}
    ends = [getattr(end, name) for end in matched.bracket or () for name in ("points", "low", "high")]
    values = vars(matched.change) | {"p_flip_holm": adjusted, "left_out": matched.left_out} | ratios
    return values | dict(zip(_ENDS, ends, strict=False))
