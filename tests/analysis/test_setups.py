"""Runs of the same method with other settings are never one: told apart in every table, plot, report, compare, gate."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest
import yaml

from evalkit.__main__ import main
from evalkit.analysis import plots
from evalkit.analysis.compare import compare
from evalkit.analysis.grid.grouping import by_setup
from evalkit.analysis.grid.measured_points import question_sets
from evalkit.analysis.results import Results
from evalkit.analysis.tables import paper, run_tables
from evalkit.runs import load
from tests.support.run_folders import row, write_run

if TYPE_CHECKING:
    from pathlib import Path

    from evalkit.runs.load import Run

pytestmark = pytest.mark.slow

PARTS: dict[str, Any] = {
    "code": {"evalkit": "c0de"},
    "weights": "aaaaaaaa00000000",
    "dtype": "bfloat16",
    "rope": "none",
    "chunk_cells": 16,
    "sampling": {"preset": "lmms_eval", "frames": 32, "fps": 2.0, "max_pixels": 602112, "long_side": None},
    "protocol": ["lmms_eval", "0.7.3"],
    "reader": "pyav",
    "seed": 0,
}
# What differs -> the part of identity and of config.yaml that says so, and how a label names it beside the base.
OTHERS: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "path": ({"weights": "bbbbbbbb00000000"}, {"backbone": {"path": "/b/finetuned"}}, "tiny, weights finetuned"),
    "adapter": ({"weights": "bbbbbbbb00000000"}, {"backbone": {"adapter": "/x/lora64"}}, "tiny, adapter lora64"),
    "overwritten weights": ({"weights": "bbbbbbbb00000000"}, {}, "tiny, weights #bbbbbbbb"),
    "dtype": ({"dtype": "float16"}, {}, "tiny, dtype float16"),
    "rope": ({"rope": "yarn4"}, {}, "tiny, rope yarn4"),
    "chunk": ({"chunk_cells": 8}, {}, "tiny, chunk_cells 8"),
    "a part of a later version": (
        {"generation": {"repetition_penalty": 1.05}},
        {},
        "generation.repetition_penalty 1.05",
    ),
    "fps": ({"sampling": PARTS["sampling"] | {"fps": None}}, {}, "lmms_eval, 32 frames, fps none"),
    "pixels": ({"sampling": PARTS["sampling"] | {"max_pixels": 12544}}, {}, "lmms_eval, 32 frames, max_pixels 12544"),
    "reader": ({"reader": "decord"}, {}, "lmms_eval, 32 frames, reader decord"),
    "seed": ({"seed": 1}, {}, "lmms_eval, 32 frames, seed 1"),
}


def told(marks: str) -> list[dict[str, Any]]:
    """1 right, 0 wrong."""
    letters = ["B" if mark == "1" else "A" for mark in marks]
    return [row(f"q{i}", x == "B", f"v{i // 2}", text=x, letter=x) for i, x in enumerate(letters)]


def write(folder: Path, marks: str, method: str = "uniform", **changes: Any) -> Path:
    """Two questions a video; `parts` change the identity's, the rest config.yaml."""
    parts = PARTS | changes.pop("parts", {})
    rows = told(marks)
    backbone = {"name": "tiny", "path": "/a/released", "adapter": None} | changes.pop("backbone", {})
    role = "reference" if method == "uniform" else "method"
    settings = {"method": {"name": method, "role": role}, "backbone": backbone, "benchmark": {"questions": len(marks)}}
    write_run(folder, rows, **settings | {"identity": f"{folder.parent.name} {folder.name}"} | changes)
    config = yaml.safe_load((folder / "config.yaml").read_text())
    (folder / "config.yaml").write_text(yaml.safe_dump(config | {"identity_parts": parts}))
    return folder


@pytest.fixture
def grids(tmp_path: Path, request: pytest.FixtureRequest) -> tuple[list[Run], str]:
    """Uniform and retake in two setups; retake gains 6 of 8 in one and loses them in the other."""
    parts, config, label = OTHERS[request.param]
    for place, (changes, ours, theirs) in enumerate(
        (({}, "11111111", "00000011"), ({"parts": parts} | config, "00000011", "11111111"))
    ):
        write(tmp_path / f"{place}u", theirs, **changes)
        write(tmp_path / f"{place}r", ours, "retake", **changes)
    return load.load(tmp_path), label


@pytest.mark.parametrize("grids", OTHERS, indirect=True)
def test_two_setups_stand_apart_and_are_named_by_what_differs(grids: tuple[list[Run], str], tmp_path: Path) -> None:
    """Every difference is inside one setup: +75 and -75, and nothing is pooled or called method#identity."""
    runs, label = grids
    found = by_setup(runs)
    assert len(found) == 2
    assert sum(any(label in text for text in setup) for setup in found) == 1
    assert all(len("".join(setup)) < 100 for setup in found)
    run_tables.write(Results(runs), tmp_path / "out")
    gaps = pd.read_csv(tmp_path / "out" / "differences.csv")
    assert sorted(gaps["delta_pp"]) == [-75, 75]
    keys = ["backbone", "sampling", "protocol"]
    for name in ("accuracy.csv", "budget.csv", "differences.csv"):
        frame = pd.read_csv(tmp_path / "out" / name)
        assert len(frame[keys].drop_duplicates()) == 2, name
        assert set(frame["method"]) <= {"uniform", "retake"}, name
    scores = paper.frame(Results(runs).set_accuracy)
    assert len(scores[keys].drop_duplicates()) == 2
    sets = question_sets(runs)
    assert len({own.setup for own in sets}) == len(sets) == 2
    assert len(set(plots.names(sets))) == 2
    text = run_tables.markdown(Results(runs))
    assert text.count(label) == 3  # accuracy, differences, budget


