"""The lines of answers.jsonl: a question with its reply, and one that could not be answered."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from evalkit.data import shortfall
from evalkit.data.benchmarks import duration_bucket, evidence_spans
from evalkit.data.fingerprint import described
from evalkit.method import OperatingPoint
from evalkit.types import Answer, BadRow, KeptOverTime, Question, Reply, Video

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evalkit.ledger import Ledger


def answered(
    point: OperatingPoint,
    question: Question,
    video: Video,
    *,
    prompt: str,
    text: str,
    gold: str,
    reply: Reply,
    ledger: Ledger,
    kept: KeptOverTime | None,
    repeated: bool,
    margin: float | None,
    stand_ins: int,
) -> Answer:
    """A question with a reply. Its duration bucket comes from the file where the annotations have none."""
    quarter = evidence_spans.group(question.evidence_s, video.duration_s)
    return Answer(
        benchmark=question.benchmark,
        question_id=question.id,
        video_id=question.video_id,
        groups={"duration": (duration_bucket(video.duration_s),), **question.groups, **quarter},
        method=point.name,
        ratio=point.ratio,
        text=text,
        letter=reply.letter,
        gold=gold,
        correct=reply.correct,
        status="ok" if reply.letter else "unparsed",
        error=None,
        prompt_sha=hashlib.sha256(prompt.encode()).hexdigest()[:16],
        ledger=ledger,
        prompt=prompt,
        options=question.options,
        duration_s=round(video.duration_s, 3),
        kept=kept,
        repeated=repeated,
        evidence_s=question.evidence_s,
        short=shortfall.of_question(question, video) or None,
        margin=margin,
        video_file=described(video.fingerprint, video.frames) if video.fingerprint else None,
        stand_ins=stand_ins,
    )


def is_repeated(ids: Sequence[int], limit: int) -> bool:
    """Whether a reply used all of its `limit` new tokens, two or more, and is one token over and over."""
    return len(ids) == limit > 1 and len(set(ids)) == 1


def failed(point: OperatingPoint, row: Question | BadRow, error: str) -> Answer:
    """A question that could not be answered, or a row that could not be asked: neither right nor wrong."""
    return Answer(
        benchmark=row.benchmark,
        question_id=row.id,
        video_id=row.video_id,
        groups=row.groups if isinstance(row, Question) else {},
        method=point.name,
        ratio=point.ratio,
        text="",
        letter=None,
        gold=row.answer if isinstance(row, Question) else "",
        correct=None,
        status="failed",
        error=error,
        prompt_sha="",
        ledger=None,
        options=row.options if isinstance(row, Question) else (),
        evidence_s=row.evidence_s if isinstance(row, Question) else (),
    )
