"""The two compact tables: one row per method and ratio, one pair of tables per setup."""

from __future__ import annotations

from textwrap import fill
from typing import TYPE_CHECKING, Any

import pandas as pd

from evalkit.analysis.grid import seconds
from evalkit.analysis.grid.grouping import KEYS, NamedRun, Row, rows
from evalkit.analysis.tables.accuracy import COUNTS
from evalkit.analysis.tables.columns import BUDGET, texts
from evalkit.analysis.tables.formatting import column_names, head_lines, number, render, setup_line

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from evalkit.analysis.grid.measured_points import MeasuredPoint
    from evalkit.analysis.results import Results

_ACCURACY_CAPTION = """
The first column of a benchmark is the protocol's own average. ± is half the 95 % CI of the micro accuracy (every
question counts once), clustered by video. n counts scored questions: failed ones are excluded from every percentage.
"""
_VACUOUS_MARK = " °"
_VACUOUS_CAPTION = """\
° acts after the whole prompt was read: a reply's first token, and with it a letter, is the dense run's at any ratio.
"""
_REPEATED_CAPTION = "repeated counts replies that are one token over and over, up to the limit of new tokens.\n"

_TOKENS = ("frames", "tokens_encoded", "tokens_selected", "llm_tokens_fed", "kv_tokens", "kv_mb", "tflops")
_TIMES = ("ttft_s", *(f"{stage}_s" for stage in seconds.STAGES[:-1]), "peak_mb", "seconds")  # total: TTFT and generate
_SPREADS = ("ttft_s", "generate_s", "total_s")  # as many as fit a page

_BUDGET_CAPTION = """
Means per question over all benchmarks; n counts answered questions. ratio is nominal, achieved is counted: visual KV
entries at answer time as a share of the dense run. encoded are visual tokens that left the encoder, selected those
handed to the LLM, LLM all tokens that were fed to it, text and scoring passes included. KV counts visual entries per
layer and KV MB their bytes in all layers, at answer time. TFLOPs are 10¹² operations of matrix products, vision encoder
included; they count work that questions share in full for each. TTFT is the time to the first token: all stages but
generating. TTFT and stages are in seconds. peak MB is the highest of all questions.
"""
_OFF_CAPTION = "! achieved differs from nominal by more than 2 % on a benchmark.\n"


def accuracy_section(results: Results) -> str:
    """The accuracy table with its head lines and caption."""
    parts, scores = ["# Accuracy (percent)\n"], results.accuracy
    for setup, members in results.setups.items():
        parts += [setup_line(setup), head_lines(members), _accuracy_table(members, scores)]
    vacuous = any(member.run.vacuous for members in results.setups.values() for member in members)
    captions = (_REPEATED_CAPTION if scores["repeated"].any() else "") + (_VACUOUS_CAPTION if vacuous else "")
    return "\n".join(parts) + _ACCURACY_CAPTION + captions


def budget_section(results: Results) -> str:
    """The token-budget table: tokens, then seconds and memory of the same rows, then the spread of timed seconds."""
    parts, costs = ["# Token budget\n"], results.budget
    off = costs[costs["ratio_off"] & (costs["group"] == "all")]
    missed = set(off[list(KEYS[2:])].itertuples(index=False, name=None))
    for setup, points in results.points.items():
        flagged = {(method, ratio) for *other, _, method, ratio in missed if tuple(other) == setup}
        parts += [setup_line(setup), *_budget_tables(points, flagged)]
    meanings = seconds.caption(costs.loc[costs["group"] == "all", "seconds"])
    measured = fill(meanings, 120) + "\n" if meanings else ""
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
    late = {row for row, parts in rows(members).items() if parts[0].run.vacuous}
    heads = [_head((row[0] + _VACUOUS_MARK if row in late else row[0], row[1])) for row in cells]
    lines = [head | _fill(columns, cells[row]) for head, row in zip(heads, cells, strict=True)]
    shown = [name for name in ("n", *COUNTS) if name == "n" or any(count[name] for count in counts)]
    return render(
        pd.DataFrame([t | {name: str(c[name]) for name in shown} for t, c in zip(lines, counts, strict=True)])
    )


def _cells(scores: pd.DataFrame, name: str) -> dict[str, str]:
    """Column → text for one run. The interval stands beside the micro accuracy, to which it belongs."""
    averages = scores[scores["group"] == "average"]
    means = {
        mean.removesuffix(" (official)"): percent
        for mean, percent in averages[["value", "accuracy"]].itertuples(index=False)
    }
    overall = scores[scores["group"] == "all"].iloc[0]
    if means and "micro" not in means:
        means["micro"] = overall["accuracy"]
    half = f" ± {number(overall['ci_half_width'], 1)}"
    return {f"{name} {mean}": number(p, 1) + (half if mean == "micro" else "") for mean, p in means.items()}


def _fill(columns: Sequence[str], cells: dict[str, dict[str, str]]) -> dict[str, str]:
    found = {column: text for texts in cells.values() for column, text in texts.items()}
    return {column: found.get(column, "–") for column in columns}


def _counts(scores: Sequence[pd.DataFrame]) -> dict[str, int]:
    overall = pd.concat([frame[frame["group"] == "all"] for frame in scores])
    return {name: int(overall[name].sum()) for name in ("n", *COUNTS)}


def _budget_tables(points: Sequence[MeasuredPoint], flagged: set[Row]) -> list[str]:
    tokens, times, timed = [], [], []
    for point in points:
        row, means = (point.method, point.ratio), point.mean_costs
        achieved = BUDGET["ratio_achieved"].text(means["ratio_achieved"]) + (" !" if row in flagged else "")
        tokens.append(_head(row) | {"achieved": achieved, "n": str(means["n"])} | texts(BUDGET, means, _TOKENS))
        times.append(_head(row) | texts(BUDGET, means, _TIMES))
        timed.append(_head(row) | spreads(means))
    shown = [tokens, times, timed] if any(row["seconds"] == "timed" for row in times) else [tokens, times]
    return [render(pd.DataFrame(rows)) for rows in shown]


def spreads(row: Mapping[str, Any]) -> dict[str, str]:
    """Median and quartiles as texts, by heading. Dashes where a row was not timed."""
    timed = row["seconds"] == "timed"
    found = {BUDGET["timed_n"].title: str(row["timed_n"]) if timed else "–"}
    for name in _SPREADS:
        median, low, high = (BUDGET[name].text(row[own]) for own in (name, *seconds.QUARTILES[name]))
        found[BUDGET[name].title] = f"{median} [{low}, {high}]" if timed else "–"
    return found
