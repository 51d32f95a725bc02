"""The numbers of a question set's compression table: one row per method and ratio; nan where not measured."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pandas as pd

from evalkit.analysis.grid.amortised import amortised
from evalkit.analysis.grid.evidence_recall import Evidence
from evalkit.analysis.grid.hard_kinds import hard_questions
from evalkit.analysis.grid.option_margins import margin_difference, mean_margin
from evalkit.analysis.stats import accuracy_interval
from evalkit.analysis.stats.clustered_mean import clustered_mean
from evalkit.analysis.tables.columns import COMPRESSION
from evalkit.analysis.tables.grid_rows import NAMES, names

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evalkit.analysis.grid.measured_points import Key, MeasuredPoint, QuestionSet
    from evalkit.analysis.stats.accuracy_interval import Interval
    from evalkit.analysis.stats.clustered_mean import ClusteredMean

COLUMNS = (*NAMES, *COMPRESSION)
_COUNTS = [
    name for name, column in COMPRESSION.items() if column.unit in ("questions", "videos") and column.decimals == 0
]


def rows(found: QuestionSet, evidence: Evidence) -> pd.DataFrame:
    """Of every point of a set; `evidence` is one for all sets."""
    hard = {point.ratio: _hard_questions(found, point.ratio) for point in found.points}
    own = [
        names(found, point)
        | _evidence(found, point, evidence)
        | _hard(found, point, hard[point.ratio])
        | _margins(found, point)
        | _costs(point)
        for point in found.points
    ]
    return pd.DataFrame(own, columns=list(COLUMNS)).astype(dict.fromkeys(_COUNTS, "Int64"))


def _mean(name: str, mean: ClusteredMean) -> dict[str, float]:
    return {name: mean.mean, f"{name}_low": mean.low, f"{name}_high": mean.high}


def _within(percents: dict[str, float]) -> dict[str, float]:
    """An interval of a share ends where shares do; nan stays."""
    return {name: value if math.isnan(value) else min(100.0, max(0.0, value)) for name, value in percents.items()}


def _share(name: str, interval: Interval) -> dict[str, float]:
    return {name: interval.percent, f"{name}_low": interval.low, f"{name}_high": interval.high}


def _evidence(found: QuestionSet, point: MeasuredPoint, evidence: Evidence) -> dict[str, Any]:
    recall = None if found.dense is None else evidence.recall(point, found.dense)
    if recall is None:
        return {}
    return {
        "evidence_n": recall.share.n,
        "evidence_unseen": recall.unseen,
        **_within(_mean("evidence_share", recall.share)),
        "evidence_chance": recall.chance,
        **_mean("evidence_above_pp", recall.above),
        **_share("evidence_hit", recall.hit),
        "evidence_hit_chance": recall.hit_chance,
    }


def _hard_questions(found: QuestionSet, ratio: float) -> frozenset[Key]:
    """None at the dense run's own ratio: the reference loses nothing there."""
    reference = found.at(found.reference, ratio)
    if reference is None or found.dense is None or reference is found.dense:
        return frozenset()
    return frozenset(hard_questions(reference, found.dense))


def _hard(found: QuestionSet, point: MeasuredPoint, hard: frozenset[Key]) -> dict[str, Any]:
    keys = [key for key in point.scored if key in hard]
    if not keys:
        return {}
    own = accuracy_interval.accuracy([point.scored[key] for key in keys], [point.video(key) for key in keys])
    values = {"hard_n": own.n, "hard_videos": own.clusters, **_share("hard_accuracy", own)}
    values["hard_dense"] = _percent(found.dense, keys)
    reference = found.at(found.reference, point.ratio)
    return values | ({} if reference is None or reference is point else _against(point, reference, keys))


def _percent(point: MeasuredPoint | None, keys: Sequence[Key]) -> float:
    scores = [] if point is None else [point.scored[key] for key in keys if key in point.scored]
    return 100 * sum(scores) / len(scores) if scores else math.nan


def _against(ours: MeasuredPoint, theirs: MeasuredPoint, keys: Sequence[Key]) -> dict[str, float]:
    both = [key for key in keys if key in theirs.scored]
    gaps = [100.0 * (int(ours.scored[key]) - int(theirs.scored[key])) for key in both]
    return _mean("hard_delta_pp", clustered_mean(gaps, [ours.video(key) for key in both]))


def _margins(found: QuestionSet, point: MeasuredPoint) -> dict[str, Any]:
    mean = mean_margin(point)
    if mean is None:
        return {}
    values: dict[str, Any] = {"margin_n": mean.n, **_mean("margin", mean)}
    for key, theirs in (("dense", found.dense), ("reference", found.at(found.reference, point.ratio))):
        change = None if theirs is None or theirs is point else margin_difference(point, theirs)
        if change is not None:
            values |= {f"{key}_margin_n": change.margin.n, **_mean(f"{key}_margin_delta", change.margin)}
            values |= {f"{key}_margin_z": change.margin.z, f"{key}_accuracy_z": change.accuracy.z}
    return values


def _costs(point: MeasuredPoint) -> dict[str, Any]:
    costs = amortised(point)
    return {
        "questions_per_video": costs.questions_per_video,
        "tflops": costs.tflops,
        "tflops_amortised": costs.tflops_amortised,
        "total_s": costs.seconds,
        "total_s_amortised": costs.seconds_amortised,
        "seconds": costs.how,
    }
