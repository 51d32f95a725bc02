"""Answer files in every shape that people have them, and every way in which one can be wrong."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import openpyxl
import pytest

from evalkit.analysis.score.answer_files import read
from evalkit.data.benchmarks import load
from evalkit.errors import DataError
from tests.support import rows

REPLIES = {"001-1": "C", "001-2": "None", "001-3": 'a "b",\nc', "002-1": "  NA ", "002-2": "", "002-3": "1"}


@pytest.fixture
def questions(tmp_path):
    """Six of Video-MME's, each with words of its own."""
    made = [rows.videomme_row(n, question=f"How many lamps\nare lit at {n}?") for n in range(1, 7)]
    rows.write_parquet(tmp_path / "videomme" / rows.VIDEOMME_FILE, made)
    return load("videomme", tmp_path / "videomme")[0].questions


def lines(path, found):
    rows.write_lines(path, found)
    return path


def table(path, header, cells):
    """A CSV, TSV or XLSX file."""
    if path.suffix == ".xlsx":
        book = openpyxl.Workbook()
        for row in [header, *cells]:
            book.active.append(row)
        book.save(path)
        return path
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter="\t" if path.suffix == ".tsv" else ",").writerows([header, *cells])
    return path


@pytest.mark.parametrize("id_key", ["question_id", "uid", "id"])
@pytest.mark.parametrize("reply_key", ["reply", "response", "prediction", "text"])
def test_lines(tmp_path, questions, id_key, reply_key):
    file = lines(tmp_path / "a.jsonl", [{id_key: name, reply_key: text} for name, text in REPLIES.items()])
    found = read([file], questions)
    assert (found.by_id, found.unknown) == (REPLIES, ())


def test_json_object_and_list(tmp_path, questions):
    plain = rows.write_json(tmp_path / "a.json", REPLIES)
    listed = rows.write_json(tmp_path / "b.json", [{"question_id": k, "reply": v} for k, v in REPLIES.items()])
    assert read([plain], questions).by_id == read([listed], questions).by_id == REPLIES


def test_videommes_output_template(tmp_path, questions):
    videos = [
        {
            "video_id": v,
            "questions": [
                {"question_id": f"{v}-{k}", "response": REPLIES[f"{v}-{k}"], "answer": "C"} for k in (1, 2, 3)
            ],
        }
        for v in ("001", "002")
    ]
    assert read([rows.write_json(tmp_path / "a.json", videos)], questions).by_id == REPLIES


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".xlsx"])
def test_tables(tmp_path, questions, suffix):
    file = table(tmp_path / f"a{suffix}", ["question_id", "reply"], list(REPLIES.items()))
    assert read([file], questions).by_id == REPLIES


def test_our_own_answers(tmp_path, questions):
    """A failed question has no reply; answered again, it has one."""
    made = [
        {"question_id": "001-1", "text": "", "status": "failed"},
        {"question_id": "001-2", "text": "", "status": "failed"},
        {"question_id": "001-1", "text": "C", "status": "ok"},
        {"question_id": "001-3", "text": "", "status": "unparsed"},
    ]
    assert read([lines(tmp_path / "answers.jsonl", made)], questions).by_id == {"001-1": "C", "001-3": ""}


def test_several_files_count_as_one(tmp_path, questions):
    first = lines(tmp_path / "a.jsonl", [{"id": "001-1", "reply": "A"}, {"id": "001-2", "reply": None}])
    second = rows.write_json(tmp_path / "b.json", {"001-2": "B", "001-1": "A"})
    assert read([first, second], questions).by_id == {"001-1": "A", "001-2": "B"}


def sample(doc_id, prompt, reply, **metric):
    """A line of lmms-eval's samples file: the document is not in it."""
    return {"doc_id": doc_id, "input": prompt, "target": "C", "filtered_resps": reply, "doc_hash": "x"} | metric


def test_lmms_evals_samples_of_videomme(tmp_path, questions):
    """The metric names the question; numbers of a file in another order do not mislead."""
    made = [
        sample(5 - k, "…", text, videomme_perception_score={"question_id": name, "score": 0.0})
        for k, (name, text) in enumerate(REPLIES.items())
    ]
    assert read([lines(tmp_path / "s.jsonl", made)], questions).by_id == REPLIES


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("backwards", [False, True])
def test_lmms_evals_samples_of_lvbench(tmp_path, wrapped, backwards):
    """Only the prompt and the number say which question it is, and the number may be that of another file."""
    qa = [rows.lvbench_qa(uid=str(k), question=f"Sign {k}?\n(A) Stop\n(B) Go\n(C) Wait\n(D) Turn") for k in range(12)]
    rows.write_lines(tmp_path / "lvbench" / rows.LVBENCH_LINES, [rows.lvbench_line(qa=qa)])
    (benchmark,) = load("lvbench", tmp_path / "lvbench")
    made = [
        sample(
            11 - k if backwards else k,
            f"{row['question']}\nAnswer …",
            [f"r{k}"] if wrapped else f"r{k}",
            lvbench_score=False,
        )
        for k, row in enumerate(qa)
    ]
    found = read([lines(tmp_path / "s.jsonl", made)], benchmark.questions)
    assert found.by_id == {str(k): f"r{k}" for k in range(12)}


