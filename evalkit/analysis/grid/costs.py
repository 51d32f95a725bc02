"""What answers spent, as means per question: the measures of the token-budget table."""

from __future__ import annotations

import math
from statistics import fmean
from typing import TYPE_CHECKING, Any

from evalkit.analysis.grid.grouping import KEYS
from evalkit.analysis.grid.seconds import MB, QUARTILES, SECONDS, columns

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from evalkit.ledger import Ledger, Seconds, Timing
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
    "tokens_represented": lambda spent: math.nan if spent.tokens_represented is None else spent.tokens_represented,
    "llm_tokens_fed": lambda spent: spent.llm_tokens_fed,
    "kv_tokens": lambda spent: fmean(spent.kv_tokens_per_layer) if spent.kv_tokens_per_layer else 0.0,
    "separators": lambda spent: spent.kv_separators,
    "kv_mb": lambda spent: spent.kv_bytes / MB,
    "ratio_achieved": lambda spent: spent.ratio_achieved,
    "tflops": lambda spent: math.nan if spent.flops is None else math.fsum(vars(spent.flops).values()) / TERA,
    **{name: _of(stage) for name, stage in SECONDS.items()},
}

MEASURED = ("seconds", "timed_n", *(name for pair in QUARTILES.values() for name in pair))  # how seconds were, and n
MEANS = ("n", *MEASURES, "ratio_off", "peak_mb", *MEASURED)
COLUMNS = (*KEYS, "group", "value", *MEANS)


def mean_costs(answers: Sequence[Answer], ratio: float, timings: Sequence[Timing] | None = None) -> dict[str, Any]:
    """Mean of every measure over the answers that did not fail; nan where there are none.

    `n` counts the answers; units: `kv_tokens` visual entries a layer, `*_mb` 10⁶ bytes, `*_s` seconds. `ratio_off`
    marks an achieved ratio more than 2 % away from the nominal `ratio`. Seconds and peak memory are those of `timings`,
    where the run was timed. Else they are the answers', and `seconds` says whether these were given alone or shared
    work.
    """
    ledgers = [answer.ledger for answer in answers if answer.ledger is not None and answer.status != "failed"]
    # of lists, as fmean counts what has no length one by one
    means = {
        name: fmean([measure(one) for one in ledgers]) if ledgers else math.nan for name, measure in MEASURES.items()
    }
    peak = max((ledger.peak_bytes / MB for ledger in ledgers), default=math.nan)
    found: dict[str, Any] = {
        "n": len(ledgers),
        **means,
        "ratio_off": _off(means["ratio_achieved"], ratio),
        "peak_mb": peak,
    }
    found |= {**dict.fromkeys(MEASURED, math.nan), "seconds": _sharing(ledgers), "timed_n": 0}
    return found if timings is None else found | columns(timings)


def _sharing(ledgers: Sequence[Ledger]) -> str:
    if not ledgers:
        return ""
    return "shared" if any(ledger.seconds_shared for ledger in ledgers) else "alone"


def _off(achieved: float, nominal: float) -> bool:
    """A control that spends nothing has no ratio to miss; nan compares as not off."""
    return achieved != 0 and abs(achieved / nominal - 1) > TOLERANCE
