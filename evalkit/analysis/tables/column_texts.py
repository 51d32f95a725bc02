"""The columns of a question set's tables as texts, for Markdown and LaTeX: frames that begin with method and ratio."""

from __future__ import annotations

import math
from collections.abc import Hashable
from typing import Any

import pandas as pd

from evalkit.analysis.grid.seconds import STAGES
from evalkit.analysis.tables.accuracy import COUNTS
from evalkit.analysis.tables.columns import ACCURACY, BUDGET, DIFFERENCES, PAPER, texts
from evalkit.analysis.tables.formatting import delta_and_ci, number, p_value
from evalkit.analysis.tables.grid_rows import AGAINST, EQUAL_COST, interpolated
from evalkit.analysis.tables.terminal import spreads

SIGNIFICANT = 0.05
NAMES = ("method", "ratio")
_TITLES = dict(zip(AGAINST, ("dense", "equal KV", "equal compute"), strict=True))
EXCLUDED = [f"{key}_excluded" for key in AGAINST]
_TOKENS = ("frames", "tokens_selected", "kv_tokens", "kv_mb", "tflops")
_TIMES = ("ttft_s", *(f"{stage}_s" for stage in STAGES[:-1]), "peak_mb", "seconds")  # total: TTFT and generate


def scores(rows: pd.DataFrame) -> pd.DataFrame:
    """Accuracy, the protocol's own average, and how many questions they rest on."""
    found = _names(rows)
    found[ACCURACY["accuracy"].title] = [_share(*pair) for pair in _pairs(rows, "accuracy", "ci_half_width")]
    average = next(filter(None, rows["average"]), "micro")
    if average != "micro":  # which is the accuracy beside it
        found[f"{average} (%)"] = [number(value, 1) for value in rows["average_accuracy"]]
    excluded = rows[EXCLUDED].max(axis=1).fillna(0)
    counts = {"n": rows["n"], **{name: rows[name] for name in COUNTS}, DIFFERENCES["excluded"].title: excluded}
    shown = {name: values for name, values in counts.items() if name == "n" or values.any()}
    return found.assign(**{name: [str(count) for count in values] for name, values in shown.items()})


def differences(rows: pd.DataFrame, *, starred: bool) -> pd.DataFrame:
    """Δ accuracy with its CI; starred, or with p-values in columns of their own. ≈ and neither if interpolated."""
    found = _names(rows)
    for key, title in _TITLES.items():
        values = _pairs(rows, *(f"{key}_{name}" for name in ("delta_pp", "ci_low", "ci_high", "p_sign_flip_holm")))
        between = [interpolated(row, key) for row in rows.to_dict("records")]
        found[title] = [_delta(*own, starred=starred, between=b) for own, b in zip(values, between, strict=True)]
        if not starred:
            found.insert(found.shape[1], "p", [_p(delta, p) for delta, _, _, p in values], allow_duplicates=True)
    return found


def brackets(rows: pd.DataFrame) -> pd.DataFrame:
    """Each interpolated difference with what was measured on both sides of it; empty where nothing is interpolated."""
    lines = rows.to_dict("records")
    return pd.DataFrame([_bracket(row, key) for row in lines for key in EQUAL_COST if interpolated(row, key)])


def _bracket(row: dict[Hashable, Any], key: str) -> dict[str, str]:
    found = {"method": row["method"], "ratio": f"{row['ratio']:g}", "at": _TITLES[key]}
    delta = row[f"{key}_delta_pp"]
    found[DIFFERENCES["delta_pp"].title] = _delta(delta, math.nan, math.nan, math.nan, starred=False, between=True)
    for end in ("lower", "upper"):
        title = PAPER[f"{end}_ratio"].title
        found[title] = f"{row[f'{key}_{end}_ratio']:g}"
        found[f"vs. {title}"] = delta_and_ci(
            *(row[f"{key}_{end}_{name}"] for name in ("delta_pp", "ci_low", "ci_high"))
        )
    return found


def _share(accuracy: float, half_width: float) -> str:
    return "–" if math.isnan(accuracy) else f"{accuracy:.1f} ± {number(half_width, 1)}"


def _delta(delta: float, low: float, high: float, p: float, *, starred: bool, between: bool = False) -> str:
    if math.isnan(delta):
        return "–"
    if between:
        return f"≈ {delta:+.1f}"
    return delta_and_ci(delta, low, high) + "*" * (starred and p < SIGNIFICANT)


def _p(delta: float, p: float) -> str:
    return "–" if math.isnan(delta) else p_value(p)


def tokens(rows: pd.DataFrame) -> pd.DataFrame:
    """What was kept, and what it took."""
    found = _names(rows)
    achieved = BUDGET["ratio_achieved"]
    found[achieved.title] = [
        achieved.text(ratio) + (" !" if off else "") for ratio, off in _pairs(rows, achieved.name, "ratio_off")
    ]
    found["n"] = [str(n) for n in rows["n"]]
    return _with(found, rows, _TOKENS)


def times(rows: pd.DataFrame) -> pd.DataFrame:
    """Seconds to the first token and of each stage, memory, and how both were measured."""
    return _with(_names(rows), rows, _TIMES)


def _with(found: pd.DataFrame, rows: pd.DataFrame, names: tuple[str, ...]) -> pd.DataFrame:
    lines = [texts(BUDGET, {str(k): v for k, v in row.items()}, names) for row in rows.to_dict("records")]
    return pd.concat([found, pd.DataFrame(lines)], axis=1)


def timed(rows: pd.DataFrame) -> pd.DataFrame | None:
    """Seconds of each method and ratio alone with their spread; None where none was timed."""
    if not (rows["seconds"] == "timed").any():
        return None
    found = pd.DataFrame(
        [spreads({str(name): value for name, value in row.items()}) for row in rows.to_dict("records")]
    )
    return pd.concat([_names(rows), found], axis=1)


def _names(rows: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame({"method": list(rows["method"]), "ratio": [f"{ratio:g}" for ratio in rows["ratio"]]})


def _pairs(rows: pd.DataFrame, *names: str) -> list[tuple[Any, ...]]:
    return list(zip(*(rows[name] for name in names), strict=True))
