"""The token-budget table in long form: what the answers of a run spent."""

from __future__ import annotations

import math
from dataclasses import fields
from statistics import fmean
from typing import TYPE_CHECKING, Any

import pandas as pd

from evalkit.evidence.groups import KEYS, entries, grouped
from evalkit.ledger import Seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from evalkit.evidence.answers import Run
    from evalkit.ledger import Ledger
    from evalkit.types import Answer

TOLERANCE = 0.02  # of the nominal ratio
MB = 1e6  # bytes
TERA = 1e12
STAGES = (*(stage.name for stage in fields(Seconds)), "total")

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
    "ttft_s": lambda spent: math.fsum(vars(spent.seconds).values()) - spent.seconds.generate,
    "decode_s": lambda spent: spent.seconds.decode,
    "encode_s": lambda spent: spent.seconds.encode,
    "select_s": lambda spent: spent.seconds.select,
    "prefill_s": lambda spent: spent.seconds.prefill,
    "generate_s": lambda spent: spent.seconds.generate,
    "total_s": lambda spent: math.fsum(vars(spent.seconds).values()),
}

COLUMNS = (*KEYS, "group", "value", "n", *MEASURES, "ratio_off", "peak_mb")


def budget(runs: Sequence[Run]) -> pd.DataFrame:
    """One row per run × ("all" or duration bucket): means over its answered questions, and the peak memory.

    `n` counts the questions that were answered; failed ones spent nothing that could be compared. Units: `kv_tokens`
    visual entries a layer, `*_mb` 10⁶ bytes, `*_s` seconds a question with shared work counted in full each time.
    `ratio_off` marks an achieved ratio more than 2 % away from the nominal `ratio`.
    """
    rows = [
        entry.key | {"group": kind, "value": label} | spent(answers, entry.run.ratio)
        for entry in entries(runs)
        for (kind, label), answers in grouped(entry.run.answers, ("duration",)).items()
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def spent(answers: Sequence[Answer], ratio: float) -> dict[str, Any]:
    """Mean of every measure over the answers that were not lost; nan where none is left."""
    ledgers = [answer.ledger for answer in answers if answer.ledger is not None and answer.status != "failed"]
    means = {name: fmean(map(measure, ledgers)) if ledgers else math.nan for name, measure in MEASURES.items()}
    peak = max((ledger.peak_bytes / MB for ledger in ledgers), default=math.nan)
    return {"n": len(ledgers), **means, "ratio_off": _off(means["ratio_achieved"], ratio), "peak_mb": peak}


def _off(achieved: float, nominal: float) -> bool:
    """A control that spends nothing has no ratio to miss; nan compares as not off."""
    return achieved != 0 and abs(achieved / nominal - 1) > TOLERANCE
