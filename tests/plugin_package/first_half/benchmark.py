"""A benchmark: questions.json, one list of rows, with its videos beside it."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from evalkit.data.benchmarks import BenchmarkSpec, fields, files
from evalkit.data.benchmarks.rows import Loaded, Row, collect, rows_of
from evalkit.data.protocols import letters
from evalkit.data.protocols.base import official_micro
from evalkit.data.protocols.task import Task
from evalkit.types import Question


def read(root: Path) -> Loaded:
    """questions.json of a folder."""
    file = root / "questions.json"
    questions, bad = collect(
        "counting",
        rows_of(file, files.read_json_list(file)),
        lambda row: row.default_id,
        partial(_question, files.VideoFolders(root, ("",))),
    )
    return Loaded(split="test", questions=questions, bad_rows=bad)


def _question(videos: files.VideoFolders, row: Row, name: str) -> Question:
    stem, suffix = fields.video_name(row.data, "video")
    options = fields.countable("options", fields.texts(row.data, "options"))
    return Question(
        benchmark="counting",
        id=name,
        video_id=stem,
        video_path=videos.path(stem, suffix),
        text=fields.text(row.data, "question"),
        options=options,
        answer=fields.letter(row.data, "answer", len(options)),
        groups={"task_type": ("counting",)},
        row=row.data,
    )


SPEC = BenchmarkSpec(
    name="counting",
    label="Counting",
    read=read,
    layout="A folder of Counting holds questions.json and the videos that it names.",
    question_sets={4: "official"},
    protocols={
        "official": Task(
            ask=lambda question: f"{question.text} A. {question.options[0]} B. {question.options[1]}",
            letter=letters.retake,
            averages=official_micro,
            max_new_tokens=4,
            scoring_note="an unreadable reply is wrong",
        )
    },
)
