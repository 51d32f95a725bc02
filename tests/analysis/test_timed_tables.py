"""Seconds in tables and plots: shared ones are marked and compared with nothing, timed ones take their place."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import pytest

from evalkit.analysis import plots
from evalkit.analysis.grid.costs import COLUMNS
from evalkit.analysis.grid.equal_cost import at_equal
from evalkit.analysis.grid.measured_points import QuestionSet, question_sets
from evalkit.analysis.grid.seconds import SECONDS
from evalkit.analysis.results import Results
from evalkit.analysis.tables import paper, run_tables
from evalkit.errors import DataError
from evalkit.runs import load
from tests.support.plot_grids import RIGHT, rows, svg, write
from tests.support.report_page import page
from tests.support.report_runs import averages
from tests.support.run_folders import ledger, row, write_run

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow

SHARED = {"seconds_shared": True}
CONDITIONS = {"device": "some GPU", "threads": None, "encode_cells": 32}


def measured(question: str, decode: float, method: str = "uniform", ratio: float = 0.25, **changes: Any) -> str:
    """One line of timing.jsonl: decoding as said, then 1 s of encoding, 2 of prefill and 4 of generating."""
    stages = {"decode": decode, "encode": 1.0, "select": 0.0, "prefill": 2.0, "generate": 4.0}
    line = {
        "benchmark": "mlvu",
        "video_id": f"v{question}",
        "question_id": question,
        "method": method,
        "ratio": ratio,
        "status": "ok",
        "error": None,
        "duration_s": 60.0,
        "seconds": stages,
        "peak_bytes": None,
        "videos": 4,
        "conditions": CONDITIONS,
    }
    return json.dumps(line | changes) + "\n"


def grid(folder: Path, seconds: dict[tuple[str, float], list[str]], **changes: Any) -> QuestionSet:
    """Uniform and ReTaKe with shared seconds; `seconds` has lines of timing.jsonl for some of them."""
    keys = [key for key in RIGHT if key[0] in ("uniform", "retake")]
    for place, (method, ratio) in enumerate(keys):
        write(folder, method, ratio, rows(method, ratio, RIGHT[method, ratio], **{**SHARED, **changes}))
        if (method, ratio) in seconds:
            (folder / str(place) / "timing.jsonl").write_text("".join(seconds[method, ratio]))
    (found,) = question_sets(load.load(folder))
    return found


def timed(decodes: list[float], *keys: tuple[str, float]) -> dict[tuple[str, float], list[str]]:
    return {key: [measured(f"{video}-0", decode, *key) for video, decode in enumerate(decodes)] for key in keys}


KEYS = [key for key in RIGHT if key[0] in ("uniform", "retake")]


@pytest.mark.parametrize("old", [False, True])
def test_shared_seconds_are_marked_and_compared_with_nothing(tmp_path: Path, old: bool) -> None:
    """Answers of older versions do not say whether they shared work, and are taken to have."""
    found = grid(tmp_path / "g", {})
    if old:
        for file in (tmp_path / "g").rglob("answers.jsonl"):
            file.write_text(file.read_text().replace(', "seconds_shared": true', ""))
        (found,) = question_sets(load.load(tmp_path / "g"))
    runs = load.load(tmp_path / "g")
    assert set(Results(runs).budget["seconds"]) == {"shared"}
    assert "|    shared |" in run_tables.markdown(Results(runs, averages))
    assert "not comparable between rows" in " ".join(run_tables.markdown(Results(runs, averages)).split())
    assert all(math.isnan(point.costs[name]) for point in found.points for name in SECONDS)
    assert svg(found, "ttft_s") == ""
    ours = found.at("retake", 0.25)
    assert ours is not None
    assert at_equal(found, ours, "ttft_s") is None
    assert at_equal(found, ours, "kv_tokens") is not None
    text = page(runs)
    assert "seconds of shared work are not comparable" in text
    assert "Seconds of each method and ratio alone" not in text


def test_seconds_that_were_not_shared_compare(tmp_path: Path) -> None:
    """The negative control: the same answers given alone are in the plot and have a cost."""
    found = grid(tmp_path / "g", {}, seconds_shared=False)
    assert "no work shared, mean per question" in svg(found, "ttft_s")
    assert [point.mean_costs["seconds"] for point in found.points] == ["alone"] * 6
    ours = found.at("retake", 0.25)
    assert ours is not None
    assert at_equal(found, ours, "ttft_s") is not None


def test_a_plot_of_shared_seconds_from_an_earlier_version_is_removed(tmp_path: Path) -> None:
    grid(tmp_path / "g", {}, seconds_shared=False)
    assert [f for f in plots.Figures(question_sets(load.load(tmp_path / "g"))).write(tmp_path) if "ttft" in f.name]
    for file in (tmp_path / "g").rglob("answers.jsonl"):
        file.write_text(file.read_text().replace(', "seconds_shared": false', ""))
    plots.Figures(question_sets(load.load(tmp_path / "g"))).write(tmp_path)
    kinds = {file.stem.rsplit("-", 1)[1] for file in (tmp_path / "plots").iterdir()}
    assert kinds == {"kv", "llm", "tflops"}


def test_one_shared_answer_makes_a_row_shared(tmp_path: Path) -> None:
    lines = [row("1", True, ledger=ledger(seconds_shared=False)), row("2", True, ledger=ledger(seconds_shared=True))]
    spending = Results(load.load(write_run(tmp_path / "r", lines))).budget
    assert set(spending["seconds"]) == {"shared"}


def test_timed_seconds_by_hand(tmp_path: Path) -> None:
    """Decoding 1, 2, 4 and 9 s: median 3, quartiles 1.75 and 5.25; what was shared is in no column."""
    found = grid(tmp_path / "g", timed([1, 2, 4, 9], ("uniform", 0.25)))
    point = found.at("uniform", 0.25)
    assert point is not None
    spent = point.mean_costs
    assert (spent["seconds"], spent["timed_n"]) == ("timed", 4)
    assert [spent[name] for name in ("decode_q1_s", "decode_s", "decode_q3_s")] == [1.75, 3, 5.25]
    assert [spent[name] for name in ("ttft_q1_s", "ttft_s", "ttft_q3_s")] == [4.75, 6, 8.25]
    assert [spent[name] for name in ("generate_s", "total_s")] == [4, 10]
    assert math.isnan(spent["peak_mb"])  # a process has one peak on a CPU
    assert spent["n"] == 40  # answers, which tokens are counted on
    other = found.at("uniform", 0.5)
    assert other is not None
    assert other.mean_costs["seconds"] == "shared"


def test_what_tables_and_report_say_of_timed_seconds(tmp_path: Path) -> None:
    seconds = timed([1, 2, 4, 9], *KEYS[:5])
    grid(tmp_path / "g", seconds)
    runs = load.load(tmp_path / "g")
    text = run_tables.markdown(Results(runs, averages))
    assert "6.000 [4.750, 8.250]" in text
    assert max(map(len, text.splitlines())) <= 120
    frame = Results(runs).budget
    assert list(frame.columns) == list(COLUMNS)
    everything = frame[frame["group"] == "all"]
    assert list(everything["seconds"]) == ["timed"] * 5 + ["shared"]
    written = {path.name: path.read_text(encoding="utf-8") for path in paper.write(Results(runs, averages), tmp_path)}
    for name in ("budget.md", "budget.tex"):
        assert "6.000" in written[name]
        assert "on the same videos for all" in " ".join(written[name].split())
    assert "tab:timed-1-" in written["budget.tex"]
    shown = page(runs)
    assert "Seconds of each method and ratio alone" in shown
    assert "6.000 [4.750, 8.250]" in shown
    assert "not measured" in shown
    run_tables.write(Results(runs, averages), tmp_path / "t")
    assert "TTFT Q1" in (tmp_path / "t" / "budget.md").read_text(encoding="utf-8")


def test_a_plot_shows_what_was_timed_on_the_same_videos(tmp_path: Path) -> None:
    seconds = timed([1, 2, 4, 9], *KEYS)
    figure = svg(grid(tmp_path / "all", seconds), "ttft_s")
    assert "each point alone and warm, median of 4 videos" in figure
    assert "not shown" not in figure
    few = seconds | timed([1, 2], KEYS[0])
    assert "not shown: 1 of 6 points" in svg(grid(tmp_path / "few", few), "ttft_s")
    untimed = {key: seconds[key] for key in KEYS[1:]}
    assert "not shown: 1 of 6 points" in svg(grid(tmp_path / "untimed", untimed), "ttft_s")
    elsewhere = [measured(f"{n}-0", 1.0, *KEYS[0], conditions={**CONDITIONS, "device": "other"}) for n in range(4)]
    assert svg(grid(tmp_path / "elsewhere", seconds | {KEYS[0]: elsewhere}), "ttft_s") == ""


def test_groups_have_the_seconds_of_their_own_videos(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "r", [row("1", True), row("2", True, groups={"duration": ["short"]})])
    (folder / "timing.jsonl").write_text(measured("2", 5.0))
    spending = Results(load.load(folder)).budget.set_index("value")
    assert list(spending.loc["all", ["seconds", "timed_n", "decode_s"]]) == ["timed", 1, 5]
    assert list(spending.loc["short", ["seconds", "timed_n", "decode_s"]]) == ["timed", 1, 5]
    assert list(spending.loc["<2 min", ["seconds", "timed_n"]]) == ["timed", 0]
    assert math.isnan(spending.loc["<2 min", "decode_s"])


def test_last_measurements_under_one_set_of_conditions_count(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "r", [row(str(n), True) for n in range(4)])
    lost = {"status": "failed", "seconds": None, "error": "out of memory"}
    lines = [
        measured("0", 90.0, conditions={**CONDITIONS, "device": "another"}),
        measured("1", 90.0, videos=9),
        measured("2", 90.0),
        measured("2", 3.0, peak_bytes=7_000_000),
        measured("1", 0.0, **lost),
        measured("3", 5.0, peak_bytes=9_000_000),
    ]
    (folder / "timing.jsonl").write_text("".join(lines) + '{"torn')
    (run,) = load.load(folder)
    assert [(t.question_id, t.seconds and t.seconds.decode) for t in run.timings] == [("2", 3.0), ("3", 5.0)]
    assert Results([run]).budget["peak_mb"][0] == 9


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("nonsense\n", "one JSON object"),
        (measured("1", 1.0, seconds={"decode": 1.0}), "encode is missing"),
        (measured("1", 1.0, seconds=None), "expected status ok with seconds"),
        (measured("1", 1.0, videos="many"), "expected videos to be int"),
        (measured("1", 1.0, ratio=0.5), "answers of different runs were mixed"),
    ],
)
def test_a_malformed_line_names_its_file(tmp_path: Path, line: str, complaint: str) -> None:
    folder = write_run(tmp_path / "r", [row("1", True)])
    (folder / "timing.jsonl").write_text(line)
    with pytest.raises(DataError, match=r"timing\.jsonl") as error:
        load.load(folder)
    assert complaint.lower() in str(error.value).lower()
