"""The table at the top of the page: which rows it has, and that its numbers are those of the tables module."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

import pytest

from evalkit.analysis.report import overview, overview_table
from evalkit.analysis.report.overview import MOST_ROWS
from evalkit.analysis.results import Results
from evalkit.analysis.tables.formatting import grouped_number, signed, span
from tests.support.report_odd import rows
from tests.support.report_overview import view
from tests.support.report_page import page
from tests.support.report_runs import averages, grid, run
from tests.support.run_folders import ledger

if TYPE_CHECKING:
    from evalkit.analysis.report.overview import OverviewRow
    from evalkit.runs.load import Run

RATIOS = (1.0, 0.5, 0.25, 0.125)


def named(found: tuple[OverviewRow, ...]) -> list[str]:
    return [row.name for row in found]


def small(methods: dict[str, str], ratios: tuple[float, ...] = RATIOS) -> list[Run]:
    return grid(8, per_video=2, cells=8, methods=methods, ratios=ratios)


# ---- which rows


@pytest.mark.slow
def test_numbers_are_those_of_the_tables() -> None:
    runs = grid(60)
    own, found = view(runs)
    (_, scores), *_ = Results(runs, averages).set_accuracy
    table = overview_table.table("x", found, own.reference, "one")
    assert len(table.lines) == len(scores) == 12
    for line, row in zip(table.lines, scores.to_dict("records"), strict=True):
        accuracy, dense, kv, compute, *_ = line.fields
        assert (line.title, line.detail) == (row["method"], f"{row['ratio']:g}")
        assert accuracy.text == f"{grouped_number(row['accuracy'], 1)} ± {grouped_number(row['ci_half_width'], 1)}"
        assert accuracy.detail == span(row["ci_low"], row["ci_high"])
        for field, key in ((dense, "dense"), (kv, "kv"), (compute, "compute")):
            if math.isnan(row[f"{key}_delta_pp"]):
                assert field.text in ("–", "dense")
                continue
            star = row[f"{key}_p_sign_flip_holm"] < 0.05 and not row[f"{key}_ci_low"] <= 0 <= row[f"{key}_ci_high"]
            assert field.text == signed(row[f"{key}_delta_pp"]) + "*" * star
            assert field.detail == span(row[f"{key}_ci_low"], row[f"{key}_ci_high"])
    assert {field.text for line in table.lines for field in line.fields if field.text.endswith("*")}


def test_twelve_rows_at_most_and_whole_methods() -> None:
    methods = {"uniform": "reference", **{f"m{n}": "method" for n in range(6)}, "blind": "control"}
    own, found = view(small(methods))
    chosen = overview.chosen(found, own.reference)
    assert named(chosen.first) == [f"{method} {ratio:g}" for method in ("uniform", "m0", "m1") for ratio in RATIOS]
    assert len(chosen.first) == MOST_ROWS
    assert {row.point.method for row in chosen.more} == {"m2", "m3", "m4", "m5"}
    assert {row.point.method for row in chosen.controls} == {"blind"}
    assert len(chosen.first) + len(chosen.more) + len(chosen.controls) == len(found)


def test_ratios_of_the_reference_alone_give_way() -> None:
    """`matched=true` runs the reference at many more ratios than the methods."""
    many = small({"uniform": "reference"}, tuple(1 - n / 20 for n in range(15)))
    own, found = view([*many, *small({"keeper": "method"}, (1.0, 0.5))])
    chosen = overview.chosen(found, own.reference)
    assert named(chosen.first) == ["uniform 1", "uniform 0.5", "keeper 1", "keeper 0.5"]
    assert len(chosen.more) == 13


def test_without_a_method_the_controls_are_what_was_asked_for() -> None:
    own, found = view(small({"uniform": "reference", "blind": "control"}, (1.0,)))
    chosen = overview.chosen(found, own.reference)
    assert named(chosen.first) == ["uniform 1", "blind 1"]
    assert not chosen.controls


def test_one_method_with_more_ratios_than_rows() -> None:
    own, found = view(small({"uniform": "reference"}, tuple(1 - n / 20 for n in range(15))))
    chosen = overview.chosen(found, own.reference)
    assert (len(chosen.first), len(chosen.more)) == (12, 3)


# ---- what is not known


def test_seconds_that_were_not_measured_say_so() -> None:
    _, found = view(grid(6))
    assert {row.ttft for row in found} == {"not measured"}


def test_missing_costs_and_a_single_video_leave_dashes() -> None:
    dense = run("uniform", "reference", 1.0, rows("rr", ledger=None))
    half = run("half", "method", 0.5, rows("rw", ledger=ledger(ratio_achieved=0.5)))
    own, found = view([dense, half])
    first = overview_table.table("x", found, own.reference, "one").lines[0]
    assert [field.text for field in first.fields] == ["100.0", "dense", "–", "–", "–", "–", "not measured"]
    assert not any(difference.tested for row in found for difference in row.differences.values())


def test_failed_rows_are_counted_among_the_facts() -> None:
    own, found = view([run("uniform", "reference", 1.0, rows("rwff")), run("half", "method", 0.5, rows("rrrf"))])
    facts = dict(overview_table.facts(found[0], own.reference))
    assert facts["questions"] == "2 scored, 2 failed"


def test_tuned_weights_stand_under_the_name() -> None:
    own, found = view(grid(6))
    found[4].scores["weights"] = "adapter xcomp"
    table = overview_table.table("x", found, own.reference, "one")
    assert [line.note for line in table.lines[3:6]] == ["", "adapter xcomp", ""]
    assert dict(overview_table.facts(found[4], own.reference))["weights"] == "adapter xcomp"


def test_controls_fold_away_in_the_page() -> None:
    methods = {"uniform": "reference", "keeper": "method", "blind": "control"}
    text = page(grid(12, methods=methods))
    top, controls = re.findall(r'<section data-section="table".*?</section>', text, re.DOTALL)[0].split("<details")
    assert "blind" not in top
    assert controls.count(">blind</a>") == 4
    assert 'class="controls"> controls' in text  # the plot's switch, off
    assert top.count('<th scope="row">') == 8
