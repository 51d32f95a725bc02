"""The report's words and tables against answers counted by hand, and what it says of how they were made."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from evalkit.analysis.grid.measured_points import question_sets
from evalkit.analysis.report import budget_tables, flips
from evalkit.analysis.report.provenance import Value, provenance
from evalkit.analysis.results import Results
from evalkit.runs import load
from tests.support.report_odd import rows
from tests.support.report_page import lines, page, summary, tables
from tests.support.report_runs import grid, run
from tests.support.run_folders import ledger, row, write_run

if TYPE_CHECKING:
    from pathlib import Path

# ---- words


def test_what_the_tables_rest_on_by_hand() -> None:
    dense = run("uniform", "reference", 1.0, rows("rrrrrrww", ledger=ledger(ratio_achieved=1.0)))
    half = run("half", "method", 0.5, rows("rrwrrrrw", ledger=ledger(ratio_achieved=0.52)))
    low = run("half", "method", 0.25, rows("wwwwwwwf", ledger=None))
    scope, said, *rest = lines(page([dense, half, low]))
    assert scope.startswith("generated videos (MLVU format), split dev: 8 questions, 4 videos")
    assert said.startswith("The dense run (uniform at ratio 1: every sampled frame, every token) is right on 75.0 % of")
    assert "of 8 questions about 4 videos (95 % CI " in said
    assert rest == [
        "Failed questions, in no accuracy: half at 0.25: 1.",
        "An option could be read in every reply.",
        "Achieved ratios more than 2 % away from nominal: half at 0.5: 0.520; half at 0.5, <2 min: 0.520.".replace(
            "<", "&lt;"
        ),
    ]


def test_unparsed_replies_and_missing_dense_are_said() -> None:
    said = lines(page([run("half", "method", 0.5, rows("ruww", ledger=ledger(ratio_achieved=0.5)))]))
    assert said[1] == "There is no dense run here (half, the reference, at ratio 1), so there is no comparison."
    assert "Replies in which no option could be read: half at 0.5: 1." in said
    assert "Every achieved ratio is within 2 % of its nominal one." in said


def test_replies_of_one_repeated_token_are_said() -> None:
    told = rows("ruww", ledger=ledger(ratio_achieved=0.5))
    said = "Replies that are one token over and over, up to the limit: half at 0.5: 2."
    text = page([run("half", "method", 0.5, [told[0] | {"repeated": True}, *told[1:3], told[3] | {"repeated": True}])])
    assert said in lines(text)
    assert ">repeated</th>" in text
    plain = page([run("half", "method", 0.5, told)])
    assert "one token over and over" not in plain


@pytest.mark.slow
def test_every_percentage_of_the_sentences_stands_in_a_table() -> None:
    text = page(grid(60))
    said = " ".join(summary(text))
    shown = set(re.findall(r"\d+\.\d+", tables(text)))
    numbers = set(re.findall(r"(\d+\.\d) %", said))
    assert len(numbers) >= 3
    assert numbers <= shown
    assert not {"12.3456"} <= shown


# ---- flips and audit


def test_flips_by_hand() -> None:
    groups = {"evidence": ["1st quarter"], "task_type": ["count"]}
    dense = run("uniform", "reference", 1.0, [*rows("rrww", groups=groups), row("9", True, "v9")])
    half = run("half", "method", 0.5, [*rows("rwrf", groups=groups), row("9", False, "v9")])
    (point,), found = flips.against_dense(question_sets([dense, half])[0])
    assert (point.method, point.ratio) == ("half", 0.5)
    plain = {(g.kind, g.label): (g.n, g.counts[0].n, g.counts[0].gained, g.counts[0].lost) for g in found}
    assert plain == {
        ("all", "all"): (5, 4, 1, 2),
        ("duration", "<2 min"): (1, 1, 0, 1),
        ("evidence", "1st quarter"): (4, 3, 1, 1),
        ("task_type", "count"): (4, 3, 1, 1),
        ("task_type", "plotQA"): (1, 1, 0, 1),
    }
    text = page([dense, half])
    assert (
        'href="#set=generated-videos-mlvu-format-dev&amp;point=half%400.5&amp;outcome=lost&amp;by.task_type=plotQA"'
        in text
    )


def test_ratios_that_are_off_are_marked() -> None:
    long = {"duration": ["long"], "task_type": ["x"]}
    fine, off = (
        rows("rr", ledger=ledger(ratio_achieved=0.25)),
        row("9", True, groups=long, ledger=ledger(ratio_achieved=0.3)),
    )
    text = page([run("uniform", "reference", 0.25, [*fine, off])])
    assert text.count('<td class="off">0.300 !</td>') == 1
    assert text.count("<td>0.250</td>") == 1
    assert "uniform at 0.25, long: 0.300" in " ".join(lines(text))


def test_separators_have_a_column_only_where_there_are_any() -> None:
    def titles_and_values(between: list[int]) -> tuple[list[str], list[list[str]], str]:
        spent = ledger(ratio_achieved=0.5, kv_separators_per_layer=between)
        dense = run("uniform", "reference", 1.0, rows("rr", ledger=ledger(ratio_achieved=1.0)))
        failed = run("third", "method", 0.5, rows("ff"))
        own, costs = Results([dense, run("half", "method", 0.5, rows("rw", ledger=spent)), failed]).set_budget[0]
        table = budget_tables.budget(own, [{str(k): v for k, v in row.items()} for row in costs.to_dict("records")])
        return [h.text for h in table.heads[-1]], [[f.text for f in line.fields] for line in table.lines], table.note

    titles, values, note = titles_and_values([12, 13])
    place = titles.index("separators")
    assert titles[place - 1 : place + 2] == ["KV", "separators", "KV MB"]
    assert sorted(row[place] for row in values) == ["0.0", "12.5", "–"]
    assert "separators counts" in note
    plain, values, note = titles_and_values([])
    assert plain == [title for title in titles if title != "separators"]
    assert {len(row) for row in values} == {len(plain)}
    assert "separators" not in note


def test_merged_tokens_have_a_column_only_where_there_are_any() -> None:
    def table(represented: int) -> tuple[list[str], list[list[str]], str]:
        spent = ledger(ratio_achieved=0.5, tokens_selected=40, tokens_represented=represented)
        own, costs = Results([run("half", "method", 0.5, rows("rw", ledger=spent))]).set_budget[0]
        found = budget_tables.budget(own, [{str(k): v for k, v in row.items()} for row in costs.to_dict("records")])
        return [h.text for h in found.heads[-1]], [[f.text for f in line.fields] for line in found.lines], found.note

    titles, values, note = table(64)
    place = titles.index("represented")
    assert titles[place - 1] == "selected"
    assert [row[place - 1 : place + 1] for row in values] == [["40", "64"]]
    assert "represented counts" in note
    plain, _, note = table(40)
    assert plain == [title for title in titles if title != "represented"]
    assert "represented" not in note


# ---- what it was made with


def test_environment_names_what_differs(tmp_path: Path) -> None:
    for name, version in (("a", "1.0"), ("b", "2.0")):
        folder = write_run(
            tmp_path / name, rows("rw"), identity=name, method={"name": name}, backbone={"path": "/x/y/weights"}
        )
        found = {"device": "cpu", "versions": {"torch": version}, "weights": {"path": "/home/me/w"}}
        (folder / "environment.json").write_text(json.dumps(found), encoding="utf-8")
    write_run(tmp_path / "c", rows("rw"), identity="c", method={"name": "c"}, backbone={"path": "org/model"})
    made = provenance(Results(load.load(tmp_path)).named)
    label = "generated videos (MLVU format)"
    assert made.environment["versions.torch"] == [
        Value("1.0", f"1 of 3 runs: a 0.25 on {label}"),
        Value("2.0", f"1 of 3 runs: b 0.25 on {label}"),
        Value("not recorded", f"1 of 3 runs: c 0.25 on {label}"),
    ]
    assert [value.text for value in made.environment["weights.path"]] == ["…/w", "not recorded"]
    assert [value.text for value in made.settings["backbone.path"]] == ["…/weights", "org/model"]
    assert made.settings["backbone.name"] == [Value("tiny", "")]
    assert "/home/me" not in page(load.load(tmp_path))
