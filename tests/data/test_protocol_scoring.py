"""What the published protocols count: right letters of odd rows, replies left out, averages."""

from __future__ import annotations

from pathlib import Path

import pytest

from evalkit.analysis.results import Results
from evalkit.data.benchmarks import load
from evalkit.data.protocols import REGISTRY, get
from evalkit.runs import load as runs
from evalkit.types import Reply
from tests.support import rows
from tests.support.run_folders import ledger, row, write_run

ANNOTATIONS = Path(__file__).parents[2].parent / "shared" / "annotations"
real_rows = pytest.mark.skipif(not ANNOTATIONS.is_dir(), reason=f"no real annotation files in {ANNOTATIONS}")
TABLES = ("official", "retake", "xcomp")


def mlvu(tmp_path, **changes):
    rows.write_json(tmp_path / "json" / "1_plotQA.json", [rows.mlvu_row(**changes)])
    return load("mlvu", tmp_path)[0].questions[0]


def outcome(name, question, replies="ABCD"):
    """For each reply right 1, wrong 0, left out -."""
    marks = {True: "1", False: "0", None: "-"}
    found = [get(name).read(question, reply) for reply in replies]
    assert not any(reply.contradiction(get(name).gold(question)) for reply in found)
    return "".join(marks[reply.correct] for reply in found)


@pytest.mark.parametrize("name", list(REGISTRY))
def test_an_ordinary_row(tmp_path, name):
    asked = mlvu(tmp_path)
    assert get(name).gold(asked) == "B"
    assert outcome(name, asked) == "0100"


@pytest.mark.parametrize(
    ("name", "expected"), [("lmms_eval", "0001"), ("official", "0001"), ("retake", "0100"), ("xcomp", "0100")]
)
def test_the_right_option_twice(tmp_path, name, expected):
    asked = mlvu(tmp_path, candidates=["Red", "Green", "Blue", "Green"])
    assert outcome(name, asked) == expected
    assert get(name).gold(asked) == "ABCD"[expected.index("1")]


@pytest.mark.parametrize(
    ("name", "expected"), [("lmms_eval", "0000"), ("official", "0000"), ("retake", "----"), ("xcomp", "0000")]
)
def test_no_right_option(tmp_path, name, expected):
    asked = mlvu(tmp_path, answer="Black")
    assert get(name).gold(asked) == ""
    assert outcome(name, asked) == expected


@pytest.mark.parametrize(
    ("name", "expected"), [("lmms_eval", "0001"), ("official", "0001"), ("retake", "1000"), ("xcomp", "1000")]
)
def test_the_empty_row(tmp_path, name, expected):
    """Four empty options all equal the empty answer."""
    assert outcome(name, mlvu(tmp_path, question="", candidates=["", "", "", ""], answer="")) == expected


UNREAD = {
    # protocol, benchmark: an empty reply, one without a letter
    ("lmms_eval", "videomme"): "00",
    ("lmms_eval", "mlvu"): "00",
    ("lmms_eval", "lvbench"): "00",
    ("official", "videomme"): "--",
    ("official", "mlvu"): "00",
    ("official", "lvbench"): "00",
    ("retake", "videomme"): "00",
    ("retake", "mlvu"): "00",
    ("retake", "lvbench"): "00",
    ("xcomp", "videomme"): "00",
    ("xcomp", "mlvu"): "-0",
    ("xcomp", "lvbench"): "-0",
}


@pytest.mark.parametrize(("name", "benchmark"), UNREAD)
def test_unreadable_replies(tmp_path, name, benchmark):
    if benchmark == "videomme":
        rows.write_parquet(tmp_path / rows.VIDEOMME_FILE, [rows.videomme_row()])
    elif benchmark == "mlvu":
        rows.write_json(tmp_path / "json" / "1_plotQA.json", [rows.mlvu_row()])
    else:
        rows.write_lines(tmp_path / rows.LVBENCH_LINES, [rows.lvbench_line()])
    (asked,) = load(benchmark, tmp_path)[0].questions
    assert outcome(name, asked, ["", "no idea"]) == UNREAD[name, benchmark]
    assert get(name).read(asked, "no idea").letter is None
    assert ("excluded" in get(name).scoring_note(benchmark)) is (
        "-" in UNREAD[name, benchmark] or (name, benchmark) == ("retake", "mlvu")
    )


