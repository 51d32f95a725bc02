"""A paper's tables: numbers against what they are made of, and how they look as Markdown and LaTeX."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

from evalkit.analysis.grid.equal_cost import against_dense, at_equal
from evalkit.analysis.grid.measured_points import question_sets
from evalkit.analysis.results import Results
from evalkit.analysis.stats import accuracy_interval
from evalkit.analysis.stats.paired_tests import expected_ci_half_width, holm
from evalkit.analysis.tables import paper
from evalkit.runs import load
from tests.support.latex_flaws import flaws
from tests.support.run_folders import ledger, row, write_run

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from evalkit.runs.load import Run

pytestmark = pytest.mark.slow

FILES = [f"{kind}.{suffix}" for kind in ("accuracy", "budget", "compression") for suffix in ("csv", "md", "tex")]
# method, role, ratio -> percent right, TFLOPs
GRID: dict[tuple[str, str, float], tuple[int, float | None]] = {
    ("uniform", "reference", 1.0): (85, 8.0),
    ("uniform", "reference", 0.5): (60, 4.0),
    ("uniform", "reference", 0.25): (30, 2.0),
    ("retake", "method", 0.5): (82, 7.0),
    ("retake", "method", 0.25): (75, 6.0),
    ("random_tokens", "control", 0.25): (35, None),
}


def averages(protocol: str, benchmark: str, rows: Sequence[tuple[Any, bool]]) -> dict[str, float]:
    """Stands in for the protocol: a mean that is not the accuracy for mlvu, micro else."""
    micro = 100 * sum(right for _, right in rows) / len(rows)
    return {"macro (official)": micro / 2, "micro": micro} if benchmark == "mlvu" else {"micro (official)": micro}


def rows(method: str, ratio: float, percent: int, tflops: float | None, videos: int) -> list[dict[str, Any]]:
    """Three questions a video; one of retake's at a quarter failed, one was not read, its ratios are 10 % short."""
    flops = {"encode": 0, "select": 0, "prefill": round(1e12 * tflops), "generate": 0} if tflops else None
    off = 0.9 if method == "retake" else 1.0
    kv = {"kv_tokens_per_layer": [round(1000 * ratio)], "ratio_achieved": ratio * off}
    spent = {"ledger": ledger(ratio_nominal=ratio, flops=flops, **kv)}
    found = [row(f"q{i:02}", i * 37 % 100 < percent, f"v{i // 3}", **spent) for i in range(3 * videos)]
    if (method, ratio) == ("retake", 0.25):
        found[4:6] = [row("q04", None, "v1"), row("q05", False, "v1", status="unparsed", letter=None, **spent)]
    return found


def results(root: Path, labels: Sequence[str] = ("LVBench", "MLVU"), **changes: Any) -> list[Run]:
    for name in labels:
        label = changes.get("label", f"generated videos ({name} format)")
        videos = 10 if name == "LVBench" else 12
        size = {"questions": 3 * videos, "notes": [f"made for {name}'s loader"]}
        benchmark = {"name": name.lower(), "label": label} | size
        for place, ((method, role, ratio), (percent, tflops)) in enumerate(GRID.items()):
            parts = {"method": {"name": method + changes.get("mark", ""), "role": role}, "benchmark": benchmark}
            told = rows(method, ratio, percent, tflops, videos)[: 35 if role == "control" else None]
            write_run(root / name / str(place), told, ratio=ratio, identity=f"{name}{place}", **parts)
    return load.load(root)


def test_numbers_are_those_of_the_cells(tmp_path: Path) -> None:
    runs = results(tmp_path)
    own = Results(runs, averages)
    scores, spending = paper.frame(own.set_accuracy), paper.frame(own.set_budget)
    sets = question_sets(runs)
    assert list(dict.fromkeys(scores["benchmark"])) == [found.name for found in sets]
    assert len(scores) == len(spending) == 3 * len(GRID)
    for found in sets:
        own = scores[(scores["benchmark"] == found.name) & (scores["method"] == "retake") & (scores["ratio"] == 0.25)]
        point, line = found.at("retake", 0.25), own.iloc[0]
        assert point is not None
        interval = accuracy_interval.accuracy(list(point.scored.values()), [point.video(key) for key in point.scored])
        assert (line.n, line.accuracy, line.ci_half_width) == (interval.n, interval.percent, interval.half_width)
        assert (line.role, line.failed, line.unparsed) == ("method", len(point.parts), len(point.parts))
        assert line.expected_ci_half_width == expected_ci_half_width(interval.n)
        for key, matched in {
            "dense": against_dense(found, point),
            "kv": at_equal(found, point, "kv_tokens"),
            "compute": at_equal(found, point, "tflops"),
        }.items():
            assert matched is not None
            for name in ("delta_pp", "ci_low", "ci_high", "p_sign_flip", "n"):
                assert line[f"{key}_{name}"] == pytest.approx(getattr(matched.change, name), nan_ok=True)
            for end, change in zip(("lower", "upper"), matched.bracket or (), strict=False):
                for name in ("delta_pp", "ci_low", "ci_high"):
                    assert line[f"{key}_{end}_{name}"] == getattr(change, name)
            assert line[f"{key}_excluded"] == len(point.parts)
            place = (matched.place.lower.ratio, matched.place.upper.ratio, matched.place.weight)
            assert (line[f"{key}_lower_ratio"], line[f"{key}_upper_ratio"], line[f"{key}_weight"]) == place
    assert list(scores["compute_upper_ratio"].dropna()) == [1.0, 1.0] * 3
    assert list(spending["tflops"].dropna().unique()) == [8, 4, 2, 7, 6]


