"""The numbers of a question set's tables: one row per method and ratio, accuracy with its differences, or budget."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any

import pandas as pd

from evalkit.analysis.grid.costs import MEANS
from evalkit.analysis.grid.equal_cost import Matched, against_dense, at_equal
from evalkit.analysis.grid.grouping import KEYS
from evalkit.analysis.stats.paired_tests import expected_ci_half_width, holm
from evalkit.analysis.tables.accuracy import COUNTS, counts, interval_columns

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from evalkit.analysis.grid.measured_points import MeasuredPoint, QuestionSet

Table = tuple["QuestionSet", pd.DataFrame]  # a question set and its rows
Average = tuple[str, float]  # an average's name and percent
Row = dict[str, Any]  # of a frame made here

AGAINST: dict[str, Callable[[QuestionSet, MeasuredPoint], Matched | None]] = {
    "dense": against_dense,
    "kv": partial(at_equal, cost="kv_tokens"),
    "compute": partial(at_equal, cost="tflops"),
}

NAMES = (*KEYS[:-1], "role", "ratio")
_SCORE = ("n", "videos", "accuracy", "ci_low", "ci_high", "ci_half_width", "average", "average_accuracy")
_INTERVAL = ("delta_pp", "ci_low", "ci_high")
_DIFFERENCE = (*_INTERVAL, "p_sign_flip", "p_sign_flip_holm", "n", "excluded", "expected_ci_half_width")
_PLACE = ("lower_ratio", "upper_ratio", "weight")
_ENDS = tuple(f"{end}_{name}" for end in ("lower", "upper") for name in _INTERVAL)
EQUAL_COST = ("kv", "compute")  # of AGAINST, those that may lie between two ratios of the reference

_COMPARED = {key: (*_DIFFERENCE, *_PLACE, *(_ENDS if key in EQUAL_COST else ())) for key in AGAINST}
ACCURACY = (
    *NAMES,
    *_SCORE,
    *COUNTS,
    "expected_ci_half_width",
    *(f"{key}_{name}" for key, names in _COMPARED.items() for name in names),
)
_INTEGERS = [f"{key}_{name}" for key in AGAINST for name in ("n", "excluded")]  # not there where nothing is compared
BUDGET = (*NAMES, *MEANS)


def records(frame: pd.DataFrame) -> list[Row]:
    """Its rows, in order."""
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]


def averages(scores: pd.DataFrame) -> dict[tuple[Any, ...], Average]:
    """`KEYS` of a run -> the protocol's own average, from the long accuracy table."""
    own = scores[scores["group"] == "average"].drop_duplicates(list(KEYS))  # a protocol reports its own first
    runs = own[list(KEYS)].itertuples(index=False, name=None)
    return {tuple(run): (str(name), float(p)) for run, name, p in zip(runs, own["value"], own["accuracy"], strict=True)}


def accuracy(found: QuestionSet, own: Mapping[tuple[Any, ...], Average]) -> pd.DataFrame:
    """Accuracy with its interval and the three differences; p-values adjusted for the rows of this set (Holm).

    Interpolated differences have no p-value, and rows that are the reference's answers by construction are no tests:
    neither counts in the correction.
    """
    compared = {key: _adjusted([minus(found, point) for point in found.points], key) for key, minus in AGAINST.items()}
    rows = [
        names(found, point)
        | _score(point, own)
        | {k: v for columns in compared.values() for k, v in columns[place].items()}
        for place, point in enumerate(found.points)
    ]
    return pd.DataFrame(rows, columns=list(ACCURACY)).astype(dict.fromkeys(_INTEGERS, "Int64"))


def interpolated(row: Mapping[Any, Any], key: str) -> bool:
    """Whether a row's difference lies between two ratios of the reference; never against dense."""
    there = key in EQUAL_COST and not math.isnan(row[f"{key}_weight"])
    return there and bool(row[f"{key}_lower_ratio"] != row[f"{key}_upper_ratio"])


def budget(found: QuestionSet) -> pd.DataFrame:
    """What the answers spent, as in the long budget table."""
    rows = [names(found, point) | point.mean_costs for point in found.points]
    return pd.DataFrame(rows, columns=list(BUDGET))


def names(found: QuestionSet, point: MeasuredPoint) -> dict[str, Any]:
    """The key columns of a row."""
    return dict(
        zip(
            NAMES,
            (found.name, found.split, *found.setup, point.weights, point.method, point.role, point.ratio),
            strict=True,
        )
    )


def _score(point: MeasuredPoint, own: Mapping[tuple[Any, ...], Average]) -> dict[str, Any]:
    """Only a single benchmark has an average of its own: what protocols average differs between benchmarks."""
    single = tuple(point.parts[0].key.values()) if len(point.parts) == 1 else None
    average, value = own.get(single, ("", math.nan)) if single else ("", math.nan)
    return {
        **interval_columns(point.accuracy),
        "average": average.removesuffix(" (official)"),
        "average_accuracy": value,
        **counts(point.answers.values()),
        "expected_ci_half_width": expected_ci_half_width(point.accuracy.n),
    }


def _adjusted(found: Sequence[Matched | None], key: str) -> list[dict[str, Any]]:
    """The columns of one comparison, a dict for each row; empty where there is nothing to compare with."""
    there = [m for m in found if m is not None]
    adjusted = iter(holm([m.change.p_sign_flip for m in there], without=[m.repeats for m in there]))
    return [{} if m is None else {f"{key}_{k}": v for k, v in _columns(m, next(adjusted)).items()} for m in found]


def _columns(matched: Matched, adjusted: float) -> dict[str, Any]:
    place = matched.place
    ratios = {"lower_ratio": place.lower.ratio, "upper_ratio": place.upper.ratio, "weight": place.weight}
    ends = [getattr(end, name) for end in matched.bracket or () for name in _INTERVAL]
    values = vars(matched.change) | {"p_sign_flip_holm": adjusted, "excluded": matched.excluded} | ratios
    return values | dict(zip(_ENDS, ends, strict=False))
