"""The two compact tables: one row per method and ratio, one pair of tables per setup."""

from __future__ import annotations

from textwrap import fill
from typing import TYPE_CHECKING, Any

import pandas as pd

from evalkit.analysis.grid import seconds
from evalkit.analysis.grid.costs import spent
from evalkit.analysis.grid.grouping import KEYS, NamedRun, Row, by_setup, rows
from evalkit.analysis.tables.accuracy import COUNTS
from evalkit.analysis.tables.formatting import column_names, head_lines, number, render, setup_line, significant

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evalkit.runs.load import Run

_ACCURACY_CAPTION = """
The first column of a benchmark is the protocol's own average. ± is half the 95 % interval of the micro accuracy (every
question counts once), clustered by video. n counts scored questions: failed ones are left out of every percentage.
"""
_REPEATED_CAPTION = "repeated counts replies that are one token over and over, up to the limit of new tokens.\n"

_TOKENS: dict[str, tuple[str, int | None]] = {  # title, decimals; None: three significant digits
    "frames": ("frames", 1),
    "tokens_encoded": ("encoded", 0),
    "tokens_selected": ("selected", 0),
    "llm_tokens_fed": ("LLM", 0),
    "kv_tokens": ("KV", 1),
    "kv_mb": ("KV MB", 2),
    "tflops": ("TFLOPs", None),
}
_TIMES: dict[str, tuple[str, int | None]] = {
    "ttft_s": ("TTFT", 3),
    **{f"{stage}_s": (stage, 3) for stage in seconds.STAGES[:-1]},  # the total is TTFT and generate
    "peak_mb": ("peak MB", 0),
}

_BUDGET_CAPTION = """
Means per question over all benchmarks; n counts answered questions. ratio is nominal, achieved is counted: visual KV
entries at answer time as a share of the dense run. encoded and selected count visual tokens, LLM counts all tokens fed
to it, text and scoring passes included. KV counts visual entries per layer and KV MB their bytes in all layers, at
answer time. TFLOPs are 10¹² operations of matrix products, vision encoder included. TTFT is the time to the first
token: all stages but generating. TTFT and stages are in seconds. TFLOPs count work that questions share in full for
each. peak MB is the highest of all questions.
"""
_OFF_CAPTION = "! achieved differs from nominal by more than 2 % on a benchmark.\n"


def accuracy_section(runs: Sequence[Run], scores: pd.DataFrame) -> str:
    """The accuracy table with its head lines and caption; `scores` is the long table of the same runs."""
    parts = ["# Accuracy (percent)\n"]
    for setup, members in by_setup(runs).items():
        parts += [setup_line(setup), head_lines(members), _accuracy_table(members, scores)]
    return "\n".join(parts) + _ACCURACY_CAPTION + (_REPEATED_CAPTION if scores["repeated"].any() else "")


def budget_section(runs: Sequence[Run], spending: pd.DataFrame) -> str:
    """The token-budget table: tokens, then seconds and memory of the same rows, then the spread of timed seconds."""
    parts = ["# Token budget\n"]
    off = spending[spending["ratio_off"] & (spending["group"] == "all")]
    missed = set(off[list(KEYS[2:])].itertuples(index=False, name=None))
    for setup, members in by_setup(runs).items():
        marked = {(method, ratio) for *other, method, ratio in missed if tuple(other) == setup}
        parts += [setup_line(setup), *_budget_tables(members, marked)]
    ways = seconds.caption(spending.loc[spending["group"] == "all", "seconds"])
    measured = fill(ways, 120) + "\n" if ways else ""
    return "\n".join(parts) + _BUDGET_CAPTION + measured + (_OFF_CAPTION if missed else "")


def _head(row: Row) -> dict[str, str]:
    return {"method": row[0], "ratio": f"{row[1]:g}"}


def _accuracy_table(members: Sequence[NamedRun], scores: pd.DataFrame) -> str:
    own = dict(list(scores.groupby(list(KEYS), sort=False)))
    names = column_names(members)
    cells: dict[Row, dict[str, dict[str, str]]] = {}  # row → benchmark's name → column → text
    counts: list[dict[str, int]] = []
    for row, parts in rows(members).items():
        frames = {names[part.run.label, part.run.split]: own[tuple(part.key.values())] for part in parts}
        cells[row] = {name: _cells(frame, name) for name, frame in frames.items()}
        counts.append(_counts(list(frames.values())))
    columns = list(
        dict.fromkeys(column for name in names.values() for row in cells.values() for column in row.get(name, ()))
    )
    texts = [_head(row) | _fill(columns, cells[row]) for row in cells]
    shown = [name for name in ("n", *COUNTS) if name == "n" or any(count[name] for count in counts)]
    return render(
        pd.DataFrame([t | {name: str(c[name]) for name in shown} for t, c in zip(texts, counts, strict=True)])
    )


def _cells(scores: pd.DataFrame, name: str) -> dict[str, str]:
    """Column → text for one run. The interval stands beside the micro accuracy, to which it belongs."""
    averages = scores[scores["group"] == "average"]
    means = {
        mean.removesuffix(" (official)"): percent
        for mean, percent in averages[["value", "percent"]].itertuples(index=False)
    }
    overall = scores[scores["group"] == "all"].iloc[0]
    if means and "micro" not in means:
        means["micro"] = overall["percent"]
    half = f" ± {number(overall['half_width'], 1)}"
    return {f"{name} {mean}": number(p, 1) + (half if mean == "micro" else "") for mean, p in means.items()}


def _fill(columns: Sequence[str], cells: dict[str, dict[str, str]]) -> dict[str, str]:
    found = {column: text for texts in cells.values() for column, text in texts.items()}
    return {column: found.get(column, "–") for column in columns}


def _counts(scores: Sequence[pd.DataFrame]) -> dict[str, int]:
    overall = pd.concat([frame[frame["group"] == "all"] for frame in scores])
    return {name: int(overall[name].sum()) for name in ("n", *COUNTS)}


def _budget_tables(members: Sequence[NamedRun], marked: set[Row]) -> list[str]:
    tokens, times, timed = [], [], []
    for row, parts in rows(members).items():
        runs = [part.run for part in parts]
        means = spent([answer for run in runs for answer in run.answers], row[1], seconds.of(runs))
        achieved = number(means["ratio_achieved"], 3) + (" !" if row in marked else "")
        tokens.append(_head(row) | {"achieved": achieved, "n": str(means["n"])} | _numbers(means, _TOKENS))
        times.append(_head(row) | _numbers(means, _TIMES) | {"seconds": means["seconds"] or "–"})
        timed.append(_head(row) | seconds.spreads(means))
    shown = [tokens, times, timed] if any(row["seconds"] == "timed" for row in times) else [tokens, times]
    return [render(pd.DataFrame(texts)) for texts in shown]


def _numbers(means: dict[str, Any], columns: dict[str, tuple[str, int | None]]) -> dict[str, str]:
    return {
        title: significant(means[name]) if decimals is None else number(means[name], decimals)
        for name, (title, decimals) in columns.items()
    }
