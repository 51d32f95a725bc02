"""The accuracy table in long form: one row per run × group of questions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from evalkit.analysis.grid.grouping import KEYS, grouped
from evalkit.analysis.stats import accuracy_interval
from evalkit.analysis.tables import columns
from evalkit.errors import ConfigError, DataError
from evalkit.runs.folder import ANSWERS, CONFIG

if TYPE_CHECKING:
    from evalkit.analysis.grid.measured_points import MeasuredPoint
    from evalkit.analysis.stats.accuracy_interval import Interval
    from evalkit.runs.load import Run
    from evalkit.types import Answer

Rows = Sequence[tuple[Mapping[str, tuple[str, ...]], bool]]
Averages = Callable[[str, str, Rows], Mapping[str, float]]  # protocol, benchmark format, (groups, correct) -> percent

COUNTS = ("failed", "unparsed", "repeated")
COLUMNS = (*KEYS, *columns.GROUPS, *columns.ACCURACY)


def official(protocol: str, benchmark: str, rows: Rows) -> Mapping[str, float]:
    """The protocol's own averages in percent, the benchmark's official one first."""
    # Here, not above: protocols bring lmms-eval, which tables of answers read elsewhere do not need.
    from evalkit.data import protocols

    return protocols.get(protocol).averages(benchmark, rows)


def rows(point: MeasuredPoint, averages: Averages = official) -> list[dict[str, Any]]:
    """The rows of one run, a point on one benchmark: accuracy with its 95 % interval clustered by video, and counts.

    `group` is "all", "average" (the protocol's averages, without interval), or a kind of group such as "duration";
    `value` is the label in it. Failed questions are in no accuracy, only in `failed`; unparsed ones are wrong, or not
    scored either, as the protocol has it.
    """
    (part,) = point.parts
    groups = grouped(part.run.answers)
    everything = groups.pop(("all", "all"))
    overall = part.key | {"group": "all", "value": "all"} | interval_columns(point.accuracy) | counts(everything)
    rest = [part.key | {"group": kind, "value": label} | _score(own) for (kind, label), own in groups.items()]
    return [overall, *_averages(overall, part.run, averages), *rest]


def _score(answers: Sequence[Answer]) -> dict[str, Any]:
    scored = [answer for answer in answers if answer.correct is not None]
    interval = accuracy_interval.accuracy([bool(a.correct) for a in scored], [a.video_id for a in scored])
    return interval_columns(interval) | counts(answers)


def interval_columns(found: Interval) -> dict[str, Any]:
    """An accuracy as columns."""
    names = ("n", "videos", "accuracy", "ci_low", "ci_high", "ci_half_width")
    values = (found.n, found.clusters, found.percent, found.low, found.high, found.half_width)
    return dict(zip(names, values, strict=True))


def counts(answers: Iterable[Answer]) -> dict[str, int]:
    """Failed questions, replies without an option, replies that are one token over and over (0 in older answers)."""
    found = list(answers)
    return {
        "failed": sum(answer.status == "failed" for answer in found),
        "unparsed": sum(answer.status == "unparsed" for answer in found),
        "repeated": sum(answer.repeated is True for answer in found),
    }


def of_run(run: Run, averages: Averages = official) -> Mapping[str, float]:
    """Its protocol's averages in percent, {} where no answer has a score.

    DataError for a protocol that is not there, or whose averages need a group that an answer lacks.
    """
    scored: Rows = [(answer.groups, answer.correct) for answer in run.answers if answer.correct is not None]
    if not scored:
        return {}
    try:
        return averages(str(run.config["protocol"]["name"]), str(run.config["benchmark"]["name"]), scored)
    except ConfigError as error:
        raise DataError(f"{run.folder / CONFIG}: {error}; restore it, or install what brings it") from error
    except KeyError as error:
        raise DataError(
            f"{run.folder / ANSWERS}: expected {error} among the groups of each answer, as the averages of protocol "
            f"{run.config['protocol']['name']} need it, came none. Repair or remove the line."
        ) from error


def _averages(overall: dict[str, Any], run: Run, averages: Averages) -> list[dict[str, Any]]:
    means = of_run(run, averages)
    blank = dict.fromkeys(("ci_low", "ci_high", "ci_half_width"), float("nan"))
    return [overall | {"group": "average", "value": name, "accuracy": mean} | blank for name, mean in means.items()]
