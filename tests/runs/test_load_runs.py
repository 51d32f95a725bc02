"""Reading run folders: last line wins, torn lines, malformed files."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

import pytest

from evalkit.errors import DataError
from evalkit.runs import load
from tests.support.run_folders import UNPARSED, ledger, row, write_run

if TYPE_CHECKING:
    from pathlib import Path


def append(folder: Path, data: bytes) -> None:
    with (folder / "answers.jsonl").open("ab") as file:
        file.write(data)


def test_runs_at_any_depth_in_a_fixed_order(tmp_path: Path) -> None:
    write_run(tmp_path / "z", [row("1", True)], ratio=0.25, identity="a")
    write_run(tmp_path / "b" / "c" / "d", [row("1", True)], ratio=1.0, identity="b")
    write_run(tmp_path / "b" / "e", [row("1", True)], method={"name": "lowres"}, identity="c")
    found = [(run.method, run.ratio, run.folder.name) for run in load.load(tmp_path)]
    assert found == [("lowres", 0.25, "e"), ("uniform", 1.0, "d"), ("uniform", 0.25, "z")]


def test_a_single_run_folder(tmp_path: Path) -> None:
    run = load.load(write_run(tmp_path / "r", [row("2", None), row("1", True)]))[0]
    assert [answer.question_id for answer in run.answers] == ["1", "2"]
    assert run.answers[0].ledger is not None
    assert run.answers[0].ledger.kv_tokens_per_layer == (60, 68)
    assert run.answers[0].groups == {"task_type": ("plotQA",), "duration": ("<2 min",)}
    assert (run.answers[1].correct, run.answers[1].ledger) == (None, None)
    assert run.setup.base == ("tiny", "lmms_eval, 32 frames", "lmms_eval 0.7.3")


def test_last_line_wins(tmp_path: Path) -> None:
    rows = [row("1", None), row("2", False), row("1", True)]
    run = load.load(write_run(tmp_path / "r", rows))[0]
    assert [(a.question_id, a.correct) for a in run.answers] == [("1", True), ("2", False)]


def test_torn_last_line_is_left_out_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = write_run(tmp_path / "r", [row("1", True)])
    append(folder, json.dumps(row("2", True, text="né"), ensure_ascii=False).encode()[:160])
    with caplog.at_level(logging.WARNING):
        run = load.load(folder)[0]
    assert len(run.answers) == 1
    assert "answers.jsonl, line 2" in caplog.text


def test_a_whole_last_line_needs_no_line_end(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = write_run(tmp_path / "r", [row("1", True)])
    append(folder, json.dumps(row("2", True)).encode())
    assert len(load.load(folder)[0].answers) == 2
    assert caplog.text == ""


def test_line_separators_inside_texts_do_not_split_lines(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "r", [row("1", True, text="a\u2028b\u0085c")])
    assert load.load(folder)[0].answers[0].text == "a\u2028b\u0085c"


def test_fields_of_newer_versions_are_ignored(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "r", [row("1", True, mood="good", ledger=ledger(joules=3))])
    assert len(load.load(folder)[0].answers) == 1


def without(key: str) -> dict[str, Any]:
    return {name: value for name, value in row("2", True).items() if name != key}


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (b"{not json", "expected one JSON object"),
        (b"[1, 2]", "expected the line to be dict"),
        (b"\xff\xfe", "expected one JSON object"),
        (without("video_id"), "video_id is missing"),
        (row("2", True, groups={"duration": "short"}), "expected duration to be list"),
        (row("2", True, status="fine"), "expected status ok with a letter"),
        (row("2", True, status="failed"), "expected status ok with a letter"),
        (row("2", True) | {"correct": 1}, "expected correct to be bool or null"),
        (row("2", False) | {"correct": True}, "expected correct to be False or None for letter 'A' beside 'B'"),
        (row("2", True) | {"correct": False}, "expected correct to be True or None for letter 'B' beside 'B'"),
        (row("2", True) | {"letter": None}, "expected status ok with a letter"),
        (row("2", True) | {"status": "unparsed"}, "expected status ok with a letter"),
        (row("2", True) | UNPARSED, "expected correct to be False or None for letter None"),
        (row("2", None) | {"letter": "B"}, "failed without letter and correct"),
        (row("2", True, gold="", letter=""), "expected status ok with a letter"),
        (row("2", True, ledger={"cells": 1}), "ledger: seconds is missing"),
        (row("2", True, ledger=ledger(kv_bytes="many")), "expected kv_bytes to be int or float, came 'many'"),
        (row("2", True, repeated="yes"), "expected repeated to be bool, came 'yes'"),
        (row("2", True, method="other"), "answers of different runs were mixed"),
        (row("2", True, ratio=0.5), "answers of different runs were mixed"),
    ],
)
def test_malformed_line_names_file_and_line(tmp_path: Path, line: Any, complaint: str) -> None:
    folder = write_run(tmp_path / "r", [row("1", True)])
    append(folder, (line if isinstance(line, bytes) else json.dumps(line).encode()) + b"\n")
    append(folder, json.dumps(row("3", True)).encode() + b"\n")
    with pytest.raises(DataError, match=r"answers\.jsonl, line 2") as error:
        load.load(folder)
    assert complaint.lower() in str(error.value).lower()


IMPOSSIBLE = [
    ("ratio_achieved", "-0.5"),
    ("ratio_achieved", "NaN"),
    ("kv_bytes", "-1"),
    ("kv_bytes", "true"),
    ("kv_tokens_per_layer", "[60, -68]"),
    ("kv_tokens_per_layer", "[Infinity]"),
    ("kv_tokens_per_layer", "[60, NaN]"),
    ("kv_tokens_per_layer", "[]"),
    ("kv_tokens_per_layer", "[" + "9" * 400 + "]"),
    ("own_flops", "9" * 400),
    ("own_flops", "0.5"),
    ("own_seconds", "1e999"),
    ("shared_prefix", "1"),
    ("flops", '{"encode": -1, "select": 0, "prefill": 0, "generate": 0}'),
    ("seconds", '{"decode": 0, "encode": 0, "select": 0, "prefill": 0, "generate": Infinity}'),
]


@pytest.mark.parametrize(("name", "value"), IMPOSSIBLE)
def test_impossible_numbers_of_a_ledger(tmp_path: Path, name: str, value: str) -> None:
    folder = write_run(tmp_path / "r", [row("1", True)])
    append(
        folder, json.dumps(row("2", True, ledger=ledger(**{name: "HERE"}))).replace('"HERE"', value).encode() + b"\n"
    )
    with pytest.raises(DataError, match=r"answers\.jsonl, line 2: ledger.*expected .* came") as error:
        load.load(folder)
    assert len(str(error.value)) < 600


@pytest.mark.parametrize(
    ("name", "value"),
    [("duration_s", -1), ("margin", float("-inf")), ("stand_ins", 0.5), ("stand_ins", True), ("evidence_s", [[-1, 2]])],
)
def test_impossible_numbers_of_an_answer(tmp_path: Path, name: str, value: Any) -> None:
    folder = write_run(tmp_path / "r", [row("1", True), row("2", True, **{name: value})])
    with pytest.raises(DataError, match=rf"answers\.jsonl, line 2: expected {name} to be .*, came"):
        load.load(folder)


def test_more_answers_than_questions(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "r", [row(str(n), True) for n in range(5)])
    config = folder / "config.yaml"
    config.write_text(config.read_text().replace("questions: 5", "questions: 4"))
    with pytest.raises(DataError, match=r"at most the 4 questions of config\.yaml, came 5"):
        load.load(folder)


def test_no_runs(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="found none"):
        load.load(tmp_path)
    with pytest.raises(DataError, match="found none"):
        load.load(tmp_path / "nowhere")


def test_answers_without_config(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "r", [])
    (folder / "config.yaml").unlink()
    with pytest.raises(DataError, match=r"config\.yaml: not there"):
        load.load(folder)


NAMES = "name: mlvu, label: L, split: dev"
OTHERS = "backbone: {name: b}\nsampling: {preset: p}\nmethod: {name: m}\nprotocol: {name: n}"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("a: [", "expected YAML"),
        ("- 1", "expected the file to be dict"),
        ("ratio: 1.0", "identity is missing"),
        ("identity: x\nratio: half", "expected ratio to be int or float, came 'half'"),
        ("identity: x\nratio: .nan", "expected ratio to be int or float from 0"),
        (
            f"identity: x\nratio: 1.0\nbenchmark: {{{NAMES}, questions: -1}}\n{OTHERS}",
            "expected questions to be int from 0",
        ),
        (
            f"identity: x\nratio: 1.0\nbenchmark: {{{NAMES}, questions: 4, notes: 3}}\n{OTHERS}",
            "expected notes to be list",
        ),
        (
            f"identity: x\nratio: 1.0\nbenchmark: {{{NAMES}, questions: 4, notes: [3]}}\n{OTHERS}",
            "expected a note to be str",
        ),
        ("identity: x\nratio: 1.0\nbenchmark: {name: mlvu, label: L}", "benchmark: split is missing"),
    ],
)
def test_bad_config(tmp_path: Path, text: str, complaint: str) -> None:
    folder = write_run(tmp_path / "r", [])
    (folder / "config.yaml").write_text(text)
    with pytest.raises(DataError, match=complaint) as error:
        load.load(folder)
    assert "config.yaml" in str(error.value)
    assert "\n" not in str(error.value)


def test_the_same_run_twice(tmp_path: Path) -> None:
    write_run(tmp_path / "a", [row("1", True)])
    write_run(tmp_path / "b", [row("1", True)])
    with pytest.raises(DataError, match="same run"):
        load.load(tmp_path)


def test_what_was_kept_and_where_the_evidence_is(tmp_path: Path) -> None:
    """Answers of older versions have neither; whatever is malformed is refused with its place."""
    kept = {"seconds": [0.0, 15.0], "tokens": [16.0, 8.0]}
    lines = [row("old", True, kept=kept), row("new", True, kept=kept | {"cells": [0, 1]}, evidence_s=[[1, 2.5]])]
    (run,) = load.load(write_run(tmp_path / "r", lines))
    new, old = run.answers
    assert old.kept is not None
    assert new.kept is not None
    assert (old.kept.cells, old.evidence_s) == (None, None)
    assert (new.kept.cells, new.evidence_s) == ((0, 1), ((1.0, 2.5),))
    assert json.loads(json.dumps(new.to_dict()))["kept"]["cells"] == [0, 1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"kept": {"seconds": [0.0], "tokens": [16.0], "cells": [0, 1]}},
            "one of seconds, tokens, cells, last_seconds, merged per cell",
        ),
        ({"kept": {"seconds": [0.0], "tokens": [16.0], "cells": [0.5]}}, "cells to be int"),
        ({"evidence_s": [[1.0]]}, r"spans \[from, to\]"),
        ({"evidence_s": [["a", "b"]]}, "evidence_s to be int or float"),
    ],
)
def test_malformed_cells_and_evidence_are_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        load.load(write_run(tmp_path / "r", [row("1", True, **changes)]))
