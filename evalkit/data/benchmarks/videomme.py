"""Video-MME (arXiv 2405.21075): parquet rows, data/<videoID>.mp4, subtitle/<videoID>.srt."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from evalkit.data.benchmarks import fields, files
from evalkit.data.benchmarks.rows import Loaded, Row, collect, rows_of
from evalkit.errors import DataError
from evalkit.types import Question

if TYPE_CHECKING:
    from pathlib import Path

LABEL = "VideoMME"
OFFICIAL_ROWS = 2700
TREE = """A Video-MME folder holds
  videomme/test-00000-of-00001.parquet   the questions
  data/<videoID>.mp4                     the videos
  subtitle/<videoID>.srt                 subtitles, where a video has them
Get it from the hub dataset lmms-eval/Video-MME (formerly lmms-lab/Video-MME): the parquet file, and
videos_chunked_01.zip to videos_chunked_20.zip and subtitle.zip, unpacked. Nothing is downloaded for you."""
DURATIONS = ("short", "medium", "long")
_PATTERNS = ("videomme/test-*.parquet", "data/test-*.parquet", "test-*.parquet", "*.parquet", "data/*.parquet")
_LABELS = ("duration", "domain", "sub_category", "task_type")
_COLUMNS = ("question_id", "videoID", "question", "options", "answer", *_LABELS)
_EXTRA = ("video_id", "url")
_FOLDERS = ("data", "video", "videos")


def read(root: Path) -> Loaded:
    """All rows of the first parquet layout found."""
    found = files.find(root, _PATTERNS)
    if not found:
        raise DataError(f"{root}: expected videomme/test-*.parquet, found no parquet file\n{TREE}")
    videos = files.VideoFolders(root, _FOLDERS)
    rows = [row for file in found for row in rows_of(file, files.read_parquet(file, _COLUMNS, _EXTRA))]
    questions, bad = collect("videomme", rows, _identify, partial(_question, root, videos))
    return Loaded(split="test", questions=questions, bad_rows=bad)


def _identify(row: Row) -> str:
    return fields.identifier(row.data, "question_id")


def _question(root: Path, videos: files.VideoFolders, row: Row, name: str) -> Question:
    data = row.data
    stem, suffix = fields.video_name(data, "videoID")
    options = fields.options(data, "options")
    fields.one_of(data, "duration", DURATIONS)
    return Question(
        benchmark="videomme",
        id=name,
        video_id=stem,
        video_path=videos.path(stem, suffix),
        text=fields.text(data, "question").strip(),
        options=options,
        answer=fields.letter(data, "answer", len(options)),
        groups={key: (fields.text(data, key),) for key in _LABELS},
        row=data,
        subtitle_path=_subtitle(root, stem),
    )


def _subtitle(root: Path, stem: str) -> Path | None:
    path = root / "subtitle" / f"{stem}.srt"
    return path if files.exists(path) else None