def test_own_averages_are_of_single_benchmarks(tmp_path: Path) -> None:
    scores = paper.frame(Results(results(tmp_path), averages).set_accuracy)
    whole, lvbench, mlvu = (scores[scores["benchmark"] == name] for name in dict.fromkeys(scores["benchmark"]))
    assert set(whole["average"]) == {""}
    assert whole["average_accuracy"].isna().all()
    assert set(lvbench["average"]) == {"micro"}
    assert list(lvbench["average_accuracy"]) == pytest.approx(list(lvbench["accuracy"]))
    assert set(mlvu["average"]) == {"macro"}
    assert list(mlvu["average_accuracy"]) == pytest.approx(list(mlvu["accuracy"] / 2))
    assert list(whole["n"]) == [a + b for a, b in zip(lvbench["n"], mlvu["n"], strict=True)]


@pytest.mark.parametrize("key", ["dense", "kv", "compute"])
def test_holm_is_over_a_column_of_a_table(tmp_path: Path, key: str) -> None:
    scores = paper.frame(Results(results(tmp_path), averages).set_accuracy)
    for _, table in scores.groupby("benchmark"):
        there = table[table[f"{key}_p_sign_flip"].notna()]
        assert len(there) == {"dense": 5, "kv": 3, "compute": 0}[key]  # at equal compute all are interpolated
        assert list(there[f"{key}_p_sign_flip_holm"]) == holm(list(there[f"{key}_p_sign_flip"]))
        assert table[f"{key}_p_sign_flip_holm"].notna().sum() == len(there)
    assert (scores[f"{key}_p_sign_flip_holm"] > scores[f"{key}_p_sign_flip"]).any() == (key != "compute")


def test_written_text(tmp_path: Path, file_regression: Any) -> None:
    """The whole of what a reader sees, checked by eye when it was stored."""
    paths = paper.write(Results(results(tmp_path / "runs"), averages), tmp_path)
    texts = {path.name: path.read_text(encoding="utf-8") for path in paths if path.suffix != ".csv"}
    for name in ("accuracy.md", "budget.md"):
        assert max(map(len, texts[name].splitlines())) <= 120
    whole = "\n".join(f"==== {name}\n{text}" for name, text in texts.items())
    file_regression.check(whole, extension=".txt", encoding="utf-8")


@pytest.mark.slow
def test_files_hold_the_frames_and_the_same_answers_give_the_same_bytes(tmp_path: Path) -> None:
    runs = results(tmp_path / "runs")
    for folder in ("a", "b"):
        assert [path.name for path in paper.write(Results(runs, averages), tmp_path / folder)] == FILES
    paper.write(Results(load.load(tmp_path / "runs"), averages), tmp_path / "b")
    assert sorted(path.name for path in (tmp_path / "b" / "paper").iterdir()) == FILES
    for name in FILES:
        assert (tmp_path / "a" / "paper" / name).read_bytes() == (tmp_path / "b" / "paper" / name).read_bytes()
    own = Results(runs, averages)
    for found, name in ((own.set_accuracy, "accuracy.csv"), (own.set_budget, "budget.csv")):
        frame = paper.frame(found)
        read = pd.read_csv(tmp_path / "a" / "paper" / name, keep_default_na=False, na_values={})
        assert list(read.columns) == list(frame.columns)
        assert list(read["ratio"]) == list(frame["ratio"])
    read = pd.read_csv(tmp_path / "a" / "paper" / "accuracy.csv")
    assert list(read["kv_ci_low"].dropna()) == pytest.approx(list(paper.frame(own.set_accuracy)["kv_ci_low"].dropna()))


