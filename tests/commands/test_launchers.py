"""Sweeps whose jobs a launcher of Hydra runs in other processes: the same folders, tables and exit codes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from tests.support import clips, rows
from tests.support.answer_lines import without_measured
from tests.support.run_eval import run_eval

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two questions, one of them about a video that is missing."""
    root = tmp_path_factory.mktemp("data")
    rows.write_json(root / "json" / "1_plotQA.json", [rows.mlvu_row(), rows.mlvu_row(video="gone.mp4")])
    (root / "video" / "1_plotQA").mkdir(parents=True)
    clips.make(root / "video" / "1_plotQA" / "street_1.mp4", frames=40, size=(112, 112))
    return root


@pytest.fixture
def joblib_ends() -> Iterator[None]:
    """No process of joblib's, which it keeps for its next call, outlives the test."""
    yield
    from joblib.externals.loky import get_reusable_executor

    get_reusable_executor().shutdown(kill_workers=True)


@pytest.mark.usefixtures("joblib_ends")
def test_joblib(
    data: Path,
    checkpoint: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    monkeypatch.chdir(tmp_path)
    common = ["benchmark=mlvu", f"benchmark.root={data}", f"backbone.path={checkpoint}", "sampling.frames=8"]

    def sweep(results: str, *words: str) -> int:
        return run_eval("-m", *words, *common, f"results_dir={results}", "executor.workers=1", "report=false")

    grid = ["method=uniform,blind", "ratio=0.5"]
    joblib = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    assert sweep("alone", *grid) == 3  # a video is missing
    capfd.readouterr()
    assert sweep("beside", *grid, *joblib) == 3
    assert capfd.readouterr().out.count("Accuracy against KV cache") == 1  # of the whole sweep
    assert without_measured(tmp_path / "beside") == without_measured(tmp_path / "alone")
    assert set(pd.read_csv(tmp_path / "beside" / "budget.csv")["method"]) == {"uniform", "blind"}
    assert sweep("refused", "method=uniform", "ratio=half", *joblib) == 2
    assert "ConfigError: ratio: expected a number" in capfd.readouterr().err
    assert not list(tmp_path.glob(".jobs-*"))
