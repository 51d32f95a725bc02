"""The map of lost questions, counted by hand, and its tests against those of single differences."""

from __future__ import annotations

from evalkit.analysis.grid.measured_points import question_sets
from evalkit.analysis.report import heat_map
from tests.support.report_odd import rows
from tests.support.report_page import page
from tests.support.report_runs import grid, run
from tests.support.run_folders import outcome, row


def answers(marks: str, kind: str) -> list[dict[str, object]]:
    """A question and a video each."""
    groups = {"task_type": [kind], "duration": ["short"]}
    return [row(f"{kind}{n}", mark == "r", f"{kind} {n}", groups=groups) for n, mark in enumerate(marks)]


def test_by_hand() -> None:
    dense = run("uniform", "reference", 1.0, [*answers("r" * 20, "count"), *answers("rrrw", "order")])
    half = run("half", "method", 0.5, [*answers("r" * 4 + "w" * 16, "count"), *answers("rrwr", "order")])
    own = question_sets([dense, half])[0]
    (table,) = heat_map.maps(own, own.points, "one")  # a single duration tells nothing apart
    assert table.caption == "by task type"
    assert [(head.text, head.detail) for head in table.heads[0]] == [("count", "n = 20"), ("order", "n = 4")]
    (line,) = table.lines  # none for the dense run
    count, order = line.fields
    assert (count.links[0].text, order.links[0].text) == ("−80.0*", "0")
    assert ("loss" in count.kind, count.shade, order.shade) == (True, 1.0, 0.0)
    assert count.links[0].address == "set=one&point=half%400.5&by.task_type=count&outcome=lost"


def test_a_cell_with_fewer_questions_says_so() -> None:
    dense = run("uniform", "reference", 1.0, [*answers("rrrr", "count"), *answers("rrrr", "order")])
    failed = [one | outcome(None) for one in answers("r", "count")]
    gap = run("gap", "method", 0.25, [*failed, *answers("xrrr", "count")[1:], *answers("wwrr", "order")])
    whole = run("whole", "method", 0.5, [*answers("rrrw", "count"), *answers("rrrr", "order")])
    own = question_sets([dense, whole, gap])[0]
    (table,) = heat_map.maps(own, own.points, "one")
    assert {line.title: [field.detail for field in line.fields] for line in table.lines} == {
        "whole": ["", ""],
        "gap": ["n = 3", ""],
    }


def test_nothing_without_a_dense_run_or_beside_one_that_is_repeated() -> None:
    half = run("half", "method", 0.5, answers("rrww", "count"))
    own = question_sets([half])[0]
    assert heat_map.maps(own, own.points, "one") == []
    same = [run(name, "method", 1.0, answers("rrww", "count")) for name in ("uniform", "half")]
    own = question_sets(same)[0]
    assert heat_map.maps(own, own.points, "one") == []
    assert "There is no dense run, nothing beside it" in page([run("half", "method", 0.5, rows("rw"))])


def test_cells_lead_to_their_questions_and_need_no_colour() -> None:
    text = page(grid(24))
    cells = [part.split("</td>")[0] for part in text.split('<td class="heat ')[1:]]
    assert len(cells) == 9 * (12 + 5 + 3)  # three ratios below 1 of three methods; task types, places, durations
    assert all("<a href=" in cell or "<span>0" in cell for cell in cells)
