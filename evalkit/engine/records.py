"""Arms, and the answers that are written for them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evalkit.data.benchmarks import duration_bucket
from evalkit.method import Method
from evalkit.types import Answer, BadRow, Question, Reply, Video

if TYPE_CHECKING:
    from evalkit.ledger import Ledger


@dataclass(frozen=True)
class Arm:
    """One method at one ratio."""

    name: str  # of the method's configuration
    method: Method
    ratio: float


def answered(
    arm: Arm, question: Question, video: Video, *, prompt: str, text: str, gold: str, reply: Reply, ledger: Ledger
) -> Answer:
    """A question with a reply. Its duration bucket comes from the file where the annotations have none."""
    return Answer(
        benchmark=question.benchmark,
        question_id=question.id,
        video_id=question.video_id,
        groups={"duration": (duration_bucket(video.duration_s),), **question.groups},
        method=arm.name,
        ratio=arm.ratio,
        text=text,
        letter=reply.letter,
        gold=gold,
        correct=reply.correct,
        status="ok" if reply.letter else "unparsed",
        error=None,
        prompt_sha=hashlib.sha256(prompt.encode()).hexdigest()[:16],
        ledger=ledger,
    )


def failed(arm: Arm, row: Question | BadRow, error: str) -> Answer:
    """A question that could not be answered, or a row that could not be asked: neither right nor wrong."""
    return Answer(
        benchmark=row.benchmark,
        question_id=row.id,
        video_id=row.video_id,
        groups=row.groups if isinstance(row, Question) else {},
        method=arm.name,
        ratio=arm.ratio,
        text="",
        letter=None,
        gold=row.answer if isinstance(row, Question) else "",
        correct=None,
        status="failed",
        error=error,
        prompt_sha="",
        ledger=None,
    )
