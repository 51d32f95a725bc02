"""Trackers: what they are given, how they are chosen, and that none can cost a run."""

from __future__ import annotations

import json
import logging
import multiprocessing
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from evalkit import trackers
from evalkit.analysis.results import Results
from evalkit.errors import ConfigError
from evalkit.runs import load
from evalkit.runs.load import Run
from evalkit.trackers import Tracked, process
from tests.support import run_folders
from tests.support.tracker_fakes import Recorder

SHORT, LONG = {"duration": ["<2 min"]}, {"duration": [">60 min"]}
ROWS = [
    run_folders.row("q1", True, "v1", groups=SHORT),
    run_folders.row("q2", False, "v1", groups=SHORT),
    run_folders.row("q3", True, "v2", groups=LONG),
    run_folders.row("q4", None, "v3", groups=SHORT),
]


def averages(*_: Any) -> dict[str, float]:
    """Stands for a protocol's, which would import lmms-eval."""
    return {"macro (official)": 75.0}


def folder(path: Path, rows: list[dict[str, Any]] = ROWS) -> Run:
    run_folders.write_run(path, rows, benchmark={"notes": ["a note"]}, method={"window": 3, "kv_ratio": None})
    (path / "environment.json").write_text(json.dumps({"device": "cpu", "git": None}))
    return load.load(path)[0]


# ---- what a tracker is given


def tracked(run: Run) -> Tracked:
    return trackers.tracked(run, Results([run], averages))


def test_the_numbers_are_those_of_the_tables(tmp_path: Path) -> None:
    """By hand: 2 of 3 scored questions are right, 1 failed; the long video has one question, so no interval."""
    found = tracked(folder(tmp_path / "run")).metrics
    spent = {name.removeprefix("budget/"): value for name, value in found.items() if name.startswith("budget/")}
    scores = {name: value for name, value in found.items() if not name.startswith("budget/")}
    assert scores == {
        "accuracy/all": pytest.approx(200 / 3),
        "ci_half_width/all": pytest.approx(200 / 3),  # two videos: t(1) is so wide that the lower end is 0
        "n/all": 3,
        "videos/all": 2,
        "failed/all": 1,
        "unparsed/all": 0,
        "repeated/all": 0,
        "accuracy/average/macro": 75.0,
        "accuracy/duration/<2 min": 50.0,
        "n/duration/<2 min": 2,
        "accuracy/duration/>60 min": 100.0,
        "n/duration/>60 min": 1,
    }
    assert spent["n"] == 3
    assert spent["kv_tokens"] == 64  # mean of 60 and 68
    assert spent["tflops"] == pytest.approx(3.001)
    assert spent["shared/ttft_s"] == pytest.approx(0.6)
    assert spent["shared/total_s"] == pytest.approx(1.0)
    assert not {"ttft_s", "total_s", "peak_mb"} & set(spent)  # shared work, which compares with no other run
    assert (spent["shared/peak_mb"], spent["kv_mb"], spent["ratio_achieved"], spent["ratio_off"]) == (500, 2, 0.25, 0)


def test_seconds_of_a_run_that_shared_nothing_have_their_plain_names(tmp_path: Path) -> None:
    rows = [run_folders.row("q1", True, ledger=run_folders.ledger(seconds_shared=False))]
    found = tracked(folder(tmp_path / "run", rows)).metrics
    assert found["budget/ttft_s"] == pytest.approx(0.6)
    assert not [name for name in found if "shared" in name]


def test_what_is_not_known_is_excluded(tmp_path: Path) -> None:
    rows = [run_folders.row("q1", True, ledger=run_folders.ledger(flops=None))]
    found = tracked(folder(tmp_path / "run", rows)).metrics
    assert "budget/kv_tokens" in found
    assert not {"budget/tflops", "ci_half_width/all"} & set(found)


def test_settings_are_flat(tmp_path: Path) -> None:
    run = folder(tmp_path / "run")
    found = tracked(run)
    assert (found.key, found.name) == ("1f0c22aa00000000-uniform", "uniform-r0.25-1f0c22aa")
    assert found.group == "generated videos (MLVU format) dev, tiny"
    expected = {
        "benchmark": "generated videos (MLVU format)",
        "method": "uniform",
        "ratio": 0.25,
        "protocol": "lmms_eval 0.7.3",
        "role": "reference",
        "run_folder": str(run.folder),
        "settings/method/window": 3,
        "settings/share": True,
        "settings/benchmark/notes": '["a note"]',
        "environment/device": "cpu",
    }
    assert {name: found.settings.get(name) for name in expected} == expected
    assert not {"settings/method/kv_ratio", "environment/git"} & set(found.settings)  # null


# ---- connecting and failing


def test_off_means_that_nothing_is_imported() -> None:
    packages = set(trackers.REGISTRY)
    code = (
        f"import sys; from evalkit import trackers; print(trackers.connect([], {{}}), {packages!r} & set(sys.modules))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out == "[] set()\n"


def test_an_unknown_tracker_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"tensorboard.*wandb.*mlflow.*got 'wandbb'"):
        trackers.connect(["wandbb"], {})


@pytest.mark.parametrize("name", list(trackers.REGISTRY))
def test_a_missing_package_names_its_extra(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trackers.REGISTRY, "loaded", {})
    monkeypatch.setitem(sys.modules, name, None)
    for module in [m for m in sys.modules if m.startswith(("torch.utils.tensorboard", f"evalkit.trackers.{name}"))]:
        monkeypatch.delitem(sys.modules, module)
    with pytest.raises(ConfigError, match=rf"{name} \(evalkit\) needs .*pip install 'evalkit\[{name}\]'"):
        trackers.connect(name, {})


@pytest.mark.slow
def test_a_tracker_that_fails_costs_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    runs = [folder(tmp_path / "runs" / name) for name in "abc"]
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    trackers.track(Results(runs, averages), [Recorder(tmp_path / "broken", "raises"), Recorder(tmp_path / "whole")])
    warning, info = caplog.records
    assert (warning.levelno, info.levelno) == (logging.WARNING, logging.INFO)
    assert warning.getMessage().startswith("Recorder: 1 of 3 runs logged. Answers and tables are complete.")
    assert warning.getMessage().endswith("Reason: OSError: no route to host")
    assert info.getMessage() == "Recorder has 3 runs: in whole"
    assert len((tmp_path / "broken").read_text().splitlines()) == 2  # the third was not tried
    assert (tmp_path / "whole").read_text() == "uniform-r0.25-1f0c22aa\n" * 3
    assert {file: file.read_bytes() for file in (tmp_path / "runs").rglob("*") if file.is_file()} == before


@pytest.mark.slow
@pytest.mark.parametrize(("how", "reason"), [("hangs", "nothing heard for 0.1 s"), ("crashes", "its process died")])
def test_a_tracker_that_never_answers_is_left(
    how: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "END_SECONDS", 0.0)
    seen = [tracked(folder(tmp_path / "run"))] * 3
    seconds = 0.1 if how == "hangs" else 60.0  # a crash is seen at once, however busy the machine
    done, text = process.log_all(seen, Recorder(tmp_path / "file", how, breaks=0), seconds=seconds)
    assert done == 0
    assert reason in text
    for child in multiprocessing.active_children():
        child.join(60)
        assert child.exitcode is not None
    assert len((tmp_path / "file").read_text().splitlines()) == 1  # tried, and no other after it
