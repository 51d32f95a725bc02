"""The twin experiment: the reference held against its own curve, which it must never seem to miss significantly."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

from evalkit.analysis.grid import curve_points
from evalkit.analysis.grid.equal_cost import at_equal
from evalkit.analysis.grid.measured_points import question_sets
from evalkit.analysis.results import Results
from evalkit.analysis.tables import paper
from evalkit.commands import matched_points, run
from evalkit.config import build
from evalkit.errors import ConfigError
from evalkit.runs import load
from tests.support import clips, rows
from tests.support.configs import composed
from tests.support.run_folders import ledger, row, write_run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evalkit.runs.load import Run

pytestmark = pytest.mark.slow

VIDEOS, EACH, CELLS = 60, 5, 64
RATIOS, BETWEEN = (1.0, 0.5, 0.25, 0.125), (0.75, 0.375, 0.1875)


def right(ratio: float) -> list[bool]:
    """Accuracy of frames that must catch a short event: a step in log cost, so that no line between ratios meets it."""
    share = 0.25 + 0.6 / (1 + np.exp(-14 * (np.log2(ratio) + 0.75)))
    draws = np.random.default_rng(7).random((VIDEOS, EACH))  # the same for all ratios: a question has its difficulty
    return [bool(x) for x in (draws < share).ravel()]


def cost(ratio: float) -> tuple[int, float]:
    """KV tokens a layer, and TFLOPs: text, a line for frames, a parabola for attention."""
    cells = round(CELLS * ratio)
    return 16 * cells, 0.2 + 0.1 * cells + 0.0004 * cells**2


def write(folder: Path, method: str, ratio: float, spent: float, marks: Sequence[bool]) -> None:
    """A run whose frames are `spent` of the dense run's."""
    kv, tflops = cost(spent)
    flops = {"encode": 0, "select": 0, "prefill": round(tflops * 1e12), "generate": 0}
    own = ledger(cells=round(CELLS * spent), kv_tokens_per_layer=[kv, kv], flops=flops, ratio_achieved=spent)
    told = [row(f"q{i}", ok, f"v{i // EACH}", ledger=own, letter="AB"[ok], text="AB"[ok]) for i, ok in enumerate(marks)]
    role = "reference" if method == "uniform" else "method"
    settings: dict[str, Any] = {"method": {"name": method, "role": role}, "benchmark": {"questions": len(marks)}}
    write_run(folder / f"{method}-{ratio:g}", told, ratio=ratio, identity=f"{method} {ratio:g}", **settings)


def twins(folder: Path, measured: Sequence[float] = RATIOS, between: Sequence[float] = BETWEEN) -> list[Run]:
    """uniform at `measured`, and the same method under another name at ratios between them."""
    for ratio in measured:
        write(folder, "uniform", ratio, ratio, right(ratio))
    for ratio in between:
        write(folder, "twin", ratio, ratio, right(ratio))
    return load.load(folder)


@pytest.mark.slow
def test_between_its_own_ratios_nothing_is_starred(tmp_path: Path) -> None:
    """Off by many points, all from interpolating: neither interval, p nor star, and both neighbours are shown."""
    scores = paper.frame(Results(twins(tmp_path / "runs")).set_accuracy)
    twin = scores[scores["method"] == "twin"]
    assert twin["kv_delta_pp"].abs().max() > 10
    for key in ("kv", "compute"):
        assert twin[f"{key}_delta_pp"].notna().all()
        tested = [f"{key}_{name}" for name in ("ci_low", "ci_high", "p_sign_flip", "p_sign_flip_holm")]
        assert twin[tested].isna().all(axis=None)
        assert (twin[f"{key}_upper_ratio"] > twin["ratio"]).all()
        assert (twin[f"{key}_lower_ratio"] < twin["ratio"]).all()
        # The truth, no difference at equal cost, lies between the two that were measured.
        assert (twin[f"{key}_lower_ci_high"] >= 0).all()
        assert (twin[f"{key}_upper_ci_low"] <= 0).all()
    paths = {path.name: path.read_text() for path in paper.write(Results(load.load(tmp_path / "runs")), tmp_path)}
    lines = [line for line in paths["accuracy.tex"].splitlines() if line.startswith("twin")]
    assert len(lines) == len(BETWEEN) * (1 + 2)  # one of accuracy, and one for each cost that is interpolated
    assert all(r"\approx" in line and r"\rlap" not in line.rsplit("&", 2)[-1] for line in lines[: len(BETWEEN)])
    for line in (line for line in paths["accuracy.md"].splitlines() if line.startswith("| twin") and "≈" in line):
        assert len(re.findall(r"≈ [+-]\d+\.\d \|", " ".join(line.split()))) >= 1


