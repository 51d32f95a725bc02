"""Video-MME (arXiv 2405.21075): parquet rows, data/<videoID>.mp4, subtitle/<videoID>.srt."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from evalkit.data.benchmarks import fields, files
from evalkit.data.benchmarks.files import SUBSET_LISTS
from evalkit.data.benchmarks.rows import Loaded, Row, collect, rows_of
from evalkit.data.benchmarks.spec import Archive, BenchmarkSpec, LmmsEvalTask, Source
from evalkit.data.protocols import official, retake, xcomp
from evalkit.errors import DataError
from evalkit.hub import GB
from evalkit.types import Question

if TYPE_CHECKING:
    from pathlib import Path

_LAYOUT = """A Video-MME folder holds
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
        raise DataError(f"{root}: expected videomme/test-*.parquet, found no parquet file\n{_LAYOUT}")
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


SPEC = BenchmarkSpec(
    name="videomme",
    label="VideoMME",
    read=read,
    layout=_LAYOUT,
    question_sets={2700: "official"},
    protocols={"official": official.VIDEOMME, "retake": retake.VIDEOMME, "xcomp": xcomp.VIDEOMME},
    lmms_eval=LmmsEvalTask(file="videomme/videomme.yaml", file_with_subtitles="videomme/videomme_w_subtitle.yaml"),
    sources=(
        Source(
            repo="lmms-eval/Video-MME",
            revision="ead1408f75b618502df9a1d8e0950166bf0a2a0b",
            archives=(
                Archive(name="videomme/test-00000-of-00001.parquet", holds="the questions"),
                Archive(name="subtitle.zip", size=7.5e6, holds="subtitles of 744 videos"),
                *(
                    Archive(name=f"videos_chunked_{number:02d}.zip", size=size, holds="videos", videos=True)
                    for number, size in enumerate(
                        [s * GB for s in (5.18, 5.33, 4.86, 5.16, 5.10, 5.27, 5.22, 5.28, 5.09)] + [None] * 11, 1
                    )
                ),
            ),
            total=101 * GB,
            then="unpack the archives in the folder itself: they hold data/<videoID>.mp4 and subtitle/<videoID>.srt",
            terms="academic research only; not to be redistributed",
        ),
    ),
    known_rows=(),  # its rows may not be passed on, so nobody has had them at hand here
    subset_lists=SUBSET_LISTS / "videomme.json",
)
