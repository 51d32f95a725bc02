"""What a question costs where the work on its video is divided among all questions about it.

A question's cost is what it needs alone plus an equal part of what all questions about the video need: decoding,
encoding, and, unless the method looks at the question, the choice of tokens and the prefill. Costs apportioned so
depend on how many questions a video has, and compare only with those of the same questions.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from evalkit.analysis.grid.costs import TERA

if TYPE_CHECKING:
    from collections.abc import Iterable

    from evalkit.analysis.grid.measured_points import MeasuredPoint
    from evalkit.ledger import Ledger


@dataclass(frozen=True, kw_only=True)
class Amortised:
    """Per question, beside the full costs; nan where answers do not say what was theirs alone."""

    questions_per_video: float
    tflops: float
    tflops_amortised: float
    seconds: float  # all stages; mean over answers, or median over the videos that were timed
    seconds_amortised: float
    how: str  # the seconds were measured: shared, alone, timed; "" where nothing was answered


def amortised(point: MeasuredPoint) -> Amortised:
    """Costs of a point over its answered questions."""
    spent = [
        (point.video(key), answer.ledger)
        for key, answer in point.answers.items()
        if answer.ledger is not None and answer.status != "failed"
    ]
    asked = Counter(video for video, _ in spent)
    costs = point.mean_costs
    flops = [_flops(ledger, asked[video]) for video, ledger in spent]
    full, own = _seconds(point, spent, asked)
    return Amortised(
        questions_per_video=len(spent) / len(asked) if asked else math.nan,
        tflops=float(costs["tflops"]),
        tflops_amortised=_mean(flops) / TERA,
        seconds=full,
        seconds_amortised=own,
        how=str(costs["seconds"]),
    )


def apportioned(total: float, own: float | None, questions: int) -> float:
    """`own` and an equal part of the rest of `total`; nan where it is not known."""
    return math.nan if own is None or not questions else own + (total - own) / questions


def _flops(ledger: Ledger, questions: int) -> float:
    if ledger.flops is None:
        return math.nan
    return apportioned(sum(vars(ledger.flops).values()), ledger.own_flops, questions)


def _seconds(
    point: MeasuredPoint, spent: Iterable[tuple[tuple[str, str, str], Ledger]], asked: Counter[tuple[str, str, str]]
) -> tuple[float, float]:
    """Full and apportioned: medians of what was timed alone, else means over the answers."""
    if point.mean_costs["seconds"] == "timed":
        timed = [
            (one.seconds.total, one.own_seconds, asked[part.run.label, part.run.split, one.video_id])
            for part in point.parts
            for one in part.run.timings
            if one.seconds is not None
        ]
        return _median([total for total, *_ in timed]), _median([apportioned(*one) for one in timed])
    answers = [(ledger.seconds.total, ledger.own_seconds, asked[video]) for video, ledger in spent]
    return _mean([total for total, *_ in answers]), _mean([apportioned(*one) for one in answers])


def _median(values: list[float]) -> float:
    return median(values) if values and not any(map(math.isnan, values)) else math.nan


def _mean(values: list[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan
