"""The accuracy table in long form."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from evalkit.analysis.grid.grouping import KEYS, entries, grouped
from evalkit.analysis.stats import accuracy_interval

if TYPE_CHECKING:
    from evalkit.runs.load import Run
    from evalkit.types import Answer

Rows = Sequence[tuple[Mapping[str, tuple[str, ...]], bool]]
Averages = Callable[[str, str, Rows], Mapping[str, float]]  # protocol, benchmark format, (groups, right) -> percent

COUNTS = ("failed", "unparsed", "repeated")
COLUMNS = (*KEYS, "group", "value", "n", "videos", "percent", "low", "high", "half_width", *COUNTS)


def official(protocol: str, benchmark: str, rows: Rows) -> Mapping[str, float]:
    """The protocol's own averages in percent, the benchmark's official one first."""
    # Here, not above: protocols bring lmms-eval, which tables of answers read elsewhere do not need.
    from evalkit.data import protocols

    return protocols.get(protocol).averages(benchmark, rows)


def accuracy(runs: Sequence[Run], averages: Averages = official) -> pd.DataFrame:
    """One row per run × group of questions, with n, videos, percent and the 95 % interval clustered by video.

    `group` is "all", "average" (the protocol's averages, without interval), or a kind of group such as "duration";
    `value` is the label in it. Failed questions are in no percentage, only in `failed`; unparsed ones are wrong, or in
    no percentage either, as the protocol has it.
    """
    rows = [row for entry in entries(runs) for row in _rows(entry.key, entry.run, averages)]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _rows(key: dict[str, Any], run: Run, averages: Averages) -> list[dict[str, Any]]:
    groups = grouped(run.answers).items()
    overall, *rest = [key | {"group": kind, "value": label} | _score(answers) for (kind, label), answers in groups]
    return [overall, *_averages(overall, run, averages), *rest]


def _score(answers: Sequence[Answer]) -> dict[str, Any]:
    scored = [answer for answer in answers if answer.correct is not None]
    interval = accuracy_interval.accuracy([bool(a.correct) for a in scored], [a.video_id for a in scored])
    return {
        "n": interval.n,
        "videos": interval.clusters,
        "percent": interval.percent,
        "low": interval.low,
        "high": interval.high,
        "half_width": interval.half_width,
        **counts(answers),
    }


def counts(answers: Iterable[Answer]) -> dict[str, int]:
    """Failed questions, replies without an option, replies that are one token over and over (0 in older answers)."""
    found = list(answers)
    return {
        "failed": sum(answer.status == "failed" for answer in found),
        "unparsed": sum(answer.status == "unparsed" for answer in found),
        "repeated": sum(answer.repeated is True for answer in found),
    }


def _averages(overall: dict[str, Any], run: Run, averages: Averages) -> list[dict[str, Any]]:
    scored: Rows = [(answer.groups, answer.correct) for answer in run.answers if answer.correct is not None]
    if not scored:
        return []
    means = averages(str(run.config["protocol"]["name"]), str(run.config["benchmark"]["name"]), scored)
    blank = {"low": float("nan"), "high": float("nan"), "half_width": float("nan")}
    return [
        overall | {"group": "average", "value": name, "percent": percent} | blank for name, percent in means.items()
    ]
