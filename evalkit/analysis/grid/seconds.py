"""Seconds of operating points: how they were measured, medians and quartiles of what was timed alone."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import numpy as np

from evalkit.ledger import Seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from evalkit.ledger import Timing
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
MB = 1e6  # bytes

MEANINGS = {  # what the column `seconds` holds -> what it means
    "shared": "shared: means per question, of work shared with other methods, ratios or questions, so that seconds and "
    "peak MB depend on these and are not comparable between rows (timing=N measures each row alone)",
    "alone": "alone: no work was shared; means per question",
    "timed": "timed: each row alone and warm, on the same videos for all; medians, in brackets the quartiles",
}

Key = tuple[Any, ...]  # a video that was timed, and the conditions


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


def caption(kinds: Iterable[str]) -> str:
    """What the values of the column `seconds` mean, of those that a table has."""
    present = set(kinds)
    found = [meaning for name, meaning in MEANINGS.items() if name in present]
    return f"seconds says how they were measured – {'; '.join(found)}." if found else ""
