"""Every tracker, read back: what was logged is there, and logging again updates instead of adding.

MLflow's client is a fake of it as well, which always runs; the same test holds both to the same answers.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from evalkit import trackers
from evalkit.errors import ConfigError
from evalkit.trackers import Tracked
from tests.support import tracker_fakes


def run(accuracy: float, **metrics: float) -> Tracked:
    """A run as a tracker sees it. A metric more or less: what is known can change with the answers."""
    return Tracked(
        key="1f0c22aa00000000-uniform",
        name="uniform-r0.25-1f0c22aa",
        group="MLVU dev, tiny",
        settings={"method": "uniform", "ratio": 0.25, "settings/share": True},
        metrics={"accuracy/all": accuracy, "n/all": 4.0, **metrics},
    )


FIRST = run(75.0, **{"accuracy/duration/<2 min": 50.0})
SECOND = run(80.0, **{"accuracy/task_type/Q&A (x)": 40.0})


# ---- TensorBoard


def test_tensorboard(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="pip install tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    (tracker,) = trackers.connect("tensorboard", {"tensorboard": {"folder": str(tmp_path / "logs")}})
    for shown in (FIRST, SECOND):
        assert tracker.log(shown) == f"tensorboard --logdir {tmp_path / 'logs'}"
        (file,) = (path for path in tmp_path.rglob("*") if path.is_file())
        assert file.parent == tmp_path / "logs" / "MLVU-dev-tiny" / "uniform-r0.25-1f0c22aa"
        events = EventAccumulator(str(file.parent)).Reload()
        scalars = {tag: [event.value for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
        assert scalars == {name: [value] for name, value in shown.metrics.items()}
    parts = events.PluginTagToContent("hparams")
    assert set(parts) == {"_hparams_/session_start_info", "_hparams_/session_end_info"}  # no columns fixed by one run
    found = HParamsPluginData.FromString(parts["_hparams_/session_start_info"]).session_start_info.hparams
    assert found["method"].string_value == "uniform"
    assert found["ratio"].number_value == 0.25
    assert found["settings/share"].string_value == "True"


# ---- W&B


@pytest.fixture
def wandb_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """W&B with nobody logged in and all its files below a temporary folder. Importing it takes seconds."""
    import wandb

    for name in ("WANDB_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR"):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_PROJECT", "WANDB_ENTITY"):
        monkeypatch.delenv(name, raising=False)
    wandb.teardown()
    yield tmp_path / "WANDB_DIR"
    wandb.teardown()


def options(**changes: Any) -> dict[str, dict[str, Any]]:
    return {"wandb": {"project": None, "entity": None, "mode": None, **changes}}


def stored(file: Path) -> dict[str, Any]:
    """What an offline run's file says: the run, its config and its summary."""
    from wandb.proto.wandb_internal_pb2 import Record
    from wandb.sdk.internal.datastore import DataStore

    store, found = DataStore(), {"config": {}, "summary": {}}
    store.open_for_scan(str(file))
    while (data := store.scan_data()) is not None:
        record = Record.FromString(data)
        if record.WhichOneof("record_type") == "run":
            found["run"] = (record.run.run_id, record.run.project, record.run.run_group, record.run.display_name)
        for part in ("config", "summary"):
            found[part] |= {u.key: json.loads(u.value_json) for u in getattr(record, part).update if u.key}
        assert record.WhichOneof("record_type") != "history"
    store.close()
    return found


@pytest.mark.slow
def test_wandb_offline(wandb_alone: Path) -> None:
    import wandb

    (tracker,) = trackers.connect("wandb", options(mode="offline"))
    before: set[Path] = set()
    for shown in (FIRST, SECOND):
        assert tracker.log(shown) == f"wandb sync {wandb_alone}/wandb/offline-run-*"
        wandb.teardown()  # as the process ends: only now all is written
        (file,) = set(wandb_alone.glob("wandb/offline-run-*/*.wandb")) - before
        before.add(file)
        found = stored(file)
        assert found["run"] == ("1f0c22aa00000000-uniform", "evalkit", "MLVU dev, tiny", "uniform-r0.25-1f0c22aa")
        assert found["config"].items() >= shown.settings.items()
        assert {name: value for name, value in found["summary"].items() if name[0] != "_"} == shown.metrics


