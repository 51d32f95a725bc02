"""Small stand-ins for the clients of W&B and MLflow: they keep what they are told, by the rules of the real ones.

And a tracker of its own for processes that import little.
"""

from __future__ import annotations

import os
import re
import threading
from dataclasses import dataclass
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from pathlib import Path

    from evalkit.trackers import Tracked


class WandB:
    """Runs by entity, project and id, as W&B's server keeps them; `init` is wandb.init."""

    def __init__(self) -> None:
        self.resumed: list[str | None] = []
        self.runs: dict[tuple[str, str, str], WandBRun] = {}

    def init(self, *, entity: str, project: str, id: str, resume: str | None, **_: Any) -> WandBRun:  # noqa: A002
        self.resumed.append(resume)
        return self.runs.setdefault((entity, project, id), WandBRun(f"https://wandb.example/{entity}/{project}"))


class WandBConfig(dict[str, Any]):
    """A value that is there already changes only where that is allowed."""

    def update(self, values: dict[str, Any], *, allow_val_change: bool = False) -> None:  # type: ignore[override]
        assert allow_val_change or not set(values) & set(self)
        super().update(values)


class WandBRun:
    """What wandb.init returns."""

    offline, dir = False, "/nowhere/wandb/run-1/files"

    def __init__(self, project_url: str) -> None:
        self.config, self.summary = WandBConfig(), {"_runtime": 1.0}
        self.project_url = project_url

    def __enter__(self) -> WandBRun:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class Entity(SimpleNamespace):
    """mlflow.entities.Metric and Param."""

    def __init__(self, key: str, value: Any, timestamp: int = 0, step: int = 0) -> None:
        super().__init__(key=key, value=value, timestamp=timestamp, step=step)


class MlflowException(Exception):  # noqa: N818 – its name
    """What MLflow raises."""


class MlflowClient:
    """Runs by tracking address; every call has the names, arguments and refusals of MLflow's own."""

    stores: ClassVar[dict[str, dict[str, list[Any]]]] = {}  # address → experiment → runs

    def __init__(self, tracking_uri: str) -> None:
        if not tracking_uri.startswith("sqlite:///"):
            raise MlflowException("The filesystem tracking backend is in maintenance mode")
        self.tracking_uri = tracking_uri
        self._experiments = self.stores.setdefault(tracking_uri, {})

    def get_experiment_by_name(self, name: str) -> Any:
        return SimpleNamespace(experiment_id=name) if name in self._experiments else None

    def create_experiment(self, name: str) -> str:
        assert name not in self._experiments
        self._experiments[name] = []
        return name

    def search_runs(self, experiment_ids: list[str], filter_string: str = "") -> list[Any]:
        runs = [run for id_ in experiment_ids for run in self._experiments[id_]]
        wanted = re.fullmatch(r"tags\.`([\w.]+)` = '([^']+)'", filter_string)
        assert wanted or not filter_string
        return [run for run in runs if wanted is None or run.data.tags.get(wanted[1]) == wanted[2]]

    def create_run(self, experiment_id: str, run_name: str, tags: dict[str, str]) -> Any:
        runs = self._experiments[experiment_id]
        info = SimpleNamespace(run_id=f"{experiment_id}/{len(runs)}", run_name=run_name, status="RUNNING")
        data = SimpleNamespace(tags=dict(tags), metrics={}, params={})
        runs.append(SimpleNamespace(info=info, data=data, history=[]))
        return runs[-1]

    def log_batch(self, run_id: str, metrics: list[Entity], params: list[Entity]) -> None:
        run = self._run(run_id)
        for entity in (*metrics, *params):
            if not re.fullmatch(r"[/\w.\- :]+", entity.key):
                raise MlflowException(f"Invalid value {entity.key!r} for parameter 'name'")
        for param in params:
            if run.data.params.setdefault(param.key, param.value) != param.value:
                raise MlflowException(f"Changing param values is not allowed: {param.key!r}")
        run.history += metrics
        for metric in sorted(run.history, key=lambda metric: (metric.step, metric.timestamp)):
            run.data.metrics[metric.key] = metric.value

    def get_metric_history(self, run_id: str, key: str) -> list[Entity]:
        return [metric for metric in self._run(run_id).history if metric.key == key]

    def set_terminated(self, run_id: str) -> None:
        self._run(run_id).info.status = "FINISHED"

    def _run(self, run_id: str) -> Any:
        (run,) = (run for runs in self._experiments.values() for run in runs if run.info.run_id == run_id)
        return run


def mlflow() -> dict[str, ModuleType]:
    """The modules of MLflow that evalkit imports, by name."""
    contents: dict[str, dict[str, Any]] = {
        "mlflow": {"MlflowClient": MlflowClient},
        "mlflow.entities": {"Metric": Entity, "Param": Entity},
        "mlflow.environment_variables": {"MLFLOW_EXPERIMENT_NAME": SimpleNamespace(get=lambda: None)},
        "mlflow.exceptions": {"MlflowException": MlflowException},
    }
    modules = {name: ModuleType(name) for name in contents}
    for name, values in contents.items():
        vars(modules[name]).update(values)
    return modules


@dataclass(frozen=True)
class Recorder:
    """A tracker that writes names into a file; after `breaks` runs it does what `how` says."""

    file: Path
    how: str = ""
    breaks: int = 1

    def log(self, run: Tracked) -> str:
        with self.file.open("a") as file:
            file.write(f"{run.name}\n")
        if self.how and len(self.file.read_text().splitlines()) > self.breaks:
            {"raises": _raise, "hangs": threading.Event().wait, "crashes": lambda: os._exit(3)}[self.how]()
        return f"in {self.file.name}"


def _raise() -> None:
    raise OSError("no route to host")