def test_lmms_evals_samples_of_mlvu_with_equal_questions(tmp_path):
    """Of three rows with the same words the right letter tells one apart, the number another two."""
    made = [rows.mlvu_row(video=f"v{k}.mp4", answer=a) for k, a in enumerate(["Green", "Red", "Green"])]
    rows.write_json(tmp_path / "mlvu" / "json" / "1_plotQA.json", made)
    (benchmark,) = load("mlvu", tmp_path / "mlvu")
    words = benchmark.questions[0].row["question"]

    def line(doc_id, target, reply):
        return sample(doc_id, words, reply, mlvu_percetion_score={"question_id": words, "score": 0.0}) | {
            "target": target
        }

    found = read(
        [lines(tmp_path / "s.jsonl", [line(9, "A", "x"), line(2, "B", "y"), line(9, "B", "z")])], benchmark.questions
    )
    assert found.by_id == {"1_plotQA:1": "x", "1_plotQA:2": "y"}
    assert len(found.unknown) == 1  # two rows fit "z" and the number is of neither
    assert found.unknown[0].endswith("s.jsonl, line 3")


@pytest.mark.parametrize("suffix", [".xlsx", ".tsv"])
def test_vlmevalkits_tables(tmp_path, questions, suffix):
    """Found by their words; line ends and white space may have changed on the way through a spreadsheet."""
    header = ["index", "video", "question", "candidates", "answer", "prediction"]
    cells = [
        [5 - k, q.video_id, q.text.replace("\n", " "), str(q.row["options"]), q.answer, f"r{k}"]
        for k, q in enumerate(questions)
    ]
    cells.append([6, "vid-_003", "Another question?", "[]", "A", "B"])
    found = read([table(tmp_path / f"m{suffix}", header, cells)], questions)
    assert found.by_id == {q.id: f"r{k}" for k, q in enumerate(questions)}
    assert found.unknown == (f"{tmp_path / f'm{suffix}'}, row 6 (counted from 0)",)


def test_equal_questions_on_different_videos_in_a_table(tmp_path):
    made = [rows.mlvu_row(video=f"v{k}.mp4") for k in range(3)]
    rows.write_json(tmp_path / "mlvu" / "json" / "1_plotQA.json", made)
    (benchmark,) = load("mlvu", tmp_path / "mlvu")
    cells = [[0, f"v{k}.mp4", "Which bus comes first?", f"r{k}"] for k in (2, 0, 1)]
    found = read([table(tmp_path / "m.tsv", ["index", "video", "question", "prediction"], cells)], benchmark.questions)
    assert found.by_id == {f"1_plotQA:{k}": f"r{k}" for k in range(3)}


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("a.jsonl", "", "the file is empty"),
        ("a.jsonl", '{"id": "001-1", "reply": "A"}\n{"id": ', "line 2: this line: expected JSON"),
        ("a.jsonl", '{"id": "001-1", "reply": "A"}\n[1]\n', "line 2: expected an object"),
        (
            "a.jsonl",
            '{"id": "001-1", "letter": "A"}\n',
            "expected a reply .reply, response, prediction, text., came id, letter",
        ),
        ("a.jsonl", '{"name": "001-1", "reply": "A"}\n', "expected an id .question_id, uid, id., came name, reply"),
        ("a.jsonl", '{"id": "001-1", "reply": 3}\n', "expected the reply to be a text, came 3"),
        ("a.jsonl", '{"id": "001-1", "reply": ["A", "B"]}\n', "expected the reply to be a text"),
        (
            "a.jsonl",
            '{"id": "001-1", "reply": "A"}\n{"id": "001-1", "reply": "B"}\n',
            "line 2: question 001-1 has another reply already",
        ),
        (
            "a.jsonl",
            '{"id": "1", "reply": "A"}\n',
            "questions such as '001-1', came 1 others, such as '1'; do --annotations",
        ),
        ("a.jsonl", '{"id": "001-1", "reply": null}\n', "came none with a reply"),
        ("a.json", '"A"', "expected an object id -> reply or a list, came a str"),
        ("a.json", '["A"]', r"entry 0 \(counted from 0\): expected an object"),
        ("a.json", "{", "expected JSON"),
        ("a.csv", "", "expected a table"),
        ("a.csv", "x,y\n1,2\n", "expected an id"),
        ("a.csv", "question_id,reply\n1,A,B\n", "expected a table"),
        ("a.csv", "question_id,reply\n1,A\n2,A,B\n", "expected a table"),
        ("a.csv", "question_id,reply,reply\n1,A,B\n", "expected one column reply, came several"),
        ("a.xlsx", "no workbook", "expected a table"),
        ("a.txt", "A", "expected an answer file, came a .txt"),
        ("answers", "A", "expected an answer file, came a file without suffix"),
    ],
)
def test_wrong_files(tmp_path, questions, name, content, complaint):
    file = tmp_path / name
    file.write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=complaint):
        read([file], questions)


def test_a_missing_file_and_a_folder(tmp_path, questions):
    for path in (tmp_path / "none.json", tmp_path):
        with pytest.raises(DataError, match="expected an answer file"):
            read([path], questions)


def test_a_reply_may_be_anything(tmp_path, questions):
    words = "x" * 200_000 + "\u2028\U0001f600"
    assert read([lines(tmp_path / "a.jsonl", [{"id": "001-1", "reply": words}])], questions).by_id == {"001-1": words}
    file = tmp_path / "b.json"
    Path(file).write_text(json.dumps({"001-1": words}), encoding="utf-8-sig")
    assert read([file], questions).by_id == {"001-1": words}
