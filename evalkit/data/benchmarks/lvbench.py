"""LVBench (arXiv 2406.08035): the official JSON lines, lmms-eval's parquet, or the list reshaped by VideoChat-Flash."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from evalkit.data.benchmarks import fields, files
from evalkit.data.benchmarks.files import SUBSET_LISTS
from evalkit.data.benchmarks.rows import Loaded, Row, collect, rows_of
from evalkit.data.benchmarks.spec import Archive, BenchmarkSpec, KnownRows, LmmsEvalTask, Source
from evalkit.data.protocols import official, retake, xcomp
from evalkit.errors import DataError
from evalkit.hub import GB
from evalkit.types import LETTERS, Question

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_LAYOUT = """An LVBench folder holds either the official layout
  video_info.meta.jsonl               the questions, one line a video
  videos/<key>.mp4                    the videos, also in video/ or all_videos/
from the hub dataset zai-org/LVBench (formerly THUDM/LVBench; videos by their YouTube keys), or lmms-eval's layout
  data/train-00000-of-00001.parquet   the questions
  <key>.mp4                           the videos
from the hub dataset lmms-eval/LVBench, video archives unpacked. Nothing is downloaded for you."""
_LINES = ("video_info.meta.jsonl", "data/video_info.meta.jsonl")
_PARQUET = ("data/train-*.parquet", "train-*.parquet", "*.parquet", "data/*.parquet")
_COLUMNS = ("key", "type", "video_path", "uid", "question", "answer", "question_type")
_FOLDERS = ("", "videos", "video", "all_videos")


def read(root: Path) -> Loaded:
    """The first of the three shapes found, in the order of the module's docstring."""
    if lines := files.find(root, _LINES):
        return _loaded(root, _official_rows(lines[0]), _uid)
    if parquet := files.find(root, _PARQUET):
        rows = [
            row for file in parquet for row in rows_of(file, files.read_parquet(file, _COLUMNS, ("time_reference",)))
        ]
        return _loaded(root, rows, _uid)
    lists = [path for path in files.find(root, ("*.json",)) if path.name not in files.OWN]
    if len(lists) != 1:
        came = ", ".join(path.name for path in lists) or "nothing"
        raise DataError(
            f"{root}: expected video_info.meta.jsonl, data/train-*.parquet or exactly one JSON list of rows, "
            f"found {came}\n{_LAYOUT}"
        )
    rows = rows_of(lists[0], files.read_json_list(lists[0]))
    return _loaded(root, rows, lambda row: row.default_id, _unshaped)


def _loaded(
    root: Path,
    rows: list[Row],
    identify: Callable[[Row], str],
    shape: Callable[[Row, str], dict[str, Any]] = lambda row, _: row.data,
) -> Loaded:
    videos = files.VideoFolders(root, _FOLDERS)
    questions, bad = collect("lvbench", rows, identify, lambda row, name: _question(videos, shape(row, name), name))
    return Loaded(split="train", questions=questions, bad_rows=bad)  # the hub calls the only split so


def _uid(row: Row) -> str:
    return fields.identifier(row.data, "uid")


def _question(videos: files.VideoFolders, data: dict[str, Any], name: str) -> Question:
    video_id = fields.identifier(data, "key")
    text, options = fields.split_options(data, "question")
    stem, suffix = fields.video_name(data, "video_path")
    duration = _seconds(data.get("duration_minutes"))
    groups = {"task_type": fields.labels(data, "question_type"), "video_type": (fields.text(data, "type"),)}
    if duration is not None:
        groups["duration"] = (fields.duration_bucket(duration),)
    return Question(
        benchmark="lvbench",
        id=name,
        video_id=video_id,
        video_path=videos.path(stem, suffix),
        text=text,
        options=options,
        answer=fields.letter(data, "answer", len(options)),
        groups=groups,
        row=data,
        duration_s=duration,
    )


def _seconds(minutes: Any) -> float | None:
    return minutes * 60.0 if fields.is_duration(minutes) else None


def _official_rows(file: Path) -> list[Row]:
    rows: list[Row] = []
    for number, value in files.read_json_lines(file):
        for k, data in enumerate(_line_rows(value)):
            rows.append(
                Row(file=file, number=len(rows), data=data, place=f"line {number}, question {k} (counted from 0)")
            )
    return rows


def _line_rows(line: Any) -> list[Any]:
    """A video's questions as rows of their own; what is no object stays as it is and becomes a bad row."""
    asked = line.get("qa") if isinstance(line, dict) else None
    if not isinstance(asked, list):
        return [line]
    key, info = line.get("key"), line.get("video_info")
    video = {
        "key": key,
        "type": line.get("type"),
        "video_path": f"{key}.mp4" if isinstance(key, str) and key else None,
        "duration_minutes": info.get("duration_minutes") if isinstance(info, dict) else None,
    }
    return [{**row, **video} if isinstance(row, dict) else row for row in asked]


def _unshaped(row: Row, name: str) -> dict[str, Any]:
    """A row of VideoChat-Flash's list (options apart, the answer with its text) in lmms-eval's shape."""
    data = row.data
    fields.options(data, "candidates")
    stem, suffix = fields.video_name(data, "video")
    candidates, answer = data["candidates"], data.get("answer")
    if candidates.count(answer) != 1:
        raise fields.wrong("answer", "exactly one of the candidates", answer)
    return {
        "key": stem,
        "type": data.get("type"),
        "video_path": stem + suffix,
        "uid": name,
        "question": "\n".join([fields.text(data, "question"), *candidates]),
        "answer": LETTERS[candidates.index(answer)],
        "question_type": data.get("question_type"),
        "time_reference": data.get("time_reference"),
    }


SPEC = BenchmarkSpec(
    name="lvbench",
    label="LVBench",
    read=read,
    layout=_LAYOUT,
    question_sets={
        1549: "official, 103 videos",
        1519: "VideoChat-Flash's list, 101 videos",
        1492: "XComp's, VideoChat-Flash's list without 27 questions on two videos",
    },
    protocols={"official": official.LVBENCH, "retake": retake.LVBENCH, "xcomp": xcomp.LVBENCH},
    lmms_eval=LmmsEvalTask(file="lvbench/lvbench.yaml"),
    sources=(
        Source(
            repo="lmms-eval/LVBench",
            revision=None,
            archives=(
                Archive(name="data/train-00000-of-00001.parquet", size=170e3, holds="the questions"),
                *(
                    Archive(name=f"video_chunks/videos_chunk_{number:03d}.zip", size=size, holds="videos", videos=True)
                    for number, size in enumerate(
                        [s * GB for s in (3.42, 2.98, 5.04, 4.14, 4.20, 4.61)] + [None] * 8, 1
                    )
                ),
            ),
            total=61.8 * GB,
            then="unpack the archives into videos/: they hold <key>.mp4",
            terms="CC-BY-NC-SA-4.0, academic research only",
        ),
        Source(
            repo="zai-org/LVBench",
            revision=None,
            archives=(Archive(name="video_info.meta.jsonl", size=486e3, holds="the questions"),),
            then="get the videos yourself: this repository names them by their YouTube ids and holds none",
            terms="CC-BY-NC-SA-4.0, academic research only",
        ),
    ),
    known_rows=(
        KnownRows(  # source: lvbench_clean.json of VideoChat-Flash at 2f8e2f57
            ids="e79702d8d21996ec7102cfebbc908de47724c02df12998ca84edeeea568d1400",
            content="14a9af17b3c9265d8c3d1f588a1802bb1fcee3fd141825380167d7a8483aff97",
        ),
    ),
    subset_lists=SUBSET_LISTS / "lvbench.json",
)
