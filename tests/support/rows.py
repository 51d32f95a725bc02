"""Writes small question sets in every shape that the loaders read."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from evalkit.data.benchmarks import load

if TYPE_CHECKING:
    from pathlib import Path

    from evalkit.types import Question

Row = dict[str, Any]

VIDEOMME_FILE = "videomme/test-00000-of-00001.parquet"
MLVU_FILE = "data/test-00000-of-00001.parquet"
LVBENCH_FILE = "data/train-00000-of-00001.parquet"
LVBENCH_LINES = "video_info.meta.jsonl"


def touch(path: Path) -> Path:
    """An empty file; loaders look for videos, they do not open them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def write_parquet(path: Path, rows: list[Row]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def write_json(path: Path, value: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def write_lines(path: Path, lines: list[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def videomme_row(number: int = 1, **changes: Any) -> Row:
    """Three rows a video, as in the real file."""
    video = (number + 2) // 3
    row = {
        "video_id": f"{video:03d}",
        "duration": "short",
        "domain": "Knowledge",
        "sub_category": "Geography",
        "url": f"https://example.org/watch?v=vid-_{video:03d}",
        "videoID": f"vid-_{video:03d}",
        "question_id": f"{video:03d}-{(number - 1) % 3 + 1}",
        "task_type": "Counting Problem",
        "question": "How many lamps\nare lit?",
        "options": ["A. One.", "B. Two.", "C. Three.", "D. None."],
        "answer": "C",
    }
    return row | changes


def mlvu_row(**changes: Any) -> Row:
    """An official row."""
    row = {
        "video": "street_1.mp4",
        "duration": 246,
        "question": "Which bus comes first?",
        "candidates": ["Red", "Green", "Blue", "White"],
        "answer": "Green",
        "question_type": "plotQA",
    }
    return row | changes


def mlvu_parquet_row(**changes: Any) -> Row:
    row = {
        "video_name": "street_1.mp4",
        "duration": 246.0,
        "question": "Which bus comes first?\n(A) Red\n(B) Green\n(C) Blue\n(D) White\n",
        "candidates": ["Red", "Green", "Blue", "White"],
        "answer": "B",
        "task_type": "plotQA",
        "question_id": "Q0",
    }
    return row | changes


def lvbench_line(key: str = "Cm-_1", qa: Any = None, **changes: Any) -> Row:
    """An official line: one video and its questions."""
    asked = [lvbench_qa()] if qa is None else qa
    info = {"duration_minutes": 65, "fps": 25, "resolution": {"width": 640, "height": 360}}
    return {"key": key, "type": "tv", "video_info": info, "qa": asked} | changes


def lvbench_qa(**changes: Any) -> Row:
    row = {
        "uid": "55",
        "question": "What does the sign say?\n(A) Stop\n(B) Go\n(C) Wait\n(D) Turn",
        "answer": "D",
        "question_type": ["key information retrieval", "reasoning"],
        "time_reference": "00:15-00:19",
    }
    return row | changes


def lvbench_parquet_row(**changes: Any) -> Row:
    return {"key": "Cm-_1", "type": "tv", "video_path": "Cm-_1.mp4"} | lvbench_qa() | changes


def lvbench_reshaped_row(**changes: Any) -> Row:
    row = {
        "video": "00000000",
        "type": "tv",
        "question": "What does the sign say?",
        "candidates": ["(A) Stop", "(B) Go", "(C) Wait", "(D) Turn"],
        "answer": "(D) Turn",
        "question_type": ["key information retrieval", "reasoning"],
        "time_reference": "00:15-00:19",
    }
    return row | changes


def one_question(root: Path, name: str, **changes: Any) -> Question:
    """The question of a set that has no other one."""
    if name == "videomme":
        write_parquet(root / VIDEOMME_FILE, [videomme_row(**changes)])
    elif name == "mlvu":
        write_json(root / "json" / "1_plotQA.json", [mlvu_row(**changes)])
    else:
        write_lines(root / LVBENCH_LINES, [lvbench_line(qa=[lvbench_qa(**changes)])])
    return load(name, root)[0].questions[0]
