"""What a question set's table says: the best method at each ratio, what is not significant, and of what it is.

Every number is one of the tables' (grid_rows.accuracy); nothing is computed here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from evalkit.analysis.stats.paired_tests import LEVEL
from evalkit.analysis.tables.column_texts import SIGNIFICANT
from evalkit.analysis.tables.formatting import delta_and_ci, number
from evalkit.analysis.tables.grid_rows import Row, interpolated

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from evalkit.analysis.grid.measured_points import QuestionSet

_FAILED = "answers.jsonl says why"


@dataclass(frozen=True, kw_only=True)
class Best:
    """The largest difference to the reference at equal KV among the methods at one ratio."""

    ratio: float
    row: Row
    ahead: bool  # it is above 0: else the reference is at least as good as every method


def compared(own: QuestionSet, rows: Sequence[Row]) -> list[Row]:
    """The rows held against the reference at equal KV: the methods', or the controls' where there are only these.

    Rows that repeat the reference's answers test nothing and are left out.
    """
    others = [row for row in rows if row["method"] != own.reference and not _repeats(row)]
    return [row for row in others if row["role"] != "control"] or others


def best(own: QuestionSet, rows: Sequence[Row]) -> list[Best]:
    """At each ratio the best method, ratios falling; none for a ratio where nothing has a difference at equal KV."""
    known = [row for row in compared(own, rows) if not math.isnan(row["kv_delta_pp"])]
    ranked = sorted(known, key=lambda row: (-row["ratio"], -row["kv_delta_pp"]))  # stable: equal ones in table order
    first = [next(found) for _, found in groupby(ranked, key=lambda row: row["ratio"])]
    return [Best(ratio=row["ratio"], row=row, ahead=row["kv_delta_pp"] > 0) for row in first]


def significant(row: Row) -> bool | None:
    """Whether a row differs from the reference at equal KV, by the sign-flip test after Holm; None where not tested."""
    p = row["kv_p_sign_flip_holm"]
    return None if math.isnan(p) else bool(p < SIGNIFICANT)


def sentences(own: QuestionSet, rows: Sequence[Row]) -> list[str]:
    """The best method at each ratio, what is not significant, and what the numbers are of."""
    return [_best(own, rows), *_tests(own, rows), _scope(own, rows)]


def short(own: QuestionSet, rows: Sequence[Row]) -> str:
    """The best method at each ratio without its interval; n.s. where it is not significant."""
    parts = [f"{_ahead(own, found)} at {found.ratio:g}{_doubt(found.row)}" for found in best(own, rows)]
    return "; ".join(map(_tied, parts)) or "nothing is compared at equal KV"


def _ahead(own: QuestionSet, found: Best) -> str:
    text = f"{found.row['method']} {_about(found.row)}{found.row['kv_delta_pp']:+.1f}"
    return text if found.ahead else f"{own.reference} before {text}"


def _doubt(row: Row) -> str:
    return "" if significant(row) is not False else " (n.s.)"


def _best(own: QuestionSet, rows: Sequence[Row]) -> str:
    found = "; ".join(_tied(_one_best(own, found)) for found in best(own, rows))
    if found:
        level = _tied(f"[{100 * LEVEL:.0f} % CI]")
        return f"Best at each ratio, Δ accuracy (pp) vs. {own.reference} at equal KV {level}: {found}."
    scored = [row for row in rows if row["n"]]
    if not scored:
        return f"No question has a score: {sum(row['failed'] for row in rows)} rows failed ({_FAILED})."
    if {row["method"] for row in rows} == {own.reference}:
        text = "; ".join(_tied(_accuracy(row)) for row in scored)
        return f"Only {own.reference} was run, so nothing is compared. Accuracy {_tied('[95 % CI]')}: {text}."
    if not compared(own, rows):
        return f"Every other row repeats {own.reference}'s answers, so nothing is compared."
    return f"Nothing is compared with {own.reference} at equal KV."


def _one_best(own: QuestionSet, found: Best) -> str:
    row, at = found.row, f"at {found.ratio:g}"
    return f"{_delta(row)} {at}" if found.ahead else f"{own.reference} {at} (next: {_delta(row)})"


def _delta(row: Row) -> str:
    """Between two ratios of the reference a difference has no interval."""
    name, value = row["method"], row["kv_delta_pp"]
    if not interpolated(row, "kv") and not math.isnan(row["kv_ci_low"]):
        return f"{name} {delta_and_ci(value, row['kv_ci_low'], row['kv_ci_high'])}"
    return f"{name} {_about(row)}{value:+.1f}" + ("" if _about(row) else " (one video: no CI)")


def _about(row: Row) -> str:
    return "≈ " if interpolated(row, "kv") else ""


def _accuracy(row: Row) -> str:
    ends = "" if math.isnan(row["ci_low"]) else f" [{number(row['ci_low'], 1)}, {number(row['ci_high'], 1)}]"
    return f"{number(row['accuracy'], 1)} %{ends} at {row['ratio']:g}"


def _tests(own: QuestionSet, rows: Sequence[Row]) -> list[str]:
    """At most one sentence; none where there is nothing to test."""
    there = compared(own, rows)
    between = [row for row in there if interpolated(row, "kv")]
    outside = [row for row in there if math.isnan(row["kv_delta_pp"]) and row["n"]]
    parts = [_significance([row for row in there if significant(row) is not None])]
    if between:
        parts.append(f"not tested, between two ratios of {own.reference}: {_names(between)} (matched=true runs them)")
    if outside:
        parts.append(f"not compared, KV not known or outside {own.reference}'s curve: {_names(outside)}")
    text = "; ".join(part for part in parts if part)
    return [f"{text[0].upper()}{text[1:]}."] if text else []


def _significance(tested: Sequence[Row]) -> str:
    how = _tied(f"(sign-flip test by video, Holm, {100 * SIGNIFICANT:.0f} %)")
    same = [row for row in tested if not significant(row)]
    if not tested:
        return ""
    if len(same) == len(tested):
        return f"no difference is significant {how}"
    return f"not significant {how}: {_names(same)}" if same else f"every difference is significant {how}"


def _names(rows: Iterable[Row]) -> str:
    """`retake at 0.5, 0.25; xcomp at 0.25`."""
    ratios: dict[str, list[str]] = {}
    for row in rows:
        ratios.setdefault(row["method"], []).append(f"{row['ratio']:g}")
    return "; ".join(_tied(f"{name} at {', '.join(own)}") for name, own in ratios.items())


def _scope(own: QuestionSet, rows: Sequence[Row]) -> str:
    """Of several sets the number alone: each has a line of its own, or a part of the report."""
    videos = {key: point.video(key) for point in own.points for key in point.answers}
    parts = [part.run for point in own.points for part in point.parts]
    labels = list(dict.fromkeys(f"{run.label}, {run.split}" for run in parts))
    made = [bool(run.config["benchmark"].get("generated")) for run in parts]
    shown = len({video for video in videos.values() if video[-1]})
    text = f"Of {_count(len(videos), 'question')} about {_count(shown, 'video')}: "
    text += f"{labels[0] if len(labels) == 1 else f'{len(labels)} question sets'}."
    if any(made):
        text += f" {'Generated' if all(made) else 'Partly generated'}: nothing follows for real videos."
    failed = sum(row["failed"] for row in rows)
    return text + (f" {_count(failed, 'row')} failed, in no number ({_FAILED})." if failed else "")


def _repeats(row: Row) -> bool:
    """The same inputs and replies as the reference's: it has a p-value that does not count in the correction."""
    return math.isnan(row["kv_p_sign_flip_holm"]) and not math.isnan(row["kv_p_sign_flip"])


def _tied(text: str) -> str:
    """On one line wherever lines are broken."""
    return text.replace(" ", "\N{NO-BREAK SPACE}")


def _count(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
