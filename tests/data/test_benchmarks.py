"""Every shape of the three question sets, and the real rows where they are at hand."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import yaml

from evalkit.data.benchmarks import duration_bucket, load
from evalkit.errors import ConfigError, DataError
from tests.support import rows

REPO = Path(__file__).parents[2]
ANNOTATIONS = REPO.parent / "shared" / "annotations"
real_rows = pytest.mark.skipif(not ANNOTATIONS.is_dir(), reason=f"no real annotation files in {ANNOTATIONS}")


def one(name, root):
    (benchmark,) = load(name, root)
    return benchmark


# Video-MME


@pytest.mark.parametrize(
    "file", [rows.VIDEOMME_FILE, "data/test-0.parquet", "test-0.parquet", "mine.parquet", "data/mine.parquet"]
)
def test_videomme_parquet_wherever_it_lies(tmp_path, file):
    rows.write_parquet(tmp_path / file, [rows.videomme_row(n) for n in range(1, 7)])
    benchmark = one("videomme", tmp_path)
    assert (benchmark.name, benchmark.label, benchmark.split) == ("videomme", "VideoMME", "test")
    assert [q.id for q in benchmark.questions] == ["001-1", "001-2", "001-3", "002-1", "002-2", "002-3"]
    assert {video: len(asked) for video, asked in benchmark.by_video().items()} == {"vid-_001": 3, "vid-_002": 3}
    assert not benchmark.bad_rows
    assert benchmark.notes == ("6 rows; the official set has 2700",)


def test_videomme_question(tmp_path):
    rows.write_parquet(tmp_path / rows.VIDEOMME_FILE, [rows.videomme_row()])
    (question,) = one("videomme", tmp_path).questions
    assert question.text == "How many lamps\nare lit?"
    assert question.options == ("One.", "Two.", "Three.", "None.")
    assert question.answer == "C"
    assert question.groups == {
        "duration": ("short",),
        "domain": ("Knowledge",),
        "sub_category": ("Geography",),
        "task_type": ("Counting Problem",),
    }
    assert question.row == rows.videomme_row()
    assert question.duration_s is None
    assert question.subtitle_path is None


def test_videomme_shards_are_read_in_order(tmp_path):
    for shard in (1, 0):
        row = rows.videomme_row(shard + 1)
        rows.write_parquet(tmp_path / f"videomme/test-0000{shard}-of-00002.parquet", [row])
    assert [q.id for q in one("videomme", tmp_path).questions] == ["001-1", "001-2"]


@pytest.mark.parametrize("folder", ["data", "video", "videos"])
@pytest.mark.parametrize("suffix", [".mp4", ".MP4", ".mkv", ".webm"])
def test_videomme_videos_and_subtitles(tmp_path, folder, suffix):
    rows.write_parquet(tmp_path / rows.VIDEOMME_FILE, [rows.videomme_row(1), rows.videomme_row(4)])
    video = rows.touch(tmp_path / folder / f"vid-_001{suffix}")
    subtitle = rows.touch(tmp_path / "subtitle" / "vid-_001.srt")
    there, absent = one("videomme", tmp_path).questions
    assert (there.video_path, there.subtitle_path) == (video, subtitle)
    assert (absent.video_path, absent.subtitle_path) == (tmp_path / "data" / "vid-_002.mp4", None)


def test_a_linked_video_folder_is_followed(tmp_path):
    rows.touch(tmp_path / "elsewhere" / "vid-_001.mp4")
    rows.write_parquet(tmp_path / "set" / rows.VIDEOMME_FILE, [rows.videomme_row()])
    (tmp_path / "set" / "data").symlink_to(tmp_path / "elsewhere")
    assert one("videomme", tmp_path / "set").questions[0].video_path.is_file()


def test_hidden_files_are_not_annotations(tmp_path):
    rows.write_parquet(tmp_path / rows.VIDEOMME_FILE, [rows.videomme_row()])
    rows.touch(tmp_path / "videomme" / "._test-00000-of-00001.parquet")
    assert len(one("videomme", tmp_path).questions) == 1


# MLVU


@pytest.mark.parametrize("folder", ["json", "MLVU/json", "data", "."])
def test_mlvu_official_folder(tmp_path, folder):
    rows.write_json(tmp_path / folder / "1_plotQA.json", [rows.mlvu_row(), rows.mlvu_row(answer="White")])
    rows.write_json(tmp_path / folder / "2_needle.json", [rows.mlvu_row(video="hay_2.mp4", duration=7200.5)])
    rows.write_json(tmp_path / folder / "9_summary.json", [{"no": "multiple choice"}])
    benchmark = one("mlvu", tmp_path)
    assert [(q.id, q.answer) for q in benchmark.questions] == [
        ("1_plotQA:0", "B"),
        ("1_plotQA:1", "D"),
        ("2_needle:0", "B"),
    ]
    assert (benchmark.split, benchmark.label, benchmark.bad_rows) == ("dev", "MLVU", ())
    assert "generation tasks skipped: 9_summary" in benchmark.notes
    assert any("3_ego" in note for note in benchmark.notes)
    needle = benchmark.questions[2]
    assert needle.groups == {"task_type": ("needle",), "duration": (">60 min",)}
    assert needle.duration_s == 7200.5
    assert needle.video_id == "hay_2"


def test_mlvu_official_row_takes_lmms_evals_shape(tmp_path):
    rows.write_json(tmp_path / "json" / "1_plotQA.json", [rows.mlvu_row()])
    (question,) = one("mlvu", tmp_path).questions
    assert question.text == "Which bus comes first?"
    assert question.options == ("Red", "Green", "Blue", "White")
    assert question.row == rows.mlvu_parquet_row(question_id="1_plotQA:0")


def test_mlvu_parquet(tmp_path):
    second = rows.mlvu_parquet_row(task_type="order", video_name="b.mkv", duration=60.0)
    rows.write_parquet(tmp_path / rows.MLVU_FILE, [rows.mlvu_parquet_row(), second])
    video = rows.touch(tmp_path / "b.mkv")
    first, second = one("mlvu", tmp_path).questions
    assert (first.id, first.answer, first.options) == ("plotQA:Q0", "B", ("Red", "Green", "Blue", "White"))
    assert first.text == "Which bus comes first?"
    assert first.video_path == tmp_path / "street_1.mp4"
    assert (second.id, second.video_id, second.video_path) == ("order:Q0", "b", video)
    assert second.groups == {"task_type": ("order",), "duration": ("<2 min",)}


@pytest.mark.parametrize("place", ["video/1_plotQA", "MLVU/video/1_plotQA", "video", ".", "video/7_topic_reasoning"])
def test_mlvu_videos(tmp_path, place):
    rows.write_json(tmp_path / "json" / "1_plotQA.json", [rows.mlvu_row()])
    video = rows.touch(tmp_path / place / "street_1.mp4")
    assert one("mlvu", tmp_path).questions[0].video_path.samefile(video)


def test_mlvu_missing_video_is_expected_in_its_tasks_folder(tmp_path):
    rows.write_json(tmp_path / "json" / "3_ego.json", [rows.mlvu_row()])
    assert one("mlvu", tmp_path).questions[0].video_path == tmp_path / "video" / "3_ego" / "street_1.mp4"


def test_mlvu_one_name_is_one_video_in_all_tasks(tmp_path):
    for stem in ("1_plotQA", "7_topic_reasoning"):
        rows.write_json(tmp_path / "json" / f"{stem}.json", [rows.mlvu_row()])
        rows.touch(tmp_path / "video" / stem / "street_1.mp4")
    first, second = one("mlvu", tmp_path).questions
    assert first.video_id == second.video_id
    assert first.video_path == second.video_path == tmp_path / "video" / "1_plotQA" / "street_1.mp4"


def test_mlvu_quirks_load_and_are_counted(tmp_path):
    quirky = [
        rows.mlvu_row(answer="Black"),
        rows.mlvu_row(question="", candidates=[""] * 4, answer=""),
        rows.mlvu_row(candidates=["Red", "Green", "Green", "Blue"]),
        rows.mlvu_row(candidates=["Red", "Green", "", "Blue"], answer=""),
    ]
    rows.write_json(tmp_path / "json" / "1_plotQA.json", quirky)
    benchmark = one("mlvu", tmp_path)
    assert [q.answer for q in benchmark.questions] == ["", "D", "C", "C"]
    assert [note.split()[0] for note in benchmark.notes[:3]] == ["1", "1", "1"]
    assert "right option" in benchmark.notes[0]


def test_mlvu_parquet_quirks(tmp_path):
    empty = rows.mlvu_parquet_row(question="\n(A) \n(B) \n(C) \n(D) \n", question_id="Q1", answer="D")
    rows.write_parquet(tmp_path / rows.MLVU_FILE, [rows.mlvu_parquet_row(answer=""), empty])
    benchmark = one("mlvu", tmp_path)
    assert [(q.answer, q.text) for q in benchmark.questions] == [("", "Which bus comes first?"), ("D", "")]
    assert not benchmark.bad_rows


@real_rows
def test_real_mlvu_rows():
    benchmark = one("mlvu", ANNOTATIONS / "mlvu")
    assert len(benchmark.questions) == 2175
    assert benchmark.bad_rows == ()
    tasks = Counter(task for q in benchmark.questions for task in q.groups["task_type"])
    assert tasks == {
        "plotQA": 539, "needle": 355, "ego": 352, "order": 259, "topic_reasoning": 264, "count": 206,
        "anomaly_reco": 200,
    }  # fmt: skip
    assert [note.split()[0] for note in benchmark.notes] == ["2", "1", "5", "generation"]
    assert len(benchmark.by_video()) == len({q.video_path.name for q in benchmark.questions})


def asked(question):
    """What must not depend on the shape of the file."""
    return question.text, question.options, question.answer, question.row["question"], question.groups


@real_rows
def test_real_mlvu_rows_are_the_same_from_parquet(tmp_path):
    official = one("mlvu", ANNOTATIONS / "mlvu")
    rows.write_parquet(tmp_path / rows.MLVU_FILE, [dict(q.row) for q in official.questions])
    parquet = one("mlvu", tmp_path)
    assert [asked(q) for q in parquet.questions] == [asked(q) for q in official.questions]
    assert parquet.notes == official.notes[:3]


# LVBench


@pytest.mark.parametrize("file", [rows.LVBENCH_LINES, f"data/{rows.LVBENCH_LINES}"])
def test_lvbench_official_lines(tmp_path, file):
    lines = [
        rows.lvbench_line(qa=[rows.lvbench_qa(), rows.lvbench_qa(uid="56", answer="A")]),
        rows.lvbench_line("k2", []),
    ]
    lines[1] = rows.lvbench_line("k2", [rows.lvbench_qa(uid=57)], video_info={"fps": 25})
    rows.write_lines(tmp_path / file, lines)
    video = rows.touch(tmp_path / "all_videos" / "Cm-_1.webm")
    benchmark = one("lvbench", tmp_path)
    assert [(q.id, q.video_id, q.answer) for q in benchmark.questions] == [
        ("55", "Cm-_1", "D"),
        ("56", "Cm-_1", "A"),
        ("57", "k2", "D"),
    ]
    first, _, last = benchmark.questions
    assert first.text == "What does the sign say?"
    assert first.options == ("Stop", "Go", "Wait", "Turn")
    assert first.groups == {
        "task_type": ("key information retrieval", "reasoning"),
        "video_type": ("tv",),
        "duration": (">60 min",),
    }
    assert (first.duration_s, first.video_path) == (3900.0, video)
    assert "duration" not in last.groups
    assert last.duration_s is None
    assert first.row["question"] == rows.lvbench_qa()["question"]
    assert "options" not in first.row  # lmms-eval would append them to a question that has them already


def test_lvbench_question_cannot_rename_its_lines_video(tmp_path):
    rows.write_lines(tmp_path / rows.LVBENCH_LINES, [rows.lvbench_line(qa=[rows.lvbench_qa(video_path="other.mp4")])])
    assert one("lvbench", tmp_path).questions[0].video_path == tmp_path / "Cm-_1.mp4"


@pytest.mark.parametrize("file", [rows.LVBENCH_FILE, "train-0.parquet"])
@pytest.mark.parametrize("folder", [".", "videos", "video", "all_videos"])
def test_lvbench_parquet(tmp_path, file, folder):
    rows.write_parquet(tmp_path / file, [rows.lvbench_parquet_row()])
    video = rows.touch(tmp_path / folder / "Cm-_1.mp4")
    (question,) = one("lvbench", tmp_path).questions
    assert (question.id, question.video_id, question.answer) == ("55", "Cm-_1", "D")
    assert question.video_path.samefile(video)
    assert question.row == rows.lvbench_parquet_row()


def test_lvbench_reshaped_list_takes_lmms_evals_shape(tmp_path):
    rows.write_json(tmp_path / "lvbench_clean.json", [rows.lvbench_reshaped_row()])
    (question,) = one("lvbench", tmp_path).questions
    expected = {"key": "00000000", "video_path": "00000000.mp4", "uid": "lvbench_clean:0"}
    assert question.row == rows.lvbench_parquet_row(**expected)
    assert (question.id, question.video_id) == ("lvbench_clean:0", "00000000")


@real_rows
def test_real_lvbench_rows():
    benchmark = one("lvbench", ANNOTATIONS / "lvbench")
    assert (len(benchmark.questions), len(benchmark.by_video()), benchmark.bad_rows) == (1519, 101, ())
    types = Counter(label for q in benchmark.questions for label in q.groups["task_type"])
    assert types["entity recognition"] == 664
    assert types["summarization"] == 58
    assert benchmark.notes == ("1519 rows; the official set has 1549",)


@real_rows
def test_real_lvbench_rows_are_the_same_from_parquet_and_lines(tmp_path):
    reshaped = one("lvbench", ANNOTATIONS / "lvbench").questions
    rows.write_parquet(tmp_path / "parquet" / rows.LVBENCH_FILE, [dict(q.row) for q in reshaped])
    lines = [rows.lvbench_line(q.video_id, [dict(q.row)], type=q.row["type"], video_info=None) for q in reshaped]
    rows.write_lines(tmp_path / "lines" / rows.LVBENCH_LINES, lines)
    for shape in ("parquet", "lines"):
        assert [asked(q) for q in one("lvbench", tmp_path / shape).questions] == [asked(q) for q in reshaped]


# What all share


def test_generated_videos_are_called_so(tmp_path):
    rows.write_parquet(tmp_path / rows.VIDEOMME_FILE, [rows.videomme_row()])
    assert not one("videomme", tmp_path).generated
    rows.write_json(tmp_path / "GENERATED.json", {"version": 1})
    benchmark = one("videomme", tmp_path)
    assert benchmark.generated
    assert benchmark.label == "generated videos (VideoMME format)"
    assert benchmark.questions[0].benchmark == "videomme"
    assert benchmark.notes == ()


@pytest.mark.parametrize("marker", [[], {}, "1"])
def test_a_malformed_marker_is_an_error(tmp_path, marker):
    rows.write_parquet(tmp_path / rows.VIDEOMME_FILE, [rows.videomme_row()])
    rows.write_json(tmp_path / "GENERATED.json", marker)
    with pytest.raises(DataError, match="version"):
        load("videomme", tmp_path)


def test_generated_lvbench_list_is_not_confused_with_its_marker(tmp_path):
    rows.write_json(tmp_path / "list.json", [rows.lvbench_reshaped_row()])
    rows.write_json(tmp_path / "GENERATED.json", {"version": 1})
    assert len(one("lvbench", tmp_path).questions) == 1


def test_builtin_loads_what_is_there(tmp_path):
    rows.write_json(tmp_path / "mlvu" / "json" / "1_plotQA.json", [rows.mlvu_row()])
    rows.write_lines(tmp_path / "lvbench" / rows.LVBENCH_LINES, [rows.lvbench_line()])
    assert [benchmark.name for benchmark in load("builtin", tmp_path)] == ["mlvu", "lvbench"]
    rows.write_parquet(tmp_path / "videomme" / rows.VIDEOMME_FILE, [rows.videomme_row()])
    assert [benchmark.name for benchmark in load("builtin", tmp_path)] == ["videomme", "mlvu", "lvbench"]


def test_builtin_without_data_says_how_to_make_it(tmp_path):
    with pytest.raises(DataError, match="python -m evalkit data make"):
        load("builtin", tmp_path)


@pytest.mark.parametrize(
    ("seconds", "bucket"),
    [(0, "<2 min"), (119.99, "<2 min"), (120, "2-15 min"), (899, "2-15 min"), (900, "15-60 min"), (3600, "15-60 min"),
     (3600.1, ">60 min"), (32550, ">60 min")],
)  # fmt: skip
def test_duration_bucket(seconds, bucket):
    assert duration_bucket(seconds) == bucket


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf")])
def test_duration_bucket_refuses_what_is_no_length(seconds):
    with pytest.raises(DataError, match="seconds"):
        duration_bucket(seconds)


def test_unknown_names_and_no_folder():
    with pytest.raises(ConfigError, match="videomme, mlvu, lvbench \\(evalkit\\), or builtin"):
        load("nextqa", Path())
    for name in ("videomme", "mlvu", "lvbench", "builtin"):
        with pytest.raises(ConfigError, match=r"benchmark\.root=DIR"):
            load(name, None)


@pytest.mark.parametrize("name", ["videomme", "mlvu", "lvbench", "builtin"])
def test_configs_name_their_benchmark(name):
    file = REPO / "conf" / "benchmark" / f"{name}.yaml"
    config = yaml.safe_load(file.read_text(encoding="utf-8"))
    root = "data/builtin" if name == "builtin" else None
    assert config == {"name": name, "root": root, "evidence": None, "frame_scores": None}
    assert "# licence:" in file.read_text(encoding="utf-8")


def test_import_is_light():
    code = """
import sys
import evalkit.data.benchmarks, evalkit.data.protocols
heavy = {"torch", "pandas", "pyarrow", "datasets", "lmms_eval", "transformers"} & set(sys.modules)
sys.exit(str(heavy) if heavy else 0)
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=REPO)