def test_the_report_names_both_setups(tmp_path: Path) -> None:
    from evalkit.analysis import report

    write(tmp_path / "runs" / "a", "1100")
    write(tmp_path / "runs" / "b", "1111", parts={"dtype": "float16"})
    page = report.write(Results(load.load(tmp_path / "runs")), tmp_path, thumbnails_mb=0).read_text()
    for name in ("tiny, dtype bfloat16", "tiny, dtype float16"):
        assert page.count(name) >= 3  # head, menu, table of runs


def test_what_cannot_change_an_answer_is_no_setup(tmp_path: Path) -> None:
    """The same weights at another place, another device, and other code: the version is no setting."""
    write(tmp_path / "a", "1100")
    write(tmp_path / "b", "1111", "retake", backbone={"path": "/elsewhere/copy", "device": "cuda"}, share=False)
    write(tmp_path / "c", "1111", "lowres", parts={"code": {"evalkit": "f00d"}})
    assert list(by_setup(load.load(tmp_path))) == [("tiny", "lmms_eval, 32 frames", "lmms_eval 0.7.3")]


def test_three_setups_of_which_two_share_a_backbone(tmp_path: Path) -> None:
    """A label has no more than tells it from those that would look the same."""
    for name, changes in {"a": {}, "b": {"parts": {"dtype": "float16"}}, "c": {"backbone": {"name": "big"}}}.items():
        write(tmp_path / name, "10", **changes)
    found = [setup[0] for setup in by_setup(load.load(tmp_path))]
    assert found == ["big", "tiny, dtype bfloat16", "tiny, dtype float16"]


# ---- compare


def test_compare_pairs_across_setups_when_two_runs_are_named_and_says_what_differs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a = write(tmp_path / "a", "11001100")
    b = write(tmp_path / "b", "11111100", parts={"dtype": "float16", "weights": "b" * 16})
    assert main(["compare", str(a), str(b), "--json", str(tmp_path / "out.json")]) == 0
    text = capsys.readouterr().out
    assert f"settings differ, A against B: weights {PARTS['weights']} against {'b' * 16}" in text
    assert "dtype bfloat16 against float16" in text
    (found,) = json.loads((tmp_path / "out.json").read_text())["rows"]
    assert found["settings"]["dtype"] == ["bfloat16", "float16"]
    assert main(["compare", str(a), str(a)]) == 0
    assert "settings differ" not in capsys.readouterr().out


def test_compare_pairs_folders_by_setup_first(tmp_path: Path) -> None:
    """Each dtype meets its own; one that has no partner of its setup takes nobody else's, and is named."""
    for side, kinds in (("a", ["bfloat16", "float16"]), ("b", ["float16"])):
        for kind in kinds:
            write(tmp_path / side / kind, "1100" if side == "a" else "1111", parts={"dtype": kind})
    found = compare.compare(tmp_path / "a", tmp_path / "b")
    assert [(r.pair.theirs.folder.name, r.pair.ours.folder.name) for r in found.rows] == [("float16", "float16")]
    assert len(found.alone) == 1
    assert found.alone[0].startswith("only in A")


# ---- gate


def gate(baseline: Path, run: Path, *options: str) -> int:
    return main(["gate", "--baseline", str(baseline), str(run), "--agree", "1", *options])


@pytest.mark.parametrize("name", ["path", "adapter", "overwritten weights", "dtype", "chunk", "reader", "seed"])
def test_the_gate_takes_no_run_of_another_setup(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    """Not even one with the same answers, unless it is told to; what is stored by --update is told apart as well."""
    parts, config, _ = OTHERS[name]
    old, new = write(tmp_path / "old", "1100"), write(tmp_path / "new", "1100", parts=parts, **config)
    assert main(["gate", "--baseline", str(tmp_path / "stored"), str(old), "--update"]) == 0
    capsys.readouterr()
    for baseline in (old, tmp_path / "stored"):
        assert gate(baseline, old) == 0
        assert gate(baseline, new) == 2
        assert "settings differ: " in capsys.readouterr().out
        assert gate(baseline, new, "--across-setups") == 0
        assert "settings differ: " in capsys.readouterr().out


def test_the_gate_finds_the_run_of_its_setup_among_others(tmp_path: Path) -> None:
    for kind, marks in (("bfloat16", "1100"), ("float16", "0011")):
        write(tmp_path / "new" / kind, marks, parts={"dtype": kind})
    assert gate(write(tmp_path / "old", "0011", parts={"dtype": "float16"}), tmp_path / "new") == 0
    assert gate(write(tmp_path / "other", "0011"), tmp_path / "new") == 1


def test_baselines_that_record_less_hold_as_before(tmp_path: Path) -> None:
    """Stored by an older version: no weights, no dtype. What one side does not record says nothing."""
    new = write(tmp_path / "new", "1100")
    old = write_run(tmp_path / "old", told("1100"), benchmark={"questions": 4})
    assert gate(old, new) == 0
    config = yaml.safe_load((old / "config.yaml").read_text())
    (old / "config.yaml").write_text(yaml.safe_dump(config | {"reader": "decord"}))
    assert gate(old, new) == 2
