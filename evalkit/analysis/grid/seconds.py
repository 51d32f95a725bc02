"""How seconds were measured, and what timing.jsonl says: an operating point alone, stage by stage, with its spread."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import numpy as np

from evalkit.analysis.tables.formatting import number
from evalkit.errors import DataError
from evalkit.ledger import Seconds, Timing
from evalkit.runs.parse_answer import need, optional, seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from evalkit.runs.load import Run

STAGES = (*(stage.name for stage in fields(Seconds)), "total")
SECONDS: dict[str, Callable[[Seconds], float]] = {
    "ttft_s": lambda spent: math.fsum(vars(spent).values()) - spent.generate,
    "decode_s": lambda spent: spent.decode,
    "encode_s": lambda spent: spent.encode,
    "select_s": lambda spent: spent.select,
    "prefill_s": lambda spent: spent.prefill,
    "generate_s": lambda spent: spent.generate,
    "total_s": lambda spent: math.fsum(vars(spent).values()),
}
QUARTILES = {name: (name.replace("_s", "_q1_s"), name.replace("_s", "_q3_s")) for name in SECONDS}
_SPREAD = {"TTFT": "ttft_s", "generate": "generate_s", "total": "total_s"}
MB = 1e6  # bytes

SAID = {  # what the column `seconds` holds -> what it means
    "shared": "shared: means per question, of work shared with other methods, ratios or questions, so that seconds and "
    "peak MB depend on these and are not comparable between rows (timing=N measures each row alone)",
    "alone": "alone: no work was shared; means per question",
    "timed": "timed: each row alone and warm, on the same videos for all; medians, in brackets the quartiles",
}

Key = tuple[Any, ...]  # a video that was timed, and the conditions


def read(rows: Iterable[tuple[str, dict[str, Any]]]) -> tuple[Timing, ...]:
    """The measurements of one run from the lines of its timing.jsonl, each with its place in the file.

    Those that belong to the last line's: under the same conditions, and of as many videos. The last one of a question
    counts; failed ones are left out. Raises DataError for a malformed line.
    """
    found = [_timing(row, where) for where, row in rows]
    own = [t for t in found if (t.videos, t.conditions) == (found[-1].videos, found[-1].conditions)]
    last = {timing.question_id: timing for timing in own}
    return tuple(last[name] for name in sorted(last) if last[name].status == "ok")


def _timing(row: dict[str, Any], where: str) -> Timing:
    status = need(row, "status", str, where)
    spent = optional(row, "seconds", dict, where)
    if status not in ("ok", "failed") or (status == "ok") != (spent is not None):
        raise DataError(f"{where}: expected status ok with seconds, or failed with null; came {status = }. Remove it.")
    return Timing(
        status=status,
        ratio=float(need(row, "ratio", (int, float), where)),
        error=optional(row, "error", str, where),
        duration_s=optional(row, "duration_s", (int, float), where),
        seconds=None if spent is None else seconds(spent, f"{where}: seconds"),
        peak_bytes=optional(row, "peak_bytes", int, where),
        videos=need(row, "videos", int, where),
        conditions=need(row, "conditions", dict, where),
        **{key: need(row, key, str, where) for key in ("benchmark", "video_id", "question_id", "method")},
    )


def of(runs: Iterable[Run]) -> list[Timing] | None:
    """The measurements of several runs together; None where one of them was not timed."""
    found = [run.timings for run in runs]
    return [timing for own in found for timing in own] if all(found) else None


def keys(runs: Iterable[Run]) -> frozenset[Key]:
    """What was timed, and under which conditions: seconds are compared only where these agree."""
    return frozenset(
        (run.label, run.split, timing.video_id, timing.question_id, *sorted(map(str, timing.conditions.items())))
        for run in runs
        for timing in run.timings
    )


def columns(timings: Sequence[Timing]) -> dict[str, Any]:
    """Median and quartiles of every stage, and the highest peak; nan where nothing was measured."""
    measured = [timing.seconds for timing in timings if timing.seconds is not None]
    row: dict[str, Any] = {"seconds": "timed", "timed_n": len(measured)}
    for name, stage in SECONDS.items():
        values = [stage(one) for one in measured] or [math.nan]
        places = (QUARTILES[name][0], name, QUARTILES[name][1])
        row |= dict(zip(places, map(float, np.quantile(values, (0.25, 0.5, 0.75))), strict=True))
    peaks = [timing.peak_bytes / MB for timing in timings if timing.peak_bytes is not None]
    return row | {"peak_mb": max(peaks, default=math.nan)}


def spreads(row: Mapping[str, Any]) -> dict[str, str]:
    """Median and quartiles as texts, by title; as many stages as fit a page. Dashes where a row was not timed."""
    timed = row["seconds"] == "timed"
    texts = {"videos": str(row["timed_n"]) if timed else "–"}
    for title, name in _SPREAD.items():
        low, high = (number(row[end], 3) for end in QUARTILES[name])
        texts[title] = f"{number(row[name], 3)} [{low}, {high}]" if timed else "–"
    return texts


def caption(ways: Iterable[str]) -> str:
    """What the values of the column `seconds` mean, of those that a table has."""
    present = set(ways)
    found = [said for name, said in SAID.items() if name in present]
    return f"seconds says how they were measured – {'; '.join(found)}." if found else ""
