"""Scores of a video's frames for each question, or the frames that a method chose, from a JSON file.

Three layouts are read:

* `{QUESTION ID: {"frames": [0, 30, …], "scores": [0.21, 0.34, …]}}`, or `"seconds"` in place of `"frames"`; without
  `scores` the frames are those to show;
* what AKS publishes: a list over the question set's rows, in its order, each a list of the frames to show;
* what BOLT publishes: `{VIDEO: [{"question_id": …, "frames": [seconds to show, …]}]}`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from evalkit.errors import DataError
from evalkit.types import FrameScores

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from evalkit.types import Benchmark


def placed(loaded: Sequence[Benchmark], file: Path) -> list[Benchmark]:
    """Question sets whose questions have what `file` says of them; a note says of how many.

    DataError for a file that is not of one of the layouts, and for one that names no question of any set.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{file}: expected a readable JSON file: {error}; correct it") from error
    known = [_by_id(file, content, benchmark) for benchmark in loaded]
    if not any(q.id in found for found, benchmark in zip(known, loaded, strict=True) for q in benchmark.questions):
        example = next((q.id for benchmark in loaded for q in benchmark.questions), "none")
        raise DataError(f"{file}: expected ids of the questions at hand, such as {example!r}, found none of them")
    return [_one(benchmark, found, file.name) for benchmark, found in zip(loaded, known, strict=True)]


def _one(benchmark: Benchmark, found: Mapping[str, FrameScores], name: str) -> Benchmark:
    questions = tuple(replace(question, frame_scores=found.get(question.id)) for question in benchmark.questions)
    named = sum(question.frame_scores is not None for question in questions)
    note = f"frame scores of {named} of {len(questions)} questions from {name}; what they cost is in no table"
    return replace(benchmark, questions=questions, notes=(*benchmark.notes, note))


def _by_id(file: Path, content: Any, benchmark: Benchmark) -> dict[str, FrameScores]:
    if isinstance(content, list):
        rows = len(benchmark.questions) + len(benchmark.bad_rows)
        if len(content) != rows or benchmark.bad_rows:
            raise DataError(
                f"{file}: expected a list of frames for each of the {rows} rows of {benchmark.label}, which must all "
                f"be readable, got {len(content)} lists; name the file that belongs to the whole question set"
            )
        ids = [question.id for question in benchmark.questions]
        return {name: FrameScores(at=_numbers(file, name, one)) for name, one in zip(ids, content, strict=True)}
    if not isinstance(content, dict):
        raise DataError(f"{file}: expected an object with question ids, or a list over questions, got {content!r:.60}")
    found: dict[str, FrameScores] = {}
    for name, value in content.items():
        if isinstance(value, list):  # of one video
            for row in value:
                question = str(_field(file, name, row, "question_id"))
                found[question] = FrameScores(
                    at=_numbers(file, question, _field(file, question, row, "frames")), in_seconds=True
                )
        else:
            found[name] = _scored(file, name, value)
    return found


def _scored(file: Path, name: str, value: Any) -> FrameScores:
    in_seconds = isinstance(value, dict) and "seconds" in value
    at = _numbers(file, name, _field(file, name, value, "seconds" if in_seconds else "frames"))
    scores = _numbers(file, name, value["scores"]) if value.get("scores") is not None else None
    if scores is not None and (len(scores) != len(at) or list(at) != sorted(set(at))):
        raise DataError(
            f"{file}, question {name}: expected a score for each of {len(at)} ascending frames, got {len(scores)}"
        )
    return FrameScores(at=at, scores=scores, in_seconds=in_seconds)


def _field(file: Path, name: str, row: Any, key: str) -> Any:
    if not isinstance(row, dict) or key not in row:
        raise DataError(f"{file}, {name}: expected an object with {key!r}, got {row!r:.80}; correct it")
    return row[key]


def _numbers(file: Path, name: str, values: Any) -> tuple[float, ...]:
    numbers = isinstance(values, list) and all(isinstance(v, int | float) and math.isfinite(v) for v in values)
    if not numbers or not values:
        raise DataError(f"{file}, question {name}: expected a list of numbers, got {values!r:.80}; correct it")
    return tuple(values)
