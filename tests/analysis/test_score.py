"""Scoring answer files: what counts, what is missing or unknown, and the numbers of the published protocols."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from evalkit.__main__ import main
from evalkit.analysis.score.markdown import markdown
from evalkit.analysis.score.score import annotated, score
from evalkit.data.benchmarks import load
from evalkit.errors import ConfigError, DataError
from tests.support import rows

REPO = Path(__file__).parents[2]
ANNOTATIONS = REPO.parent / "shared" / "annotations"
real_rows = pytest.mark.skipif(not ANNOTATIONS.is_dir(), reason=f"no real annotation files in {ANNOTATIONS}")
LETTERS = "B" * 735 + "C" * 684 + "A" * 677 + "D" * 604  # of the full Video-MME


def write_answers(path, replies):
    """question id -> reply, as JSON lines."""
    rows.write_lines(path, [{"question_id": name, "reply": reply} for name, reply in replies.items()])
    return path


def always(path, benchmark, reply):
    return write_answers(path, {question.id: reply for question in benchmark.questions})


@pytest.fixture
def videomme(tmp_path):
    """Six questions on two videos, short and long, all with the right letter C."""
    made = [rows.videomme_row(n, duration="short" if n <= 3 else "long") for n in range(1, 7)]
    rows.write_parquet(tmp_path / "data" / rows.VIDEOMME_FILE, made)
    return tmp_path / "data"


REPLIES = {"001-1": "C", "001-2": "C.", "001-3": "A", "002-1": "C", "002-2": "", "002-3": "no idea"}


@pytest.mark.parametrize(
    ("protocol", "own", "micro", "n", "excluded"),
    [
        ("lmms_eval", 50.0, 50.0, 6, 0),
        ("official", 75.0, 75.0, 4, 2),
        ("retake", (200 / 3 + 100 / 3) / 2, 50.0, 6, 0),
        ("xcomp", 50.0, 50.0, 6, 0),
    ],
)
def test_by_hand(tmp_path, videomme, protocol, own, micro, n, excluded):
    answers = write_answers(tmp_path / "a.jsonl", REPLIES)
    (one,) = score(annotated("videomme", videomme), [answers], protocol).scores
    assert next(iter(one.averages.values())) == pytest.approx(own)
    assert (one.overall.percent, one.overall.n, one.excluded, one.unparsed) == (micro, n, excluded, 2)
    short, long = one.groups["duration", "short"], one.groups["duration", "long"]
    assert (short.right, short.n) == (2, 3)
    assert (long.right, long.n) == (1, 3 - excluded)


def test_mean_of_durations_is_not_micro(tmp_path, videomme):
    answers = write_answers(tmp_path / "a.jsonl", {k: v for k, v in REPLIES.items() if k < "002-2"})
    (one,) = score(annotated("videomme", videomme), [answers], "retake").scores
    assert one.averages == pytest.approx({"mean of durations": (200 / 3 + 100) / 2, "micro (official)": 75.0})


def test_missing_and_unknown(tmp_path, videomme):
    answers = write_answers(tmp_path / "a.jsonl", {"001-1": "C", "002-1": "A", "999-9": "C", "nonsense": "C"})
    scored = score(annotated("videomme", videomme), [answers], "lmms_eval")
    assert scored.missing == ["001-2", "001-3", "002-2", "002-3"]
    assert scored.answers.unknown == ("999-9", "nonsense")
    assert (scored.scores[0].overall.right, scored.scores[0].overall.n) == (1, 2)
    text = markdown(scored)
    assert "- answered: 2 of 6 questions\n" in text
    assert "- missing answers: 4, in no average (001-2, 001-3, 002-2 …)\n" in text
    assert "- unknown: 2, ignored: no question fits, or several do (999-9, nonsense)\n" in text


def test_side_by_side(tmp_path, videomme):
    answers = write_answers(tmp_path / "a.jsonl", REPLIES)
    text = markdown(score(annotated("videomme", videomme), [answers], "all"))
    table = {
        cells[1].strip(): [c.strip() for c in cells[2:-1]]
        for line in text.splitlines()
        if len(cells := line.split("|")) > 2
    }
    assert [name.split()[0] for name in table["percent"]] == ["lmms_eval", "official", "retake", "xcomp"]
    assert table["own average"] == ["50.0000 micro", "75.0000 micro", "50.0000 mean of durations", "50.0000 micro"]
    assert table["n"] == ["6", "4", "6", "6"]
    assert table["excluded"] == ["0", "2", "0", "0"]
    assert table["duration: long"] == ["33.33 of 3", "100.00 of 1", "33.33 of 3", "33.33 of 3"]
    assert "official 1: an unreadable reply is excluded from every average" in text


def test_a_question_with_two_types_counts_in_both(tmp_path):
    qa = [rows.lvbench_qa(uid="1"), rows.lvbench_qa(uid="2", question_type=["reasoning"])]
    rows.write_lines(tmp_path / "data" / rows.LVBENCH_LINES, [rows.lvbench_line(qa=qa)])
    answers = write_answers(tmp_path / "a.json.jsonl", {"1": "D", "2": "A"})
    (one,) = score(annotated("lvbench", tmp_path / "data"), [answers], "official").scores
    assert one.averages == {"micro (official)": 50.0}
    assert (one.groups["task_type", "reasoning"].n, one.groups["task_type", "key information retrieval"].n) == (2, 1)


def test_always_b_on_2700_rows_with_the_real_videomme_letters(tmp_path):
    durations = ["short"] * 900 + ["medium"] * 900 + ["long"] * 900
    made = [
        rows.videomme_row(n + 1, answer=a, duration=d) for n, (a, d) in enumerate(zip(LETTERS, durations, strict=True))
    ]
    file = rows.write_parquet(tmp_path / "data" / rows.VIDEOMME_FILE, made)
    benchmark = annotated("videomme", file, "2700")
    scored = score(benchmark, [always(tmp_path / "b.jsonl", benchmark, "B")], "all")
    assert [one.overall.right for one in scored.scores] == [735] * 4
    assert [round(one.overall.percent, 4) for one in scored.scores] == [27.2222] * 4
    assert "VideoMME, split test: 2700 questions (official)" in markdown(scored)


@real_rows
def test_always_b_on_the_real_mlvu(tmp_path):
    benchmark = annotated("mlvu", ANNOTATIONS / "mlvu", "2175")
    scored = score(benchmark, [always(tmp_path / "b.jsonl", benchmark, "B")], "all")
    own = [round(next(iter(one.averages.values())), 4) for one in scored.scores]
    assert own == [25.0179, 25.0179, 25.0645, 25.0575]
    assert [round(one.overall.percent, 4) for one in scored.scores] == [25.0115, 25.0115, 25.0805, 25.0575]
    text = markdown(scored)
    assert "- 2 rows without a right option\n" in text
    assert "- retake 1: an unreadable reply is wrong; of two equal right options the first one counts" in text


@real_rows
def test_the_right_letters_are_all_right_but_for_two_rows(tmp_path):
    benchmark = annotated("mlvu", ANNOTATIONS / "mlvu")
    answers = write_answers(tmp_path / "gold.jsonl", {q.id: q.answer or "A" for q in benchmark.questions})
    scored = score(benchmark, [answers], "all")
    assert [(one.overall.right, one.overall.n) for one in scored.scores] == [
        (2173, 2175),
        (2173, 2175),
        (2167, 2173),  # six rows have an earlier option that equals the right one
        (2167, 2175),
    ]


def reshaped(count):
    """As VideoChat-Flash's list: no ids."""
    return [rows.lvbench_reshaped_row(question=f"What does sign {k} say?") for k in range(count)]


