"""Answers with evidence spans from a file: annotations that were found after the answers were given."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from evalkit.data import shortfall
from evalkit.data.benchmarks import evidence_csv, evidence_spans

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from evalkit.data.benchmarks.evidence_csv import EvidenceTable
    from evalkit.runs.load import Run
    from evalkit.types import Answer

log = logging.getLogger(__name__)


def given(runs: Sequence[Run], file: Path) -> list[Run]:
    """The runs with the spans of `file` in the place of their own, where it names a question or its video.

    Their group, the quarter of the video in which the answer lies, follows. DataError as `evidence_csv.read`, and where
    the file names none of the questions.
    """
    table = evidence_csv.read(file)
    answers = [answer for run in runs for answer in run.answers]
    table.check((answer.question_id, answer.video_id) for answer in answers)
    if not any(table.spans(answer.question_id, answer.video_id) for answer in answers):
        raise table.nothing_fits(answers[0].question_id if answers else "none")
    found = [replace(run, answers=tuple(_given(answer, table) for answer in run.answers)) for run in runs]
    _warn(file, [answer for run in found for answer in run.answers])
    return found


def _warn(file: Path, answers: Sequence[Answer]) -> None:
    """Of spans that end after their videos: what lies there, nobody can have kept."""
    short = {
        answer.question_id: missing
        for answer in answers
        if answer.duration_s is not None and (missing := shortfall.of_spans(answer.evidence_s or (), answer.duration_s))
    }
    if short:
        name, missing = next(iter(short.items()))
        log.warning(
            "%s: spans of %d questions end after their videos, such as %s: %s. Are they seconds of these files?",
            *(file, len(short), name, missing),
        )


def _given(answer: Answer, table: EvidenceTable) -> Answer:
    spans = table.spans(answer.question_id, answer.video_id)
    if not spans:
        return answer
    group = {} if answer.duration_s is None else evidence_spans.group(spans, answer.duration_s)
    return replace(answer, evidence_s=spans, groups={**answer.groups, **group})