def test_averages():
    answered = [
        *[({"task_type": ("ego",), "duration": ("short",)}, True)] * 2,
        ({"task_type": ("order",), "duration": ("short",)}, False),
        ({"task_type": ("order", "ego"), "duration": ("long",)}, True),
    ]
    short, micro, macro = 200 / 3, 75.0, (100 + 50) / 2
    expected = {
        ("official", "videomme"): {"micro (official)": micro},
        ("official", "mlvu"): {"macro (official)": macro, "micro": micro},
        ("official", "lvbench"): {"micro (official)": micro},
        ("retake", "videomme"): {"mean of durations": (short + 100) / 2, "micro (official)": micro},
        ("retake", "mlvu"): {"macro (official)": macro, "micro": micro},
        ("retake", "lvbench"): {"micro (official)": micro},
        ("xcomp", "videomme"): {"micro (official)": micro},
        ("xcomp", "mlvu"): {"micro": micro, "macro (official)": macro},
        ("xcomp", "lvbench"): {"micro (official)": micro},
    }
    for (name, benchmark), means in expected.items():
        taken = get(name).averages(benchmark, answered)
        assert list(taken) == list(means)
        assert taken == pytest.approx(means)
        assert get(name).averages(benchmark, []) == {}


@real_rows
@pytest.mark.parametrize(
    ("name", "right", "counted"),
    [("lmms_eval", 544, 2175), ("official", 544, 2175), ("retake", 545, 2173), ("xcomp", 545, 2175)],
)
def test_always_b_on_the_real_mlvu(name, right, counted):
    """The right letters recounted from the files: the first match makes one row more a B than the last."""
    questions = load("mlvu", ANNOTATIONS / "mlvu")[0].questions
    outcomes = [get(name).read(question, "B").correct for question in questions]
    assert (sum(o is True for o in outcomes), sum(o is not None for o in outcomes)) == (right, counted)
    pick = min if name in ("retake", "xcomp") else max
    recount = sum(
        pick(
            (
                k
                for k, option in enumerate(q.row["candidates"])
                if q.answer and option == q.row["candidates"]["ABCD".index(q.answer)]
            ),
            default=-1,
        )
        == 1
        for q in questions
    )
    assert recount == right


@real_rows
@pytest.mark.parametrize("benchmark", ["mlvu", "lvbench"])
@pytest.mark.parametrize("name", list(REGISTRY))
def test_no_protocol_contradicts_itself_on_a_real_row(name, benchmark):
    protocol, questions = get(name), load(benchmark, ANNOTATIONS / benchmark)[0].questions
    for reply in ("A", "(B)", "The best answer is: C.", "d", "", "no idea", "A or B"):
        wrong = [protocol.read(question, reply).contradiction(protocol.gold(question)) for question in questions]
        assert set(wrong) == {""}


@pytest.mark.parametrize("letter", ["A", "B", None, ""])
@pytest.mark.parametrize("gold", ["A", ""])
def test_what_contradicts_itself(letter, gold):
    right = letter == gold == "A"
    found = {correct: Reply(letter=letter, correct=correct).contradiction(gold) for correct in (True, False, None)}
    assert (found[right], found[None]) == ("", "")
    assert f"expected correct to be {right} or None for letter {letter!r} beside {gold!r}" in found[not right]


@pytest.mark.parametrize("name", TABLES)
def test_identity(name):
    assert (get(name).name, get(name).version) == (name, "1")
    assert get(name) == get(name)
    assert get(name) != get(f"{name}_subtitles")


def test_tables_leave_out_what_the_protocol_does(tmp_path):
    """Such a reply is neither wrong nor failed."""
    unread = row("3", None, status="unparsed", text="no idea", error=None, ledger=ledger())
    protocol = {"name": "official", "version": "1"}
    folder = write_run(tmp_path / "r", [row("1", True), row("2", False), unread, row("4", None)], protocol=protocol)
    scores = Results(runs.load(folder)).accuracy
    overall = scores[scores["group"] == "all"].iloc[0]
    assert (overall["n"], overall["accuracy"], overall["failed"], overall["unparsed"]) == (2, 50.0, 1, 1)
    averages = scores[scores["group"] == "average"]
    assert list(averages["value"]) == ["macro (official)", "micro"]
    assert list(averages["accuracy"]) == [50.0, 50.0]