@pytest.mark.parametrize(("count", "whose"), [(1549, "official"), (1519, "VideoChat-Flash"), (1492, "XComp")])
def test_known_sets_of_lvbench(tmp_path, count, whose):
    rows.write_json(tmp_path / "data" / "list.json", reshaped(count))
    benchmark = annotated("lvbench", tmp_path / "data", str(count))
    head = markdown(score(benchmark, [always(tmp_path / "a.jsonl", benchmark, "D")], "xcomp")).splitlines()[0]
    assert head.startswith(f"LVBench, split train: {count} questions ({whose}")
    with pytest.raises(ConfigError, match=f"the annotations have {count}"):
        annotated("lvbench", tmp_path / "data", "1492" if count != 1492 else "1549")
    with pytest.raises(ConfigError, match="no question set called 1500; known are 1549"):
        annotated("lvbench", tmp_path / "data", "1500")
    for wrong in ("abc", "-1", "²"):
        with pytest.raises(ConfigError, match=f"--questions: expected the size .*; got '{wrong}'"):
            annotated("lvbench", tmp_path / "data", wrong)


@pytest.mark.parametrize("form", ["lines", "ids", "rows"])
def test_a_listed_set(tmp_path, form):
    """By ids or by another list's rows, where letters stand before the options."""
    lines = [
        rows.lvbench_qa(uid=str(k), question=f"What does sign {k} say?\n(A) Stop\n(B) Go\n(C) Wait\n(D) Turn")
        for k in range(5)
    ]
    rows.write_lines(tmp_path / "data" / rows.LVBENCH_LINES, [rows.lvbench_line(qa=lines)])
    chosen = tmp_path / ("set.txt" if form == "lines" else "set.json")
    if form == "lines":
        chosen.write_text("3\n1\n\n")
    else:
        picked = [reshaped(5)[k] for k in (3, 1)]
        rows.write_json(chosen, picked if form == "rows" else ["3", "1"])
    benchmark = annotated("lvbench", tmp_path / "data", str(chosen))
    assert [question.id for question in benchmark.questions] == ["1", "3"]
    assert benchmark.notes[-1] == f"2 of 5 questions: those listed in {chosen.name}"


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (["0", "77"], "came 1 others, such as '77'"),
        ([{"question": "What else?", "candidates": ["x"]}], "the annotations have 0"),
        ([{"uid": "0"}], "expected `question` and `candidates`"),
        ([], "an empty list"),
    ],
)
def test_a_list_of_strangers(tmp_path, content, complaint):
    rows.write_lines(tmp_path / "data" / rows.LVBENCH_LINES, [rows.lvbench_line(qa=[rows.lvbench_qa(uid="0")])])
    chosen = rows.write_json(tmp_path / "set.json", content)
    with pytest.raises(DataError, match=complaint):
        annotated("lvbench", tmp_path / "data", str(chosen))


