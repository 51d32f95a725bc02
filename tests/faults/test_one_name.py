"""Two files behind one video, and files outside the folder: a bad row that says so, never a choice in silence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from evalkit.data.benchmarks import load
from evalkit.tune import conversations
from tests.support import rows


def files(root: Path, *names: str, same: bool) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("a video" if same else f"a video {name}")


TWO = {
    "a.mp4 beside a.webm": ("videomme", ("data/vid-_001.mp4", "data/vid-_001.webm")),
    "in two folders": ("videomme", ("data/vid-_001.mp4", "videos/vid-_001.mp4")),
    "in two tasks": ("mlvu", ("video/1_plotQA/street_1.mp4", "video/2_needle/street_1.mp4")),
    "lvbench": ("lvbench", ("videos/Cm-_1.mp4", "all_videos/Cm-_1.mkv")),
}


@pytest.mark.parametrize("same", [False, True], ids=["differ", "copies"])
@pytest.mark.parametrize("how", TWO)
def test_two_files_of_one_name(tmp_path: Path, how: str, same: bool) -> None:
    """Copies are one video, whichever is taken."""
    name, places = TWO[how]
    files(tmp_path, *places, same=same)
    if name == "videomme":
        rows.write_parquet(tmp_path / rows.VIDEOMME_FILE, [rows.videomme_row(1), rows.videomme_row(2)])
    elif name == "mlvu":
        for task in ("1_plotQA", "2_needle"):
            rows.write_json(tmp_path / "json" / f"{task}.json", [rows.mlvu_row()])
    else:
        qa = [rows.lvbench_qa(), rows.lvbench_qa(uid="56")]
        rows.write_lines(tmp_path / rows.LVBENCH_LINES, [rows.lvbench_line(qa=qa)])
    (found,) = load(name, tmp_path)
    assert (len(found.questions), len(found.bad_rows)) == ((2, 0) if same else (0, 2))
    if same:
        assert len({question.video_path for question in found.questions}) == 1
    for bad in found.bad_rows:
        assert "found 2 that differ" in bad.message
        assert all(place in bad.message for place in places)


def test_one_key_for_two_files(tmp_path: Path) -> None:
    """LVBench's parquet names the file beside the key."""
    found = [rows.lvbench_parquet_row(), rows.lvbench_parquet_row(uid="56", video_path="another.mp4")]
    rows.write_parquet(tmp_path / rows.LVBENCH_FILE, [*found, rows.lvbench_parquet_row(uid="57")])
    (benchmark,) = load("lvbench", tmp_path)
    assert [question.id for question in benchmark.questions] == ["55", "57"]
    (bad,) = benchmark.bad_rows
    assert bad.id == "56"
    assert (
        "expected one file for the video 'Cm-_1', an earlier row names Cm-_1.mp4, this one another.mp4" in bad.message
    )


@pytest.mark.parametrize("name", ["../secret.mp4", "{outside}"])
def test_tuning_reads_no_video_outside_its_folder(tmp_path: Path, name: str) -> None:
    folder, outside = tmp_path / "videos", tmp_path / "secret.mp4"
    files(tmp_path, "secret.mp4", "videos/own.mp4", same=True)
    talk = [{"from": "human", "value": "<video>What?"}, {"from": "gpt", "value": "That."}]
    names = [name.format(outside=outside), "own.mp4"]
    (tmp_path / "data.json").write_text(json.dumps([{"id": n, "video": n, "conversations": talk} for n in names]))
    good, bad = conversations.read(tmp_path / "data.json", folder)
    assert [row.video for row in good] == [folder / "own.mp4"]
    assert "expected `video` to be a video's name inside the data folder" in bad[0].reason
