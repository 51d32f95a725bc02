"""The columns of a paper's tables as texts, for Markdown and LaTeX alike: frames that begin with method and ratio."""

from __future__ import annotations

import math
from collections.abc import Hashable
from typing import Any

import pandas as pd

from evalkit.analysis.grid.seconds import STAGES, spreads
from evalkit.analysis.tables.accuracy import COUNTS
from evalkit.analysis.tables.formatting import change, number, p_value, significant
from evalkit.analysis.tables.grid_rows import AGAINST, EQUAL_COST, interpolated

SIGNIFICANT = 0.05
NAMES = ("method", "ratio")
_TITLES = dict(zip(AGAINST, ("dense", "equal KV", "equal compute"), strict=True))
LEFT_OUT = [f"{key}_left_out" for key in AGAINST]
_TOKENS = {
    "frames": ("frames", 1),
    "tokens_selected": ("visual tokens", 0),
    "kv_tokens": ("KV", 1),
    "kv_mb": ("KV MB", 2),
}


def scores(rows: pd.DataFrame) -> pd.DataFrame:
    """Accuracy, the protocol's own average, and how many questions they rest on."""
    texts = _names(rows)
    texts["accuracy"] = [_share(*pair) for pair in _pairs(rows, "percent", "half_width")]
    average = next(filter(None, rows["average"]), "micro")
    if average != "micro":  # which is the accuracy beside it
        texts[average] = [number(p, 1) for p in rows["average_percent"]]
    texts["exp. ±"] = [number(h, 1) for h in rows["expected_half_width"]]
    left_out = rows[LEFT_OUT].max(axis=1).fillna(0)
    counts = {"n": rows["n"], **{name: rows[name] for name in COUNTS}, "left out": left_out}
    shown = {name: values for name, values in counts.items() if name == "n" or values.any()}
    return texts.assign(**{name: [str(count) for count in values] for name, values in shown.items()})


def differences(rows: pd.DataFrame, *, starred: bool) -> pd.DataFrame:
    """Points with their interval; starred, or with p-values in columns of their own. ≈ and neither if interpolated."""
    texts = _names(rows)
    for key, title in _TITLES.items():
        gaps = _pairs(rows, *(f"{key}_{name}" for name in ("points", "low", "high", "p_flip_holm")))
        between = [interpolated(row, key) for row in rows.to_dict("records")]
        texts[title] = [_gap(*gap, starred=starred, between=b) for gap, b in zip(gaps, between, strict=True)]
        if not starred:
            texts.insert(texts.shape[1], "p", [_p(points, p) for points, _, _, p in gaps], allow_duplicates=True)
    return texts


def brackets(rows: pd.DataFrame) -> pd.DataFrame:
    """Each interpolated difference with what was measured on both sides of it; empty where nothing is interpolated."""
    lines = rows.to_dict("records")
    return pd.DataFrame([_bracket(row, key) for row in lines for key in EQUAL_COST if interpolated(row, key)])


def _bracket(row: dict[Hashable, Any], key: str) -> dict[str, str]:
    texts = {"method": row["method"], "ratio": f"{row['ratio']:g}", "at": _TITLES[key]}
    texts["points"] = _gap(row[f"{key}_points"], math.nan, math.nan, math.nan, starred=False, between=True)
    for end, title in (("lower", "cheaper"), ("upper", "dearer")):
        texts[title] = f"{row[f'{key}_{end}_ratio']:g}"
        gap = (row[f"{key}_{end}_{name}"] for name in ("points", "low", "high"))
        texts[f"from {title}"] = change(*gap)
    return texts


def _share(percent: float, half_width: float) -> str:
    return "–" if math.isnan(percent) else f"{percent:.1f} ± {number(half_width, 1)}"


def _gap(points: float, low: float, high: float, p: float, *, starred: bool, between: bool = False) -> str:
    if math.isnan(points):
        return "–"
    if between:
        return f"≈ {points:+.1f}"
    return change(points, low, high) + "*" * (starred and p < SIGNIFICANT)


def _p(points: float, p: float) -> str:
    return "–" if math.isnan(points) else p_value(p)


def tokens(rows: pd.DataFrame) -> pd.DataFrame:
    """What was kept, and what it took."""
    texts = _names(rows)
    texts["achieved"] = [
        number(ratio, 3) + (" !" if off else "") for ratio, off in _pairs(rows, "ratio_achieved", "ratio_off")
    ]
    texts["n"] = [str(n) for n in rows["n"]]
    for name, (title, decimals) in _TOKENS.items():
        texts[title] = [number(value, decimals) for value in rows[name]]
    texts["TFLOPs"] = [significant(value) for value in rows["tflops"]]
    return texts


def times(rows: pd.DataFrame) -> pd.DataFrame:
    """Seconds to the first token and of each stage, memory, and how both were measured."""
    texts = _names(rows)
    texts["TTFT"] = [number(value, 3) for value in rows["ttft_s"]]
    for stage in STAGES[:-1]:  # the total is TTFT and generate
        texts[stage] = [number(value, 3) for value in rows[f"{stage}_s"]]
    texts["peak MB"] = [number(value, 0) for value in rows["peak_mb"]]
    texts["seconds"] = [way or "–" for way in rows["seconds"]]
    return texts


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
