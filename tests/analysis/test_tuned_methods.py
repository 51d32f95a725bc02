"""A method with weights of its own stands beside the others on the same backbone, and every table names its weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest
import yaml

from evalkit.__main__ import main
from evalkit.analysis.grid.grouping import by_setup, entries
from evalkit.analysis.results import Results
from evalkit.analysis.tables import paper, run_tables
from evalkit.errors import DataError
from evalkit.runs import load, setups
from tests.support.run_folders import row, write_run

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow

BASE, TUNED, OTHER = "aaaaaaaa00000000", "bbbbbbbb00000000", "cccccccc00000000"


def told(marks: str) -> list[dict[str, Any]]:
    """Two questions a video; 1 is a right answer, 0 a wrong one."""
    letters = ["B" if mark == "1" else "A" for mark in marks]
    return [row(f"q{i}", x == "B", f"v{i // 2}", text=x, letter=x) for i, x in enumerate(letters)]


def write(folder: Path, marks: str, method: str, weights: str = BASE, adapter: str | None = None, **more: Any) -> Path:
    """As the engine writes it: the weights that answered in the identity's parts, the backbone's beside the adapter."""
    role = "reference" if method == "uniform" else "method"
    name = more.pop("backbone", "tiny")
    backbone = {"name": name, "path": "/a/released", "adapter": "/x/xcomp" if name == "tiny_xcomp" else None}
    settings = {"method": {"name": method, "role": role}, "backbone": backbone, "benchmark": {"questions": len(marks)}}
    write_run(folder, told(marks), **settings | {"identity": folder.name + weights} | more)
    config = yaml.safe_load((folder / "config.yaml").read_text())
    own = {} if adapter is None else {"adapter": {"name": adapter, "path": f"/x/{adapter}", "base": BASE}}
    parts = {"code": {"evalkit": "c0de"}, "weights": weights, "dtype": "bfloat16", "seed": 0}
    (folder / "config.yaml").write_text(yaml.safe_dump(config | own | {"identity_parts": parts}))
    return folder


@pytest.fixture
def grid(tmp_path: Path) -> Path:
    for ratio in (1.0, 0.25):
        marks = {"uniform": "11110000", "retake": "11111000", "xcomp": "11111110"}
        for method, own in marks.items():
            tuned = {"weights": TUNED, "adapter": "xcomp"} if method == "xcomp" else {}
            write(tmp_path / "runs" / f"{method}{ratio}", own, method, ratio=ratio, **tuned)
    return tmp_path / "runs"


def test_one_table_with_paired_differences_to_the_untuned_dense_run(grid: Path, tmp_path: Path) -> None:
    results = Results(load.load(grid))
    assert len(results.setups) == 1
    scores = paper.frame(results.set_accuracy).set_index(["method", "ratio"])
    assert dict(scores["weights"]) == {
        (name, ratio): "adapter xcomp" if name == "xcomp" else "base"
        for name in ("uniform", "retake", "xcomp")
        for ratio in (1.0, 0.25)
    }
    assert scores.loc[("xcomp", 0.25), "dense_delta_pp"] == 37.5
    assert scores.loc[("xcomp", 0.25), "kv_delta_pp"] == 37.5  # the reference at equal cost, of the untuned backbone
    run_tables.write(results, tmp_path / "out")
    for name in ("accuracy.csv", "budget.csv", "differences.csv"):
        found = pd.read_csv(tmp_path / "out" / name)
        assert set(found.loc[found["method"] == "xcomp", "weights"]) == {"adapter xcomp"}, name
        assert set(found.loc[found["method"] == "retake", "weights"]) == {"base"}, name
    assert set(pd.read_csv(tmp_path / "out" / "differences.csv")["delta_pp"]) == {12.5, 37.5}


def test_every_table_and_the_report_say_so(grid: Path, tmp_path: Path) -> None:
    from evalkit.analysis import report

    results, note = Results(load.load(grid)), "xcomp: weights adapter xcomp (tuned), in place of the backbone's own"
    paper.write(results, tmp_path)
    run_tables.write(results, tmp_path)
    texts = [run_tables.markdown(results), *(f.read_text() for f in sorted(tmp_path.rglob("*.md")))]
    texts += [f.read_text() for f in sorted(tmp_path.rglob("*.tex"))]
    texts.append(report.write(results, tmp_path, thumbnails_mb=0).read_text().replace("&#39;", "'"))
    assert len(texts) > 5
    for text in texts:
        if text and "Token budget" not in text.splitlines()[0]:  # which is printed below accuracy, with the scope
            assert note.replace("'", "") in text.replace("'", "")
    assert "weights" not in run_tables.markdown(Results([run for run in load.load(grid) if run.method != "xcomp"]))


def test_tuned_and_untuned_runs_of_a_method_are_two_methods(grid: Path) -> None:
    """Whichever ratios and benchmarks they share: they are never pooled, and each keeps its curve."""
    write(grid / "untuned", "11000000", "xcomp", ratio=0.25)
    runs = load.load(grid)
    assert sorted((entry.method, entry.run.ratio) for entry in entries(runs) if entry.run.method == "xcomp") == [
        ("xcomp (adapter xcomp)", 0.25),
        ("xcomp (adapter xcomp)", 1.0),
        ("xcomp (base)", 0.25),
    ]
    assert len(by_setup(runs)) == 1
    write(grid / "elsewhere", "11000000", "xcomp", OTHER, "xcomp", ratio=0.25)  # another adapter of the same name
    found = {entry.weights for entry in entries(load.load(grid)) if entry.run.method == "xcomp"}
    assert found == {"base", "adapter xcomp #bbbbbbbb", "adapter xcomp #cccccccc"}


def test_the_backbones_own_adapter_is_named_too(tmp_path: Path) -> None:
    """The same run as `backbone=tiny_xcomp method=xcomp`, once more: two tables, and no question counts twice."""
    for backbone, adapter in (("tiny", "xcomp"), ("tiny_xcomp", None)):
        write(tmp_path / backbone, "1111", "xcomp", TUNED, adapter, backbone=backbone, identity="one")
    runs = load.load(tmp_path)
    assert [(entry.setup[0], entry.weights) for entry in entries(runs)] == [
        ("tiny", "adapter xcomp"),
        ("tiny_xcomp", "adapter xcomp"),
    ]
    assert setups.differing(runs[0].setup, runs[1].setup) == {"backbone": ("tiny", "tiny_xcomp")}
    write(tmp_path / "copy", "1111", "xcomp", TUNED, "xcomp", identity="one")
    with pytest.raises(DataError, match="same run"):
        load.load(tmp_path)


def test_compare_and_gate_tell_weights_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With the same answers, too: against the run itself and against what the gate stored of it."""
    old = write(tmp_path / "old", "1100", "xcomp", TUNED, "xcomp")
    new = write(tmp_path / "new", "1100", "xcomp")
    assert main(["compare", str(old), str(new)]) == 0
    assert f"settings differ, A against B: weights {TUNED} against {BASE}" in capsys.readouterr().out
    assert main(["gate", "--baseline", str(tmp_path / "stored"), str(old), "--update"]) == 0
    for baseline in (old, tmp_path / "stored"):
        assert main(["gate", "--baseline", str(baseline), str(old), "--agree", "1"]) == 0
        assert main(["gate", "--baseline", str(baseline), str(new), "--agree", "1"]) == 2
        assert f"weights {TUNED} against {BASE}" in capsys.readouterr().out
    stored = yaml.safe_load(next((tmp_path / "stored").rglob("config.yaml")).read_text())
    assert stored["adapter"] == {"name": "xcomp", "base": BASE}  # no path of this machine
