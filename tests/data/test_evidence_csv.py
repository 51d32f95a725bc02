"""Evidence spans from a CSV file: whose they are, and what is said of a file that is none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from evalkit.analysis.given_evidence import given
from evalkit.config import build
from evalkit.data.benchmarks import evidence_csv, load
from evalkit.errors import DataError
from evalkit.runs import identity
from tests.support.configs import composed
from tests.support.report_runs import run
from tests.support.rows import VIDEOMME_FILE, videomme_row, write_parquet
from tests.support.run_folders import row


def written(folder: Path, text: str) -> Path:
    file = folder / "spans.csv"
    file.write_text(text, encoding="utf-8")
    return file


def test_spans_of_questions_and_of_videos(tmp_path: Path) -> None:
    text = (
        '\ufeffvideo_id,question_id,note,start_s,end_s\nv1,,all,1,2\nv1,q1,own,3.5,4\nv1,q1,,10,10\nv2,,"a, b",0,1e2\n'
    )
    table = evidence_csv.read(written(tmp_path, text))
    assert table.spans("q1", "v1") == ((3.5, 4.0), (10.0, 10.0))
    assert table.spans("q2", "v1") == ((1.0, 2.0),)
    assert table.spans("q3", "v2") == ((0.0, 100.0),)
    assert table.spans("q3", "v3") == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "row 1: expected a header with start_s, end_s and question_id or video_id, got nothing"),
        ("question_id,start,end\nq,1,2\n", "row 1: expected a header .* got question_id, start, end"),
        ("start_s,end_s\n1,2\n", "row 1: expected a header"),
        ("question_id,start_s,end_s\n", "expected a row for each evidence span, got none"),
        ("question_id,start_s,end_s\nq,1,2\n,1,2\n", "row 3: expected question_id or video_id, got neither"),
        ("question_id,start_s,end_s\nq,1:20,2\n", "row 2: expected seconds .* got '1:20' and '2'"),
        ("question_id,start_s,end_s\nq,1,2\nq,5,2\n", "row 3: expected seconds .* got '5' and '2'"),
        ("question_id,start_s,end_s\nq,-1,2\n", "row 2: .* got '-1' and '2'"),
        ("question_id,start_s,end_s\nq,nan,2\n", "row 2: .* got 'nan' and '2'"),
        ("question_id,start_s,end_s\nq,1\n", "row 2: .* got '1' and None"),
        ('question_id,start_s,end_s\nq,"1,2\n', "expected a readable CSV file"),
        ("question_id,start_s,end_s\nq,1,2,3\n", "row 2: expected a cell for each column, got more"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path: Path, text: str, message: str) -> None:
    file = written(tmp_path, text)
    with pytest.raises(DataError, match=message) as error:
        evidence_csv.read(file)
    assert str(file) in str(error.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.csv: expected a readable CSV file"):
        evidence_csv.read(tmp_path / "none.csv")
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="expected a readable CSV file"):
        evidence_csv.read(tmp_path / "binary.csv")


def test_placed_on_questions(tmp_path: Path) -> None:
    write_parquet(tmp_path / VIDEOMME_FILE, [videomme_row(n) for n in range(1, 7)])
    (loaded,) = load("videomme", tmp_path)
    before = replace(loaded, questions=tuple(replace(q, evidence_s=((9.0, 9.5),)) for q in loaded.questions))
    first, second = before.questions[0], before.questions[3]
    assert first.video_id != second.video_id
    text = f"question_id,video_id,start_s,end_s\n{first.id},,1,2\n,{second.video_id},3,4\nanother,,5,6\n"
    (found,) = evidence_csv.placed([before], written(tmp_path, text))
    assert [q.evidence_s[0] for q in found.questions] == [(1.0, 2.0), (9.0, 9.5), (9.0, 9.5), *[(3.0, 4.0)] * 3]
    assert found.notes[-1] == "evidence spans of 4 of 6 questions from spans.csv"
    with pytest.raises(DataError, match=f"such as '{first.id}', came 1 others, such as 'another'"):
        evidence_csv.placed([before], written(tmp_path, "question_id,start_s,end_s\nanother,5,6\n"))


def test_a_question_beside_another_video_is_refused(tmp_path: Path) -> None:
    write_parquet(tmp_path / VIDEOMME_FILE, [videomme_row(n) for n in range(1, 7)])
    (loaded,) = load("videomme", tmp_path)
    first, other = loaded.questions[0], loaded.questions[3]
    head = f"question_id,video_id,start_s,end_s\n{other.id},{other.video_id},1,2\nelsewhere,x,1,2\n"
    (found,) = evidence_csv.placed([loaded], written(tmp_path, head))
    assert found.questions[3].evidence_s == ((1.0, 2.0),)
    wrong = written(tmp_path, f"{head}{first.id},{other.video_id},1,2\n")
    message = f"row 4: expected question {first.id} beside its video, {first.video_id}, got {other.video_id}"
    with pytest.raises(DataError, match=message):
        evidence_csv.placed([loaded], wrong)
    answers = [row(q.id, True, q.video_id) for q in loaded.questions]
    with pytest.raises(DataError, match=message):
        given([run("uniform", "reference", 1.0, answers)], wrong)


def test_spans_after_the_end_of_a_video_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    own = run("uniform", "reference", 1.0, [row("q1", True), row("q2", True, "v2"), row("q3", None, "v3")])
    given([own], written(tmp_path, "question_id,start_s,end_s\nq1,1,61\nq2,50,52\nq3,1,99\n"))
    assert caplog.messages == []  # whole seconds may be rounded ones
    given([own], written(tmp_path, "question_id,start_s,end_s\nq1,1000,61000\nq2,50,52\n"))
    (told,) = caplog.messages
    assert "spans of 1 questions end after their videos, such as q1: 61,000.0 s in evidence spans, the file has" in told


def test_as_a_setting(tmp_path: Path) -> None:
    write_parquet(tmp_path / VIDEOMME_FILE, [videomme_row(n) for n in range(1, 4)])
    settings = ["benchmark=videomme", f"benchmark.root={tmp_path}"]
    (plain,) = build.question_sets(composed(*settings))
    file = written(tmp_path, f"question_id,start_s,end_s\n{plain.questions[1].id},1,2\n")
    (found,) = build.question_sets(composed(*settings, f"benchmark.evidence={file}"))
    assert [q.evidence_s for q in found.questions] == [(), ((1.0, 2.0),), ()]
    assert identity.rows(found) == identity.rows(plain)  # it changes no answer
    with pytest.raises(DataError, match="expected a readable CSV file"):
        build.question_sets(composed(*settings, "benchmark.evidence=nowhere.csv"))


def test_given_to_finished_answers(tmp_path: Path) -> None:
    own = run("uniform", "reference", 1.0, [row("q1", True), row("q2", None, "v2"), row("q3", True, "v2")])
    file = written(tmp_path, "question_id,start_s,end_s\nq1,1,2\nq2,50,52\n")
    (found,) = given([own], file)
    assert [answer.evidence_s for answer in found.answers] == [((1.0, 2.0),), ((50.0, 52.0),), None]
    assert found.answers[0].groups["evidence"] == ("1st quarter",)
    assert "evidence" not in found.answers[1].groups  # failed: its duration is not known
    with pytest.raises(DataError, match="such as 'q1', came 1 others"):
        given([own], written(tmp_path, "question_id,start_s,end_s\nq9,1,2\n"))
