"""What the others are held against, and the order of methods: those of the configuration, not of the alphabet."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest
import yaml

from evalkit.__main__ import main
from evalkit.analysis.grid.measured_points import question_sets
from evalkit.analysis.results import Results
from evalkit.analysis.tables import run_tables
from evalkit.config import build
from evalkit.errors import ConfigError, DataError
from evalkit.runs import load
from tests.support.configs import composed
from tests.support.run_folders import row, write_run

if TYPE_CHECKING:
    from pathlib import Path

    from evalkit.runs.load import Run

ROLES = {"uniform": "reference", "another": "reference", "blind": "control", "zoom": "method", "crop": "method"}


def write(root: Path, *methods: str, reference: str | None = None, recorded: bool = True) -> None:
    """Runs as one configuration of these methods would leave them, at ratios 1 and ½."""
    for place, method in enumerate(methods):
        for ratio in (1.0, 0.5):
            letter = "B" if (place + ratio) % 2 else "A"
            rows = [row(f"q{i}", letter == "B", f"v{i}", letter=letter, text=letter) for i in range(4)]
            grid: Any = {"grid": {"place": place, "reference": reference or methods[0]}} if recorded else {}
            folder = root / f"{method}-{ratio}"
            own = {"name": method, "role": ROLES[method]}
            write_run(folder, rows, method=own, ratio=ratio, identity=f"{method}{ratio}")
            config = yaml.safe_load((folder / "config.yaml").read_text())
            (folder / "config.yaml").write_text(yaml.safe_dump(config | grid))


def methods(runs: list[Run]) -> list[str]:
    (found,) = question_sets(runs)
    return list(dict.fromkeys(point.method for point in found.points))


def test_order_and_reference_are_the_configurations(tmp_path: Path) -> None:
    """uniform is neither the first name of its role nor of the first role here; zoom is the first method."""
    write(tmp_path / "a", "uniform", "zoom", "another", "blind", "crop")
    runs = load.load(tmp_path / "a")
    assert methods(runs) == ["uniform", "zoom", "another", "blind", "crop"]
    assert question_sets(runs)[0].reference == "uniform"
    assert set(Results(runs).differences["reference"]) == {"uniform"}
    write(tmp_path / "b", "zoom", "uniform", "blind")
    runs = load.load(tmp_path / "b")
    assert methods(runs) == ["zoom", "uniform", "blind"]
    (found,) = question_sets(runs)
    assert found.reference == "zoom"
    assert [point.method for point in found.curve] == ["zoom", "zoom"]
    assert found.dense is not None
    assert found.dense.method == "uniform"  # zoom need not keep everything at ratio 1
    assert "reference zoom, at the same ratio" in run_tables.markdown(Results(runs))


def test_a_named_reference_leaves_the_order_alone(tmp_path: Path) -> None:
    write(tmp_path, "zoom", "uniform", "blind", reference="uniform")
    runs = load.load(tmp_path)
    assert methods(runs) == ["zoom", "uniform", "blind"]
    assert question_sets(runs)[0].reference == "uniform"
    assert list(Results(runs).differences["method"]) == ["zoom", "zoom", "blind", "blind"]


def test_the_report_takes_another(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path / "runs", "uniform", "zoom", "blind")
    out = tmp_path / "out"
    options = ["--out", str(out), "--thumbnails", "0"]
    assert main(["report", str(tmp_path / "runs"), "--reference", "zoom", *options]) == 0
    assert set(pd.read_csv(out / "differences.csv")["reference"]) == {"zoom"}
    assert "reference: zoom" in (out / "paper" / "accuracy.md").read_text()
    assert r"$\Delta$ accuracy (pp) vs. zoom" in (out / "paper" / "accuracy.tex").read_text()
    assert "vs. zoom at equal KV" in (out / "report.html").read_text()
    assert main(["report", str(tmp_path / "runs"), "--reference", "zoo", *options]) == 2
    assert "expected a method among uniform, zoom, blind, got 'zoo'" in caplog.text
    with pytest.raises(DataError, match="zoo"):
        load.refer(load.load(tmp_path / "runs"), "zoo")


def test_older_folders_stay_readable(tmp_path: Path) -> None:
    """References first, then methods, then controls, by name, as it was."""
    write(tmp_path / "a", "crop", "zoom", "blind", "uniform", recorded=False)
    runs = load.load(tmp_path / "a")
    assert methods(runs) == ["uniform", "crop", "zoom", "blind"]
    assert question_sets(runs)[0].reference == "uniform"
    write(tmp_path / "a" / "new", "another")
    runs = load.load(tmp_path / "a")
    assert methods(runs) == ["uniform", "another", "crop", "zoom", "blind"]
    assert question_sets(runs)[0].reference == "another"  # the only one that is recorded


def test_a_reference_that_is_not_there_and_several_of_them(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """One method alone, as one job of a sweep leaves it: the first stands in. Two configurations: the more frequent."""
    write(tmp_path / "a", "zoom", "crop", reference="uniform")
    assert question_sets(load.load(tmp_path / "a"))[0].reference == "zoom"
    write(tmp_path / "b" / "one", "uniform", "crop", "blind")
    write(tmp_path / "b" / "two", "zoom")
    with caplog.at_level(logging.WARNING):
        assert main(["report", str(tmp_path / "b"), "--out", str(tmp_path / "out"), "--thumbnails", "0"]) == 0
    assert "several references (uniform, zoom): --reference METHOD chooses one" in caplog.text
    assert question_sets(load.load(tmp_path / "b"))[0].reference == "uniform"


def test_the_setting() -> None:
    first = composed("methods=[retake,uniform]")
    assert build.reference(first) == "retake"
    assert build.order(first) == ("retake", "uniform")
    assert build.reference(composed("methods=[retake,uniform]", "reference=uniform")) == "uniform"
    renamed = composed("methods=[{from: uniform, name: few, max_frames: 8},retake]")
    assert build.reference(renamed) == "few"
    with pytest.raises(ConfigError, match=r"reference: expected .*'retake', 'uniform'.* got 'lowres'"):
        build.reference(composed("methods=[retake,uniform]", "reference=lowres"))


@pytest.mark.parametrize(
    ("method", "order", "reference"),
    [
        ("retake", ("uniform", "random_frames", "retake", "xcomp"), "uniform"),
        ("blind", ("uniform", "random_frames", "retake", "xcomp", "blind"), "uniform"),
    ],
)
def test_a_job_of_a_sweep_knows_the_whole_configuration(method: str, order: tuple[str, ...], reference: str) -> None:
    cfg = composed(f"method={method}")
    assert (build.order(cfg), build.reference(cfg)) == (order, reference)