@real_rows
def test_xcomps_set_by_rows_of_the_real_list(tmp_path):
    plain = json.loads((ANNOTATIONS / "lvbench" / "lvbench_clean.json").read_text(encoding="utf-8"))
    kept = [row for row in plain if row["video"] not in {"00000002", "00000053"}]  # a pair of the right size
    chosen = rows.write_json(tmp_path / "xcomp.json", kept)
    assert len(annotated("lvbench", ANNOTATIONS / "lvbench", str(chosen)).questions) == 1492


def test_one_annotation_file_stands_for_its_folder(tmp_path, videomme):
    file = videomme / rows.VIDEOMME_FILE
    assert annotated("videomme", file).questions == load("videomme", file.parent)[0].questions
    rows.write_json(file.with_name("GENERATED.json"), {"version": 1})
    assert annotated("videomme", file).questions
    with pytest.raises(ConfigError, match="expected a data folder or an annotation file"):
        annotated("videomme", write_answers(file.with_name("a.txt"), {}))
    rows.write_parquet(file.with_name("test-other.parquet"), [rows.videomme_row(7)])
    with pytest.raises(ConfigError, match=r"other annotation files lie beside it \(test-other.parquet\)"):
        annotated("videomme", file)


def command(*arguments):
    return main(["score", *map(str, arguments)])


def test_command(tmp_path, videomme, capsys, caplog):
    answers = write_answers(tmp_path / "a.jsonl", REPLIES)
    use = ("videomme", "--annotations", videomme, "--answers")
    assert command(*use, answers, "--protocol", "official") == 0
    assert "75.0000 micro" in capsys.readouterr().out
    for wrong, complaint in (
        ((answers, "--protocol", "nobody"), "expected one of lmms_eval, official, retake, xcomp"),
        ((tmp_path / "none.jsonl",), "expected an answer file, there is none"),
        ((answers, "--questions", "2700"), "the annotations have 6"),
    ):
        assert command(*use, *wrong) == 2
        assert complaint in caplog.text
    assert command("mlvu", "--annotations", tmp_path / "nowhere", "--answers", answers) == 2
    assert capsys.readouterr().out == ""
    with pytest.raises(SystemExit) as stop:
        command("nextqa", "--annotations", videomme, "--answers", answers)
    assert stop.value.code == 2


@pytest.mark.slow
def test_neither_torch_nor_a_video_library_is_imported(tmp_path, videomme):
    answers = write_answers(tmp_path / "a.jsonl", REPLIES)
    code = (
        "import sys\n"
        "from evalkit.__main__ import main\n"
        f"code = main(['score', 'videomme', '--annotations', {str(videomme)!r}, '--answers', {str(answers)!r}])\n"
        "heavy = {'torch', 'transformers', 'av', 'lmms_eval.tasks', 'scipy', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "sys.exit(code)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=REPO, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "own average" in done.stdout
