"""The accuracy and token-budget tables, on answers small enough to count by hand."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest

from evalkit.analysis.results import Results
from evalkit.analysis.tables import run_tables
from evalkit.errors import DataError
from evalkit.runs import load
from tests.support.run_folders import ledger, outcome, row, write_run

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import pandas as pd


def averages(protocol: str, benchmark: str, rows: Sequence[tuple[Mapping[str, Any], bool]]) -> dict[str, float]:
    """Stands in for the protocol: macro over task types for mlvu, micro else."""
    assert protocol == "lmms_eval"
    micro = 100 * sum(right for _, right in rows) / len(rows)
    if benchmark != "mlvu":
        return {"micro (official)": micro}
    tasks: dict[str, list[bool]] = {}
    for groups, right in rows:
        tasks.setdefault(groups["task_type"][0], []).append(right)
    return {"macro (official)": 100 * sum(sum(t) / len(t) for t in tasks.values()) / len(tasks), "micro": micro}


def groups(task: str, duration: str = "<2 min") -> dict[str, list[str]]:
    return {"task_type": [task], "duration": [duration]}


# plotQA 3 of 4 right over two videos, order 0 of 1, one failed, one unparsed (wrong).
MIXED = [
    row("1", True, "a.mp4", groups=groups("plotQA")),
    row("2", True, "a.mp4", groups=groups("plotQA")),
    row("3", True, "b.mp4", groups=groups("plotQA", "2-15 min")),
    row("4", False, "b.mp4", groups=groups("plotQA", "2-15 min"), status="unparsed", letter=None),
    row("5", False, "c.mp4", groups=groups("order", ">60 min")),
    row("6", None, "d.mp4", groups=groups("order", ">60 min")),
]


def line(frame: pd.DataFrame, **where: Any) -> Any:
    """The one row that matches."""
    for column, value in where.items():
        frame = frame[frame[column] == value]
    assert len(frame) == 1
    return frame.iloc[0]


def test_accuracy_by_hand(tmp_path: Path) -> None:
    scores = Results(load.load(write_run(tmp_path / "r", MIXED)), averages).accuracy
    overall = line(scores, group="all")
    assert (overall.n, overall.videos, overall.failed, overall.unparsed) == (5, 3, 1, 1)
    assert overall.accuracy == 60
    # Residuals 2 - 1.2, 1 - 1.2, 0 - 0.6; SE = sqrt(1.5 · 1.04) / 5 = 0.2498; with t(2) = 4.303 past both ends.
    assert (overall.ci_low, overall.ci_high, overall.ci_half_width) == (0, 100, 60)


def test_macro_is_not_micro(tmp_path: Path) -> None:
    scores = Results(load.load(write_run(tmp_path / "r", MIXED)), averages).accuracy
    means = scores[scores["group"] == "average"]
    assert list(means["value"]) == ["macro (official)", "micro"]
    assert list(means["accuracy"]) == [37.5, 60]
    assert means["ci_low"].isna().all()


def test_averages_come_from_the_runs_protocol(tmp_path: Path) -> None:
    scores = Results(load.load(write_run(tmp_path / "r", MIXED))).accuracy
    means = scores[scores["group"] == "average"]
    assert dict(zip(means["value"], means["accuracy"], strict=True)) == {"macro (official)": 37.5, "micro": 60}


def test_unknown_protocol(tmp_path: Path) -> None:
    runs = load.load(write_run(tmp_path / "r", MIXED, protocol={"name": "homemade"}))
    with pytest.raises(DataError, match=r"r/config\.yaml: protocol: expected one of .*; got 'homemade'; restore it"):
        _ = Results(runs).accuracy


def test_a_group_that_the_protocols_averages_need(tmp_path: Path) -> None:
    lines = [MIXED[0] | {"groups": {}}, *MIXED[1:]]
    runs = load.load(write_run(tmp_path / "r", lines, benchmark={"name": "mlvu"}))
    with pytest.raises(DataError, match=r"r/answers\.jsonl: expected 'task_type' among the groups of each answer"):
        _ = Results(runs).accuracy


def test_accuracy_by_group(tmp_path: Path) -> None:
    scores = Results(load.load(write_run(tmp_path / "r", MIXED)), averages).accuracy
    order = line(scores, group="task_type", value="order")
    assert (order.n, order.videos, order.accuracy, order.failed) == (1, 1, 0, 1)
    assert math.isnan(order.ci_half_width)
    assert line(scores, group="task_type", value="plotQA").accuracy == 75
    durations = scores[scores["group"] == "duration"]
    assert list(durations["value"]) == ["<2 min", "2-15 min", ">60 min"]
    assert list(durations["accuracy"]) == [100, 50, 0]


def test_a_question_with_two_labels_counts_under_each(tmp_path: Path) -> None:
    rows = [row("1", True, groups={"task_type": ["x", "y"]}), row("2", False, "v2", groups={"task_type": ["y"]})]
    scores = Results(load.load(write_run(tmp_path / "r", rows)), averages).accuracy
    assert line(scores, group="all").n == 2
    assert line(scores, value="x").accuracy == 100
    assert line(scores, value="y").accuracy == 50


def test_a_label_said_twice_counts_once_and_duration_comes_first(tmp_path: Path) -> None:
    labels = {"category": ["c"], "duration": ["short"], "task_type": ["x", "x"]}
    scores = Results(load.load(write_run(tmp_path / "r", [row("1", True, groups=labels)])), averages).accuracy
    assert line(scores, value="x").n == 1
    assert list(scores["group"]) == ["all", "average", "average", "duration", "category", "task_type"]


def test_only_failures(tmp_path: Path) -> None:
    runs = load.load(write_run(tmp_path / "r", [row("1", None), row("2", None)]))
    scores = Results(runs, averages).accuracy
    assert (line(scores, group="all").n, line(scores, group="all").failed) == (0, 2)
    assert math.isnan(line(scores, group="all").accuracy)
    assert "average" not in set(scores["group"])
    assert "nan" not in run_tables.markdown(Results(runs, averages))


def test_budget_means_and_units(tmp_path: Path) -> None:
    rows = [
        row("1", True, groups=groups("x")),
        row("2", True, groups=groups("x", "long"), ledger=ledger(frames_decoded=16, kv_bytes=4e6, peak_bytes=7e8)),
        row("3", None, groups=groups("x", "long")),
    ]
    spending = Results(load.load(write_run(tmp_path / "r", rows))).budget
    overall = line(spending, group="all")
    assert (overall.n, overall.frames, overall.kv_tokens, overall.kv_mb) == (2, 12, 64, 3)
    assert overall.total_s == pytest.approx(1.0)
    assert (overall.prefill_s, overall.peak_mb) == (0.3, 700)
    assert list(spending["value"]) == ["all", "long", "<2 min"]
    assert line(spending, value="long").frames == 16
    assert line(spending, value="<2 min").peak_mb == 500


@pytest.mark.parametrize(
    ("achieved", "off"), [(0.25, False), (0.2549, False), (0.2451, False), (0.256, True), (0.244, True), (0.0, False)]
)
def test_ratio_flag(tmp_path: Path, achieved: float, off: bool) -> None:
    runs = load.load(write_run(tmp_path / "r", [row("1", True, ledger=ledger(ratio_achieved=achieved))]))
    assert bool(line(Results(runs).budget, group="all").ratio_off) is off
    text = run_tables.markdown(Results(runs, averages))
    assert (f"{achieved:.3f} !" in text) is off
    assert ("differs from nominal" in text) is off


def three_benchmarks(root: Path) -> list[load.Run]:
    for format_, name in (("videomme", "VideoMME"), ("mlvu", "MLVU"), ("lvbench", "LVBench")):
        label = f"generated videos ({name} format)"
        benchmark = {"name": format_, "label": label, "questions": len(MIXED), "notes": [f"made for {name}'s loader"]}
        for method in ("uniform", "random_frames"):
            for ratio in (0.25, 1.0):
                rows = [line | {"ledger": ledger(ratio_achieved=ratio)} if line["ledger"] else line for line in MIXED]
                identity = f"{format_}{method}{ratio}"
                folder = root / format_ / f"{method}-{ratio}"
                parts = {"method": {"name": method}, "benchmark": benchmark, "ratio": ratio, "identity": identity}
                write_run(folder, rows[: 5 if method == "uniform" and ratio == 1 else 6], **parts)
    return load.load(root)


def test_markdown(tmp_path: Path, file_regression: Any) -> None:
    """The whole text, checked by eye when it was stored."""
    file_regression.check(
        run_tables.markdown(Results(three_benchmarks(tmp_path), averages)), extension=".md", encoding="utf-8"
    )


def test_markdown_fits_a_terminal(tmp_path: Path) -> None:
    assert max(map(len, run_tables.markdown(Results(three_benchmarks(tmp_path), averages)).splitlines())) <= 120


def test_real_labels_are_column_names(tmp_path: Path) -> None:
    write_run(tmp_path / "m", MIXED, benchmark={"label": "MLVU"}, identity="1")
    write_run(tmp_path / "v", MIXED, benchmark={"label": "VideoMME", "name": "videomme"}, identity="2")
    text = run_tables.markdown(Results(load.load(tmp_path), averages))
    assert "MLVU macro |" in text
    assert "37.5 |" in text
    assert "VideoMME micro |" in text
    assert "| MLVU micro |" in " ".join(text.split())


def test_rows_follow_the_order_of_the_runs(tmp_path: Path) -> None:
    uniform = load.load(write_run(tmp_path / "u", MIXED, identity="1"))
    low = load.load(write_run(tmp_path / "l", MIXED, identity="2", method={"name": "lowres"}))
    text = run_tables.markdown(Results([*uniform, *low], averages))
    assert text.index("| uniform") < text.index("| lowres")
    text = run_tables.markdown(Results([*low, *uniform], averages))
    assert text.index("| uniform") > text.index("| lowres")


def test_replies_of_one_repeated_token_are_counted(tmp_path: Path) -> None:
    """They keep their score; answers of older versions do not say."""
    marks = (True, True, False, None, True)
    lines = [entry | {"repeated": mark} for entry, mark in zip(MIXED, marks, strict=False)]
    runs = load.load(write_run(tmp_path / "r", [*lines, MIXED[5]]))
    scores = Results(runs, averages).accuracy
    assert (line(scores, group="all").repeated, line(scores, group="all").accuracy) == (3, 60)
    assert line(scores, value="plotQA").repeated == 2
    text = run_tables.markdown(Results(runs, averages))
    head, _, cells = [shown.split("|")[-2].strip() for shown in text.splitlines() if shown.startswith("|")][:3]
    assert (head, cells) == ("repeated", "3")
    assert "repeated counts replies that are one token over and over" in text
    older = Results(load.load(write_run(tmp_path / "older", MIXED)), averages).accuracy
    assert set(older["repeated"]) == {0}


def test_clean_runs_show_no_failure_columns(tmp_path: Path) -> None:
    text = run_tables.markdown(Results(load.load(write_run(tmp_path / "r", MIXED[:3])), averages))
    assert " failed |" not in text
    assert " unparsed |" not in text
    assert " repeated |" not in text


def test_runs_that_look_alike_are_told_apart(tmp_path: Path) -> None:
    write_run(tmp_path / "a", MIXED, identity="aaaaaaaaaa")
    write_run(tmp_path / "b", MIXED[:5], identity="bbbbbbbbbb")
    scores = Results(load.load(tmp_path), averages).accuracy
    assert line(scores, method="uniform#aaaaaaaa", group="all").failed == 1
    assert line(scores, method="uniform#bbbbbbbb", group="all").failed == 0


def test_backbones_are_never_in_one_table(tmp_path: Path) -> None:
    write_run(tmp_path / "a", MIXED, identity="1")
    write_run(tmp_path / "b", MIXED, identity="2", backbone={"name": "qwen2_vl_7b"})
    text = run_tables.markdown(Results(load.load(tmp_path), averages))
    assert text.count("backbone tiny") == text.count("backbone qwen2_vl_7b") == 2
    assert text.count("| uniform ") == 6


def test_hostile_labels_do_not_break_the_table(tmp_path: Path) -> None:
    rows = [row("1", True, groups={"task_type": ["a|b\nc"]})]
    run_tables.write(Results(load.load(write_run(tmp_path / "r", rows)), averages), tmp_path / "out")
    assert "a\\|b c" in (tmp_path / "out" / "accuracy.md").read_text(encoding="utf-8")


def test_written_files(tmp_path: Path) -> None:
    runs = three_benchmarks(tmp_path / "runs")
    names = ["accuracy.csv", "accuracy.md", "budget.csv", "budget.md", "differences.csv"]
    for folder in (tmp_path / "one", tmp_path / "two"):
        run_tables.write(Results(runs, averages), folder)
        assert sorted(p.name for p in folder.iterdir()) == names
    run_tables.write(Results(load.load(tmp_path / "runs"), averages), tmp_path / "two")
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    head, first = (tmp_path / "one" / "accuracy.csv").read_text(encoding="utf-8").splitlines()[:2]
    keys = ["benchmark", "split", "backbone", "sampling", "protocol", "weights", "method", "ratio", "group"]
    assert head.split(",")[:9] == keys
    assert first.startswith("generated videos (LVBench format),dev,tiny,")
    assert "2-15 min" in (tmp_path / "one" / "budget.md").read_text(encoding="utf-8")


def test_files_change_with_the_answers(tmp_path: Path) -> None:
    write_run(tmp_path / "a" / "r", MIXED)
    write_run(tmp_path / "b" / "r", [MIXED[0] | outcome(not MIXED[0]["correct"]), *MIXED[1:]])
    for name in ("a", "b"):
        run_tables.write(Results(load.load(tmp_path / name), averages), tmp_path / name)
    assert (tmp_path / "a" / "accuracy.csv").read_bytes() != (tmp_path / "b" / "accuracy.csv").read_bytes()
    assert (tmp_path / "a" / "budget.csv").read_bytes() == (tmp_path / "b" / "budget.csv").read_bytes()


def test_a_method_that_acts_too_late_is_marked(tmp_path: Path) -> None:
    """Letters of a method that cuts the cache after the whole prompt are the dense run's: no result of its own."""
    write_run(tmp_path / "u", MIXED)
    assert "°" not in run_tables.markdown(Results(load.load(tmp_path), averages))
    write_run(tmp_path / "l", MIXED, method={"name": "late", "vacuous": True}, identity="2f0c22aa00000000")
    shown = run_tables.markdown(Results(load.load(tmp_path), averages))
    assert "late °" in shown
    assert "uniform °" not in shown
    assert "is the dense run's at any ratio" in shown
