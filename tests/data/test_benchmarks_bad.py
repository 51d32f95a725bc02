"""Bad rows are kept apart, bad files are errors, and no name leaves the data folder."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from evalkit.data.benchmarks import load
from evalkit.errors import DataError
from tests.support import rows

HOSTILE = [
    "../secret", "..", "a/../../b", "/etc/passwd", "a\0b", "..\\..\\b", "C:\\b", "\\\\host\\b", "é" * 130, "x" * 256,
    "line\nbreak", "", "   ", ".", "sub/", "\ud800",
]  # fmt: skip


def write_videomme(root, changes):
    rows.write_parquet(root / rows.VIDEOMME_FILE, [rows.videomme_row(1) | changes, rows.videomme_row(2)])
    return "test-00000-of-00001.parquet"


def write_mlvu(root, changes):
    rows.write_json(root / "json" / "3_ego.json", [rows.mlvu_row(**changes), rows.mlvu_row()])
    return "3_ego.json"


def write_mlvu_parquet(root, changes):
    good = rows.mlvu_parquet_row(question_id="Q1")
    rows.write_parquet(root / rows.MLVU_FILE, [rows.mlvu_parquet_row(**changes), good])
    return "test-00000-of-00001.parquet"


def write_lines(root, changes):
    qa = [rows.lvbench_qa(**changes), rows.lvbench_qa(uid="9")]
    rows.write_lines(root / rows.LVBENCH_LINES, [rows.lvbench_line(qa=qa)])
    return "line 1, question 0"


def write_lvbench_parquet(root, changes):
    rows.write_parquet(
        root / rows.LVBENCH_FILE, [rows.lvbench_parquet_row(**changes), rows.lvbench_parquet_row(uid="9")]
    )
    return "train-00000-of-00001.parquet"


def write_reshaped(root, changes):
    rows.write_json(root / "lvbench_clean.json", [rows.lvbench_reshaped_row(**changes), rows.lvbench_reshaped_row()])
    return "lvbench_clean.json"


NO_OPTIONS = "Which bus comes first?"
BAD = [
    ("videomme", write_videomme, "answer", "E"),
    ("videomme", write_videomme, "answer", "c"),
    ("videomme", write_videomme, "answer", ""),
    ("videomme", write_videomme, "answer", None),
    ("videomme", write_videomme, "question", " \n"),
    ("videomme", write_videomme, "question", None),
    ("videomme", write_videomme, "options", []),
    ("videomme", write_videomme, "options", None),
    ("videomme", write_videomme, "options", ["A. One."]),
    ("videomme", write_videomme, "options", ["A.", "B.", "C.", "D."]),
    ("videomme", write_videomme, "options", ["One.", "Two.", "Three.", "None."]),
    ("videomme", write_videomme, "options", ["B. One.", "A. Two.", "C. Three.", "D. None."]),
    ("videomme", write_videomme, "options", ["A. 1", "B. 2", "C. 3", "D. 4", "E. 5"]),
    ("videomme", write_videomme, "options", ["A. 1", None, "C. 3", "D. 4"]),
    ("videomme", write_videomme, "duration", "eternal"),
    ("videomme", write_videomme, "task_type", ""),
    ("videomme", write_videomme, "question_id", None),
    ("videomme", write_videomme, "question_id", "001-2" * 103),
    ("videomme", write_videomme, "question_id", "../001"),
    ("videomme", write_videomme, "videoID", None),
    ("mlvu", write_mlvu, "question", 7),
    ("mlvu", write_mlvu, "question", ""),
    ("mlvu", write_mlvu, "candidates", []),
    ("mlvu", write_mlvu, "candidates", ["", "", "", ""]),
    ("mlvu", write_mlvu, "candidates", ["Red", 2, "Blue", "White"]),
    ("mlvu", write_mlvu, "candidates", "Red"),
    ("mlvu", write_mlvu, "answer", None),
    ("mlvu", write_mlvu, "answer", ["Green"]),
    ("mlvu", write_mlvu, "duration", "246"),
    ("mlvu", write_mlvu, "duration", True),
    ("mlvu", write_mlvu, "duration", -3),
    ("mlvu", write_mlvu, "duration", float("nan")),
    ("mlvu", write_mlvu, "duration", 10**400),
    ("mlvu", write_mlvu, "video", {"name": "x"}),
    ("mlvu", write_mlvu, "question", "lone surrogate \ud800"),
    ("mlvu", write_mlvu_parquet, "question", NO_OPTIONS),
    ("mlvu", write_mlvu_parquet, "question", "(A) Red\n(B) Green\n(C) Blue\n(D) White"),
    ("mlvu", write_mlvu_parquet, "question", "Which?\n(A) Red\n(C) Blue"),
    ("mlvu", write_mlvu_parquet, "answer", "Green"),
    ("mlvu", write_mlvu_parquet, "task_type", "sportsQA"),
    ("mlvu", write_mlvu_parquet, "duration", None),
    ("lvbench", write_lines, "question", NO_OPTIONS),
    ("lvbench", write_lines, "question", "\n(A) \n(B) \n(C) \n(D) "),
    ("lvbench", write_lines, "answer", "E"),
    ("lvbench", write_lines, "answer", ""),
    ("lvbench", write_lines, "question_type", []),
    ("lvbench", write_lines, "question_type", [""]),
    ("lvbench", write_lines, "question_type", None),
    ("lvbench", write_lines, "uid", 1.5),
    ("lvbench", write_lines, "uid", "9\0"),
    ("lvbench", write_lvbench_parquet, "video_path", None),
    ("lvbench", write_lvbench_parquet, "answer", "DD"),
    ("lvbench", write_reshaped, "answer", "D"),
    ("lvbench", write_reshaped, "candidates", ["Stop", "Go", "Wait", "Turn"]),
    ("lvbench", write_reshaped, "question", None),
]


@pytest.mark.parametrize(("name", "write", "field", "value"), BAD)
def test_a_bad_row_is_kept_apart(tmp_path, name, write, field, value):
    place = write(tmp_path, {field: value})
    (benchmark,) = load(name, tmp_path)
    (bad,) = benchmark.bad_rows
    assert len(benchmark.questions) == 1
    assert place in bad.message
    assert f"expected `{field}` to be" in bad.message
    assert "row 0" in bad.message or "question 0" in bad.message
    assert len(bad.message) < 700
    assert bad.id not in {q.id for q in benchmark.questions}


@pytest.mark.parametrize(
    ("name", "write"),
    [("videomme", write_videomme), ("mlvu", write_mlvu), ("mlvu", write_mlvu_parquet), ("lvbench", write_lines),
     ("lvbench", write_lvbench_parquet), ("lvbench", write_reshaped)],
)  # fmt: skip
def test_the_same_rows_without_the_fault_are_good(tmp_path, name, write):
    write(tmp_path, {})
    (benchmark,) = load(name, tmp_path)
    assert (len(benchmark.questions), benchmark.bad_rows) == (2, ())


@pytest.mark.parametrize("hostile", HOSTILE)
@pytest.mark.parametrize(
    ("name", "write", "field"), [("mlvu", write_mlvu, "video"), ("lvbench", write_reshaped, "video")]
)
def test_hostile_video_names_are_bad_rows(tmp_path, name, write, field, hostile):
    write(tmp_path, {field: hostile})
    (benchmark,) = load(name, tmp_path)
    assert [f"expected `{field}` to be" in bad.message for bad in benchmark.bad_rows] == [True]


@pytest.mark.parametrize("hostile", [name for name in HOSTILE if name != "\ud800"])  # parquet cannot hold that one
def test_hostile_parquet_video_names_are_bad_rows(tmp_path, hostile):
    write_videomme(tmp_path, {"videoID": hostile})
    (benchmark,) = load("videomme", tmp_path)
    assert ["`videoID`" in bad.message for bad in benchmark.bad_rows] == [True]


@pytest.mark.parametrize("key", ["../up", "/etc", "a\0", None, 7.5])
def test_hostile_lvbench_keys_are_bad_rows(tmp_path, key):
    rows.write_lines(
        tmp_path / rows.LVBENCH_LINES, [rows.lvbench_line(key), rows.lvbench_line(qa=[rows.lvbench_qa(uid="9")])]
    )
    (benchmark,) = load("lvbench", tmp_path)
    assert [q.id for q in benchmark.questions] == ["9"]
    assert ["`key`" in bad.message for bad in benchmark.bad_rows] == [True]


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    st.text(st.characters(), max_size=300)
    | st.lists(st.sampled_from(["..", ".", "/", "\\", "a", "é", "\0", "C:", "~", ".mp4"])).map("".join)
)
@example("~root/x")
@example("a" * 251)
def test_no_name_leaves_the_folder(name):
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "set"
        write_mlvu(root, {"video": name})
        (benchmark,) = load("mlvu", root)
        assert len(benchmark.questions) + len(benchmark.bad_rows) == 2
        for question in benchmark.questions:
            assert os.path.normpath(question.video_path).startswith(f"{root}{os.sep}")
            assert ".." not in question.video_path.parts
            assert not question.video_path.exists()  # and the name is one that the file system can be asked about


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@pytest.mark.slow
@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    st.dictionaries(st.sampled_from(["key", "type", "video_info", "qa"]), VALUES),
    st.dictionaries(st.sampled_from(sorted(rows.lvbench_qa())), VALUES),
    VALUES,
)
def test_any_json_becomes_questions_or_bad_rows(video, qa, alone):
    with tempfile.TemporaryDirectory() as folder:
        lines = [
            rows.lvbench_line(qa=[rows.lvbench_qa(**qa), alone]),
            rows.lvbench_line(qa=[rows.lvbench_qa(uid="9")]) | video,
            alone,
        ]
        rows.write_lines(Path(folder) / rows.LVBENCH_LINES, lines)
        (benchmark,) = load("lvbench", Path(folder))
        ids = [row.id for row in (*benchmark.questions, *benchmark.bad_rows)]
        assert len(ids) >= 2
        assert len(set(ids)) == len(ids)


def test_the_second_of_two_equal_ids_is_bad(tmp_path):
    same = [rows.videomme_row(1), rows.videomme_row(2, question_id="001-1"), rows.videomme_row(3)]
    rows.write_parquet(tmp_path / rows.VIDEOMME_FILE, same)
    (benchmark,) = load("videomme", tmp_path)
    assert [q.id for q in benchmark.questions] == ["001-1", "001-3"]
    (bad,) = benchmark.bad_rows
    assert "'001-1' again" in bad.message
    assert "row 1" in bad.message
    assert bad.id == "test-00000-of-00001:1"


def test_a_bad_rows_id_is_never_a_good_rows(tmp_path):
    rows.write_parquet(
        tmp_path / "t.parquet", [rows.videomme_row(1, question_id="t:1"), rows.videomme_row(2, question_id=None)]
    )
    (benchmark,) = load("videomme", tmp_path)
    assert [q.id for q in benchmark.questions] == ["t:1"]
    assert [bad.id for bad in benchmark.bad_rows] == ["t:1+"]


def test_names_and_texts_outside_ascii_work(tmp_path):
    row = rows.videomme_row(
        videoID="видео_映像", question_id="é-1", question="¿Qué?", options=["A. ä", "B. 二", "C. 🙂", "D. д"]
    )
    rows.write_parquet(tmp_path / rows.VIDEOMME_FILE, [row])
    video = rows.touch(tmp_path / "data" / "видео_映像.mp4")
    (question,) = load("videomme", tmp_path)[0].questions
    assert (question.video_path, question.id, question.options[2]) == (video, "é-1", "🙂")


def test_a_broken_line_costs_only_its_video(tmp_path):
    file = tmp_path / rows.LVBENCH_LINES
    file.write_text(json.dumps(rows.lvbench_line()) + "\n\n" + '{"key": "cut o\n', encoding="utf-8")
    (benchmark,) = load("lvbench", tmp_path)
    assert len(benchmark.questions) == 1
    assert "line 3" in benchmark.bad_rows[0].message
    assert "expected JSON" in benchmark.bad_rows[0].message


@pytest.mark.parametrize("name", ["videomme", "mlvu", "lvbench"])
def test_a_missing_folder_or_file_says_what_belongs_there(tmp_path, name):
    for root, came in (
        (tmp_path / "none", "found nothing"),
        (rows.touch(tmp_path / "file"), "found a file"),
        (tmp_path, "found"),
    ):
        with pytest.raises(DataError) as caught:
            load(name, root)
        message = str(caught.value)
        assert str(root) in message
        assert came in message
        assert "hub dataset" in message
        assert ".mp4" in message
        assert "Nothing is downloaded" in message


@pytest.mark.parametrize("content", [b"", b"PAR1", b"version https://git-lfs.github.com/spec/v1\n", b"<html>"])
@pytest.mark.parametrize(
    ("name", "file"),
    [("videomme", rows.VIDEOMME_FILE), ("mlvu", rows.MLVU_FILE), ("lvbench", rows.LVBENCH_FILE),
     ("mlvu", "json/1_plotQA.json"), ("lvbench", rows.LVBENCH_LINES), ("lvbench", "list.json")],
)  # fmt: skip
def test_a_file_of_another_kind_is_an_error(tmp_path, name, file, content):
    rows.touch(tmp_path / file).write_bytes(content)
    with pytest.raises(DataError, match="download it again") as caught:
        load(name, tmp_path)
    assert file in str(caught.value)


@pytest.mark.parametrize("content", ["{}", "[]", "7", "[" * 100_000, "1" * 5000])
def test_json_that_is_no_list_of_rows_is_an_error(tmp_path, content):
    rows.touch(tmp_path / "json" / "1_plotQA.json").write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=r"1_plotQA\.json: expected"):
        load("mlvu", tmp_path)


def test_text_in_another_encoding_is_an_error(tmp_path):
    rows.touch(tmp_path / "json" / "1_plotQA.json").write_bytes('["é"]'.encode("utf-16"))
    with pytest.raises(DataError, match="UTF-8"):
        load("mlvu", tmp_path)


def test_rows_that_are_no_objects_are_bad(tmp_path):
    rows.write_json(tmp_path / "json" / "1_plotQA.json", ["text", None, [], rows.mlvu_row()])
    (benchmark,) = load("mlvu", tmp_path)
    assert [q.id for q in benchmark.questions] == ["1_plotQA:3"]
    assert [bad.id for bad in benchmark.bad_rows] == ["1_plotQA:0", "1_plotQA:1", "1_plotQA:2"]


@pytest.mark.parametrize("column", ["question", "options", "videoID", "task_type"])
def test_a_missing_column_is_an_error(tmp_path, column):
    row = rows.videomme_row()
    del row[column]
    rows.write_parquet(tmp_path / rows.VIDEOMME_FILE, [row])
    with pytest.raises(DataError, match=f"missing are {column},"):
        load("videomme", tmp_path)


def test_a_column_of_another_type_makes_bad_rows(tmp_path):
    rows.write_parquet(tmp_path / rows.VIDEOMME_FILE, [rows.videomme_row(n, question=n) for n in (1, 2)])
    (benchmark,) = load("videomme", tmp_path)
    assert len(benchmark.bad_rows) == 2


def test_a_parquet_file_without_rows_is_an_error(tmp_path):
    import pyarrow.parquet as pq

    file = rows.write_parquet(tmp_path / rows.VIDEOMME_FILE, [rows.videomme_row()])
    pq.write_table(pq.ParquetFile(file).read().slice(0, 0), file)
    with pytest.raises(DataError, match="has none"):
        load("videomme", tmp_path)


def test_two_lists_in_an_lvbench_folder_are_ambiguous(tmp_path):
    for name in ("a", "b"):
        rows.write_json(tmp_path / f"{name}.json", [rows.lvbench_reshaped_row()])
    with pytest.raises(DataError, match=r"exactly one JSON list.*a\.json, b\.json"):
        load("lvbench", tmp_path)
