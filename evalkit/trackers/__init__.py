"""Trackers: finished runs are logged to TensorBoard, W&B or MLflow as well, for those who keep experiments there.

Off by default. A tracker is a view of run folders, never their place: it gets the numbers of the tables, once a job has
ended and its answers are stored. Logging a run again updates it, and a tracker that fails costs a warning.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from evalkit.plugins import Registry
from evalkit.trackers.process import log_all
from evalkit.trackers.tracked import Tracked, Tracker, tracked

if TYPE_CHECKING:
    from evalkit.analysis.results import Results

__all__ = ["REGISTRY", "Tracked", "Tracker", "connect", "track", "tracked"]

log = logging.getLogger(__name__)

REGISTRY: Registry[Callable[..., Tracker]] = Registry(
    "trackers",
    {
        "tensorboard": "evalkit.trackers.tensorboard:connect",
        "wandb": "evalkit.trackers.wandb:connect",
        "mlflow": "evalkit.trackers.mlflow:connect",
    },
    check=callable,
    expected="a function that connects to a tracker",
    remedy="pip install 'evalkit[{name}]'",  # each is an extra of evalkit
)
_AGAIN = "Answers and tables are complete. The same command logs all runs again and answers nothing twice."


def connect(names: str | Sequence[str], options: Mapping[str, Mapping[str, Any]]) -> list[Tracker]:
    """The named trackers, each with its own options: whatever can be wrong before there is something to log is found.

    Raises ConfigError for an unknown name, a missing package, or options that the tracker refuses.
    """
    chosen = [names] if isinstance(names, str) else names
    return [REGISTRY[name](**options.get(name, {})) for name in dict.fromkeys(chosen)]


def track(results: Results, trackers: Sequence[Tracker]) -> None:
    """Log every run to every tracker. One that fails, or hangs, is warned of and gets no more runs."""
    seen = [tracked(run, results) for run in results.runs] if trackers else []
    for tracker in trackers:
        name, (done, text) = type(tracker).__name__, log_all(seen, tracker)
        if done == len(seen):
            log.info("%s has %d runs: %s", name, done, text)
        else:
            log.warning("%s: %d of %d runs logged. %s Reason: %s", name, done, len(seen), _AGAIN, text)