def test_wandb_online_resumes_the_run(wandb_alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_PROJECT", "theirs")
    module, server = import_module("evalkit.trackers.wandb"), tracker_fakes.WandB()
    monkeypatch.setattr(module, "init", server.init)
    monkeypatch.setattr(module, "login", lambda: True)
    (tracker,) = trackers.connect("wandb", options(entity="team"))
    for shown in (FIRST, SECOND):
        assert tracker.log(shown) == "https://wandb.example/team/theirs"
    assert server.resumed == ["allow", "allow"]
    ((key, kept),) = server.runs.items()
    assert key == ("team", "theirs", FIRST.key)
    assert kept.config == FIRST.settings
    assert math.isnan(kept.summary.pop("accuracy/duration/<2 min"))  # known the first time, not any more
    assert kept.summary == {"_runtime": 1.0, **SECOND.metrics}


def test_wandb_with_nobody_logged_in_is_refused_before_a_run(
    wandb_alone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from wandb.errors import UsageError

    def login() -> bool:
        raise UsageError("No API key configured.")

    monkeypatch.setattr(import_module("evalkit.trackers.wandb"), "login", login)  # the real one asks in a terminal
    with pytest.raises(ConfigError, match=r"No API key.*tracker\.wandb\.mode=offline"):
        trackers.connect("wandb", options())
    assert trackers.connect("wandb", options(mode="offline"))
    with pytest.raises(ConfigError, match=r"expected online, offline.*'onlin'"):
        trackers.connect("wandb", options(mode="onlin"))


# ---- MLflow


REAL = pytest.param("real", marks=pytest.mark.filterwarnings("ignore:The ``noload`` loader:DeprecationWarning"))


@pytest.fixture(params=["fake", REAL])
def mlflow(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """MLflow's client, or the fake of it, as evalkit's tracker imports it."""
    monkeypatch.delitem(sys.modules, "evalkit.trackers.mlflow", raising=False)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
    if request.param == "real":
        pytest.importorskip("mlflow", reason="pip install 'evalkit[mlflow]'")
    else:
        for name, module in tracker_fakes.mlflow().items():
            monkeypatch.setitem(sys.modules, name, module)
    return str(request.param)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Of a database with an experiment for each test: what takes MLflow longest is to make its tables."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"


def test_mlflow(mlflow: str, address: str) -> None:
    for step, shown in enumerate((FIRST, SECOND)):
        (tracker,) = trackers.connect("mlflow", {"mlflow": {"experiment": None, "tracking_uri": address}})
        assert tracker.log(shown) == f"experiment evalkit on {address}"
        client = import_module("mlflow").MlflowClient(address)
        (found,) = client.search_runs([client.get_experiment_by_name("evalkit").experiment_id])
        assert (found.info.run_name, found.info.status) == (shown.name, "FINISHED")
        assert found.data.tags.items() >= {"evalkit.key": shown.key, "evalkit.group": shown.group}.items()
        assert found.data.params == {"method": "uniform", "ratio": "0.25", "settings/share": "True"}
        history = client.get_metric_history(found.info.run_id, "accuracy/all")
        assert [(metric.step, metric.value) for metric in history] == [(0, 75.0), (1, 80.0)][: step + 1]
    gone = found.data.metrics.pop("accuracy/duration/under 2 min")
    assert math.isnan(gone)
    assert found.data.metrics == {"accuracy/all": 80.0, "n/all": 4.0, "accuracy/task_type/QandA _28x_29": 40.0}


def test_mlflow_says_which_setting_it_refuses(mlflow: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"tracker\.mlflow\.tracking_uri: .*filesystem tracking backend"):
        trackers.connect("mlflow", {"mlflow": {"experiment": None, "tracking_uri": str(tmp_path / "runs")}})


def test_mlflow_parameters_stay(mlflow: str, address: str) -> None:
    """MLflow refuses other values: a moved folder must not end in a failure."""
    options = {"mlflow": {"experiment": "mine", "tracking_uri": address}}
    (tracker,) = trackers.connect("mlflow", options)
    tracker.log(FIRST)
    tracker.log(replace(FIRST, settings={"method": "other", "new": 1}))
    client = import_module("mlflow").MlflowClient(options["mlflow"]["tracking_uri"])
    (found,) = client.search_runs([client.get_experiment_by_name("mine").experiment_id])
    assert found.data.params == {"method": "uniform", "ratio": "0.25", "settings/share": "True", "new": "1"}
