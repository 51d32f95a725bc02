"""MLflow: a run of one experiment for every run. `pip install 'evalkit[mlflow]'`."""

from __future__ import annotations

import math
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Param
from mlflow.environment_variables import MLFLOW_EXPERIMENT_NAME
from mlflow.exceptions import MlflowException

from evalkit.errors import ConfigError

if TYPE_CHECKING:
    from evalkit.trackers.tracked import Tracked

KEY = "evalkit.key"  # tag by which a run is found again
_WORDS = {"<": "under ", ">": "over ", "&": "and"}  # MLflow's names know letters, digits and _ - . : / space


@dataclass(frozen=True)
class MLflow:
    """One experiment on one tracking server, or in one database."""

    experiment: str
    tracking_uri: str | None  # None: MLflow's own setting

    def log(self, run: Tracked) -> str:
        """Set the run's metrics, in a step after those of the last time; one that is no longer known becomes nan.

        Parameters cannot be changed in MLflow: those that were logged stay.
        """
        client = MlflowClient(self.tracking_uri)
        found = self._find(client, run)
        step = len(client.get_metric_history(found.info.run_id, "n/all"))
        now = int(time.time() * 1000)
        metrics = dict.fromkeys(found.data.metrics, math.nan) | {_name(k): v for k, v in run.metrics.items()}
        params = {_name(k): str(v) for k, v in run.settings.items() if _name(k) not in found.data.params}
        client.log_batch(
            found.info.run_id,
            metrics=[Metric(name, value, now, step) for name, value in metrics.items()],
            params=[Param(name, value) for name, value in params.items()],
        )
        client.set_terminated(found.info.run_id)
        return f"experiment {self.experiment} on {client.tracking_uri}"

    def _find(self, client: MlflowClient, run: Tracked) -> Any:
        """The run of that key, made where there is none."""
        experiment = client.get_experiment_by_name(self.experiment)
        id_ = experiment.experiment_id if experiment else client.create_experiment(self.experiment)
        for found in client.search_runs([id_], filter_string=f"tags.`{KEY}` = '{run.key}'"):
            return found
        return client.create_run(id_, run_name=run.name, tags={KEY: run.key, "evalkit.group": run.group})


def _name(text: str) -> str:
    words = "".join(_WORDS.get(letter, letter) for letter in text)
    return re.sub(r"[^\w.:/ -]", lambda letter: f"_{ord(letter[0]):x}", words)  # a code: names must not coincide


def connect(*, experiment: str | None, tracking_uri: str | None) -> MLflow:
    """None is whatever MLflow was set to by its own means, and experiment evalkit.

    Raises ConfigError for an address that MLflow refuses; whether a server answers shows when something is logged.
    """
    try:
        MlflowClient(tracking_uri)
    except (MlflowException, ImportError) as error:
        raise ConfigError(f"tracker.mlflow.tracking_uri: {error}") from error
    return MLflow(experiment or MLFLOW_EXPERIMENT_NAME.get() or "evalkit", tracking_uri)