def test_a_star_needs_the_adjusted_p_value(tmp_path: Path) -> None:
    """Six videos, all lost: p 2/64, in one row a star; four such rows make it 8/64. The interval excludes 0 in both."""
    for rows_, starred in ((1, True), (4, False)):
        root = tmp_path / str(rows_)
        write_run(root / "u", [row(f"q{i}", True, f"v{i}") for i in range(6)], ratio=1.0, identity="0")
        for place in range(rows_):
            parts = {"method": {"name": f"m{place}", "role": "method"}, "identity": f"{place + 1}"}
            write_run(root / str(place), [row(f"q{i}", False, f"v{i}") for i in range(6)], ratio=1.0, **parts)
        text = paper.write(Results(load.load(root), averages), root)[2].read_text(encoding="utf-8")
        assert (r"$-100.0\;[-100.0,\,-100.0]$\rlap{$^*$}" in text) is starred
        assert r"$-100.0\;[-100.0,\,-100.0]$" in text
        assert r"\textbf" not in text


def test_hostile_names_do_not_break_a_table(tmp_path: Path) -> None:
    """Method names, labels and notes come from users and annotation files."""
    runs = results(tmp_path / "runs", ["MLVU"], mark="_{#1%&$^~\\|*", label="videos <50 % & more_{\n}|")
    paths = {path.name: path.read_text(encoding="utf-8") for path in paper.write(Results(runs, averages), tmp_path)}
    assert flaws(paths["accuracy.tex"]) == flaws(paths["budget.tex"]) == []
    assert (
        r"uniform\_\{\#1\%\&\$\textasciicircum{}\textasciitilde{}\textbackslash{}$|${*} & 0.5" in paths["accuracy.tex"]
    )
    for name in ("accuracy.md", "budget.md"):
        lines = [line.replace("\\|", "") for line in paths[name].splitlines() if line.startswith("|")]
        assert {line.count("|") for line in lines} == {len(line.split("|")) - 1 for line in lines}
        assert len([line for line in lines if line.startswith("| uniform_")]) == 2 * 3


def test_generated_videos_are_called_so(tmp_path: Path) -> None:
    for path in paper.write(Results(results(tmp_path / "runs"), averages), tmp_path):
        text = path.read_text(encoding="utf-8")
        assert "generated videos (MLVU format)" in text
        assert not re.search(r"(?<!\()\b(MLVU|LVBench)\b(?! format\)|'s loader)", text)


@pytest.mark.parametrize("marks", [[True, None], [None, None]])
def test_one_video_or_only_failures_have_no_numbers(tmp_path: Path, marks: list[bool | None]) -> None:
    told = [row(f"q{i}", mark) for i, mark in enumerate(marks)]
    for place, (method, ratio) in enumerate([("uniform", 1.0), ("uniform", 0.25), ("retake", 0.5)]):
        write_run(tmp_path / str(place), told, method={"name": method}, ratio=ratio, identity=f"{place}")
    for path in paper.write(Results(load.load(tmp_path), averages), tmp_path):
        text = path.read_text(encoding="utf-8")
        assert "nan" not in text.lower()
        assert "<NA>" not in text
        if path.suffix == ".tex":
            assert flaws(text) == []
    scores = paper.frame(Results(load.load(tmp_path), averages).set_accuracy)
    assert scores["dense_ci_low"].isna().all()
    assert list(scores["failed"]) == [marks.count(None)] * 3


def test_a_missed_ratio_is_marked(tmp_path: Path) -> None:
    """Of retake's rows all are; without it nothing is."""
    runs = results(tmp_path / "runs")
    text = paper.write(Results(runs, averages), tmp_path)[4].read_text(encoding="utf-8")
    assert [line.split("|")[1].strip() for line in text.splitlines() if " ! |" in line] == ["retake"] * 6
    others = [run for run in runs if run.method != "retake"]
    text = paper.write(Results(others, averages), tmp_path)[4].read_text(encoding="utf-8")
    assert "!" not in text


@pytest.mark.parametrize(("tflops", "texts"), [(850.4, "850"), (12.34, "12.3"), (0.00517, "0.00517")])
def test_tflops_have_three_digits(tmp_path: Path, tflops: float, texts: str) -> None:
    flops = {"encode": round(1e12 * tflops), "select": 0, "prefill": 0, "generate": 0}
    runs = load.load(write_run(tmp_path / "r", [row("q", True, ledger=ledger(flops=flops))]))
    text = paper.write(Results(runs, averages), tmp_path)[4].read_text(encoding="utf-8")
    assert f" {texts} |" in text


def test_setups_are_never_in_one_table(tmp_path: Path) -> None:
    write_run(tmp_path / "a", [row("q", True)], identity="1")
    write_run(tmp_path / "b", [row("q", False)], identity="2", backbone={"name": "qwen2_vl_7b"})
    scores = paper.frame(Results(load.load(tmp_path), averages).set_accuracy)
    assert list(zip(scores["backbone"], scores["accuracy"], strict=True)) == [("qwen2_vl_7b", 0), ("tiny", 100)]
    text = paper.write(Results(load.load(tmp_path), averages), tmp_path)[2].read_text(encoding="utf-8")
    assert len(set(re.findall(r"\\label\{(.*?)\}", text))) == text.count(r"\begin{table*}") == 2
