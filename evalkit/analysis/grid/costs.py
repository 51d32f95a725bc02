"""The token-budget table in long form: what the answers of a run spent."""

from __future__ import annotations

import math
from statistics import fmean
from typing import TYPE_CHECKING, Any

import pandas as pd

from evalkit.analysis.grid.grouping import KEYS, entries, grouped
from evalkit.analysis.grid.seconds import MB, QUARTILES, SECONDS, columns

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from evalkit.ledger import Ledger, Seconds, Timing
    from evalkit.runs.load import Run
    from evalkit.types import Answer

TOLERANCE = 0.02  # of the nominal ratio
TERA = 1e12


def _of(stage: Callable[[Seconds], float]) -> Callable[[Ledger], float]:
    return lambda spent: stage(spent.seconds)


MEASURES: dict[str, Callable[[Ledger], float]] = {
    "frames": lambda spent: spent.frames_decoded,
    "cells": lambda spent: spent.cells,
    "tokens_encoded": lambda spent: spent.tokens_encoded,
    "tokens_selected": lambda spent: spent.tokens_selected,
    "llm_tokens_fed": lambda spent: spent.llm_tokens_fed,
    "kv_tokens": lambda spent: fmean(spent.kv_tokens_per_layer) if spent.kv_tokens_per_layer else 0.0,
    "kv_mb": lambda spent: spent.kv_bytes / MB,
    "ratio_achieved": lambda spent: spent.ratio_achieved,
    "tflops": lambda spent: math.nan if spent.flops is None else math.fsum(vars(spent.flops).values()) / TERA,
    **{name: _of(stage) for name, stage in SECONDS.items()},
}

MEASURED = ("seconds", "timed_n", *(name for pair in QUARTILES.values() for name in pair))  # how seconds were, and n
SPENT = ("n", *MEASURES, "ratio_off", "peak_mb", *MEASURED)
COLUMNS = (*KEYS, "group", "value", *SPENT)


def budget(runs: Sequence[Run]) -> pd.DataFrame:
    """One row per run × ("all" or duration bucket): means over its answered questions, and the peak memory.

    `n` counts the questions that were answered; failed ones spent nothing that could be compared. Units: `kv_tokens`
    visual entries a layer, `*_mb` 10⁶ bytes, `*_s` seconds, which `seconds` says more about: "timed" ones are medians
    of `timed_n` videos. `ratio_off` marks an achieved ratio more than 2 % away from the nominal `ratio`.
    """
    rows = [
        entry.key | {"group": kind, "value": label} | spent(answers, entry.run.ratio, _timed(entry.run, answers))
        for entry in entries(runs)
        for (kind, label), answers in grouped(entry.run.answers, ("duration",)).items()
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _timed(run: Run, answers: Sequence[Answer]) -> list[Timing] | None:
    """The measurements on these questions; None where the run was not timed at all."""
    asked = {answer.question_id for answer in answers}
    return [timing for timing in run.timings if timing.question_id in asked] if run.timings else None


def spent(answers: Sequence[Answer], ratio: float, timings: Sequence[Timing] | None = None) -> dict[str, Any]:
    """Mean of every measure over the answers that were not lost; nan where none is left.

    Seconds and peak memory are those of `timings`, where the run was timed. Else they are the answers', and `seconds`
    says whether these were given alone or shared work.
    """
    ledgers = [answer.ledger for answer in answers if answer.ledger is not None and answer.status != "failed"]
    means = {name: fmean(map(measure, ledgers)) if ledgers else math.nan for name, measure in MEASURES.items()}
    peak = max((ledger.peak_bytes / MB for ledger in ledgers), default=math.nan)
    found: dict[str, Any] = {
        "n": len(ledgers),
        **means,
        "ratio_off": _off(means["ratio_achieved"], ratio),
        "peak_mb": peak,
    }
    found |= {**dict.fromkeys(MEASURED, math.nan), "seconds": _way(ledgers), "timed_n": 0}
    return found if timings is None else found | columns(timings)


def _way(ledgers: Sequence[Ledger]) -> str:
    if not ledgers:
        return ""
    return "shared" if any(ledger.seconds_shared for ledger in ledgers) else "alone"


def _off(achieved: float, nominal: float) -> bool:
    """A control that spends nothing has no ratio to miss; nan compares as not off."""
    return achieved != 0 and abs(achieved / nominal - 1) > TOLERANCE
