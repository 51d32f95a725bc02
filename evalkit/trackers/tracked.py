"""What trackers get of a run: plain values from the tables of analysis/. A tracker computes nothing."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from evalkit.analysis.grid.costs import MEASURES
from evalkit.analysis.grid.grouping import entries
from evalkit.analysis.grid.seconds import SECONDS
from evalkit.analysis.tables.accuracy import COUNTS

if TYPE_CHECKING:
    from evalkit.analysis.results import Results
    from evalkit.runs.load import Run

Setting = str | int | float

_COLUMNS = ("accuracy", "ci_half_width", "n")  # of the accuracy table, for every group of questions
_OVERALL = (*_COLUMNS, "videos", *COUNTS)
_COSTS = ("n", *MEASURES, "ratio_off", "peak_mb", "timed_n")  # of the budget table
_MEASURED = (*SECONDS, "peak_mb")  # what shared work makes depend on other runs


@dataclass(frozen=True, kw_only=True)
class Tracked:
    """One run folder, as it stands."""

    key: str  # letters, digits, _ . and -; the same key is the same run, logged again
    name: str  # short, for people
    group: str  # which benchmark on which backbone
    settings: Mapping[str, Setting]  # "ratio" → 0.25, "settings/method/window" → 3; nulls are not there
    metrics: Mapping[str, float]  # "accuracy/task_type/count" → percent; what is not known is not there


class Tracker(Protocol):
    """Where finished runs are logged. It is sent to another process, so it is plain values."""

    def log(self, run: Tracked) -> str:
        """Log a run, in place of what was logged under its key before. Returns where to look at it."""
        ...


def tracked(run: Run, results: Results) -> Tracked:
    """A run's settings and numbers. Metrics are columns of the accuracy and budget tables (results/README.md)."""
    return Tracked(
        key=slug(f"{run.identity}-{run.method}"),
        name=f"{run.method}-r{run.ratio:g}-{run.identity[:8]}",
        group=f"{run.label} {run.split}, {run.setup.base[0]}",
        settings=dict(_flat(_settings(run))),
        metrics={name: float(value) for name, value in _metrics(*results.rows_of(run)) if math.isfinite(value)},
    )


def slug(text: str) -> str:
    """`text` with nothing in it that a file name or an id may not have."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", text).strip("-.")


def _metrics(scores: Sequence[dict[str, Any]], costs: Sequence[dict[str, Any]]) -> Iterator[tuple[str, float]]:
    for row in scores:
        kind, label = row["group"], row["value"].removesuffix(" (official)")
        for column in {"all": _OVERALL, "average": ("accuracy",)}.get(kind, _COLUMNS):
            yield f"{column}/all" if kind == "all" else f"{column}/{kind}/{label}", row[column]
    overall = costs[0]
    shared = _MEASURED if overall["seconds"] == "shared" else ()
    yield from ((f"budget/{'shared/' * (column in shared)}{column}", overall[column]) for column in _COSTS)


def _settings(run: Run) -> dict[str, Any]:
    """The key columns of the tables, and what config.yaml and environment.json hold (seconds depend on the machine)."""
    config = {key: value for key, value in run.config.items() if key not in ("identity", "identity_parts")}
    return {
        **entries([run])[0].key,
        "role": run.role,
        "run_identity": run.identity,
        "run_folder": str(run.folder),
        "settings": config,
        "environment": run.environment,
    }


def _flat(value: Any, *path: str) -> Iterator[tuple[str, Setting]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _flat(item, *path, str(key))
    elif isinstance(value, str | int | float):
        yield "/".join(path), value
    elif value is not None:
        yield "/".join(path), json.dumps(value, ensure_ascii=False)