def test_measured_at_its_cost_the_difference_is_none(tmp_path: Path) -> None:
    scores = paper.frame(Results(twins(tmp_path, [*RATIOS, *BETWEEN])).set_accuracy)
    twin = scores[scores["method"] == "twin"]
    for key in ("kv", "compute"):
        assert (twin[[f"{key}_{name}" for name in ("delta_pp", "ci_low", "ci_high")]] == 0).all(axis=None)
        assert (twin[f"{key}_lower_ratio"] == twin[f"{key}_upper_ratio"]).all()
        assert twin[f"{key}_p_sign_flip_holm"].isna().all()  # the same run under another name is no test


def test_within_two_percent_a_real_difference_is_tested(tmp_path: Path) -> None:
    """The negative control: fifteen points better than the reference at its cost, with interval, p and star."""
    better = [ok or i % 5 == 0 for i, ok in enumerate(right(0.5))]
    write(tmp_path, "twin", 0.51, 0.5, better)
    runs = twins(tmp_path, between=())
    text = paper.write(Results(runs), tmp_path)[2].read_text()
    (line,) = (line for line in text.splitlines() if line.startswith("twin"))
    assert line.count(r"\rlap{$^*$}") == 3


# ---- where the reference is to be run


def test_ratios_of_twins_are_found(tmp_path: Path) -> None:
    """Costs of whole cells, exactly: the ratios at which the twin was run."""
    assert curve_points.missing(twins(tmp_path)) == pytest.approx(sorted(BETWEEN, reverse=True), rel=0.01)


def test_one_ratio_does_for_costs_that_are_near_each_other(tmp_path: Path) -> None:
    """400 and 406 KV tokens: their middle, 403, is within 2 % of both."""
    twins(tmp_path, between=())
    for name, kv in (("zoom", 400), ("crop", 406)):
        write(tmp_path, name, 0.4, 0.4, right(0.4))
        file = tmp_path / f"{name}-0.4" / "answers.jsonl"
        file.write_text(file.read_text().replace("[416, 416]", f"[{kv}, {kv}]"))
    assert curve_points.missing(load.load(tmp_path)) == pytest.approx([403 / 1024], rel=1e-3)


def test_there_is_nothing_to_add(tmp_path: Path) -> None:
    """Where it is measured within 2 %; where a method costs more than the dense run; where nothing is known."""
    assert curve_points.missing(twins(tmp_path / "a", [*RATIOS, *BETWEEN])) == []
    runs = twins(tmp_path / "b", between=())
    assert curve_points.missing(runs) == []
    write(tmp_path / "b", "question_attention", 1.0, 1.2, right(1.0))
    assert curve_points.missing(load.load(tmp_path / "b")) == []


def test_cells_that_are_neighbours_have_nothing_between_them(tmp_path: Path) -> None:
    """8 and 9 of 64 cells; a method that costs as much as 8.4 of them can be met no better."""
    runs = twins(tmp_path / "runs", measured=(1.0, 8 / 64, 9 / 64), between=())
    (found,) = question_sets(runs)
    write(tmp_path / "runs", "zoom", 0.13, 8 / 64, right(0.1))
    line = (tmp_path / "runs" / "zoom-0.13" / "answers.jsonl").read_text()
    changed = line.replace('"kv_tokens_per_layer": [128, 128]', '"kv_tokens_per_layer": [134, 134]')
    changed = changed.replace(f'"prefill": {round(cost(8 / 64)[1] * 1e12)}', '"prefill": 1070000000000')
    assert changed != line
    (tmp_path / "runs" / "zoom-0.13" / "answers.jsonl").write_text(changed)
    (found,) = question_sets(load.load(tmp_path / "runs"))
    zoom = found.at("zoom", 0.13)
    assert zoom is not None
    between = at_equal(found, zoom, "kv_tokens")
    assert between is not None
    assert not between.place.measured
    assert curve_points.missing(load.load(tmp_path / "runs")) == []


@pytest.mark.parametrize("measured", [(1.0,), (1.0, 0.125), (1.0, 0.5, 0.25)])
def test_a_few_rounds_find_the_cost(tmp_path: Path, measured: Sequence[float]) -> None:
    """From one ratio, two or three, for a method of 41 cells' compute and 20 cells' cache."""
    twins(tmp_path, measured, between=())
    write(tmp_path, "zoom", 0.3125, 41 / 64, right(0.4))
    file = tmp_path / "zoom-0.3125" / "answers.jsonl"
    file.write_text(file.read_text().replace("[656, 656]", "[320, 320]"))
    for _ in range(matched_points.ROUNDS):
        for ratio in curve_points.missing(load.load(tmp_path)):
            write(tmp_path, "uniform", ratio, ratio, right(ratio))
    (found,) = question_sets(load.load(tmp_path))
    zoom = found.at("zoom", 0.3125)
    assert zoom is not None
    for name in curve_points.COSTS:
        matched = at_equal(found, zoom, name)
        assert matched is not None
        assert matched.place.measured, name


# ---- through run_eval.py's job


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four questions about two videos."""
    root = tmp_path_factory.mktemp("data")
    clip = clips.make(root / "clip.mp4", frames=64, size=(112, 112))
    asked = [rows.mlvu_row(video=f"street_{n}.mp4", question=f"Which bus is {n}{q}?") for n in (1, 2) for q in "ab"]
    rows.write_json(root / "json" / "1_plotQA.json", asked)
    for n in (1, 2):
        place = root / "video" / "1_plotQA" / f"street_{n}.mp4"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(clip.read_bytes())
    return root


def config(data: Path, results: Path, *overrides: str) -> Any:
    """On the trained backbone, whose replies are short."""
    methods = "methods=[uniform,{from: uniform, name: twin, max_frames: 24}]"
    common = ["benchmark=mlvu", f"benchmark.root={data}", f"results_dir={results}"]
    return composed(*common, "sampling.frames=32", "ratios=[1.0,0.5]", methods, *overrides)


@pytest.mark.slow
def test_matched_adds_the_reference_at_the_cost_of_the_others(data: Path, tmp_path: Path) -> None:
    """A twin of 24 of 32 frames: interpolated without, measured with; a second start answers and adds nothing."""
    plain = run.run(config(data, tmp_path / "plain"))
    outcome = run.run(config(data, tmp_path / "matched", "matched=true"))
    (before,), (after,) = (
        question_sets(load.ordered([run for folder in o.folders for run in load.load(folder)]))
        for o in (plain, outcome)
    )
    assert [point.ratio for point in before.curve] == [1, 0.5]
    assert [point.ratio for point in after.curve] == [1, 0.75, 0.5]
    for found, measured in ((before, False), (after, True)):
        twin = found.at("twin", 1)
        assert twin is not None
        for name in ("kv_tokens", "tflops"):
            matched = at_equal(found, twin, name)
            assert matched is not None
            assert matched.place.measured is measured
            assert matched.repeats is measured
    table = pd.read_csv(tmp_path / "matched" / "accuracy.csv")
    assert set(table[table["method"] == "uniform"]["ratio"]) == {1, 0.75, 0.5}
    texts = {file: file.read_bytes() for file in (tmp_path / "matched").rglob("answers.jsonl")}
    assert run.run(config(data, tmp_path / "matched", "matched=true")).folders == outcome.folders
    assert {file: file.read_bytes() for file in (tmp_path / "matched").rglob("answers.jsonl")} == texts


def test_matched_needs_the_reference_and_others(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for alone in ("methods=[uniform]", "method=retake"):
        with pytest.raises(ConfigError, match=r"matched=true needs the reference \(uniform\) and other methods"):
            run.run(config(data, tmp_path, "matched=true", alone))
    grid = build.grid(config(data, tmp_path))
    assert "up to 4 for each set of questions" in matched_points.announced(grid)
    run.run(config(data, tmp_path, "matched=true", "dry_run=true"))
    assert "matched=true: uniform is run at more ratios" in capsys.readouterr().out
    assert not list(tmp_path.rglob("answers.jsonl"))
