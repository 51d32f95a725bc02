"""When less of a video is there than somebody says."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evalkit.types import Question, Video

SHARE, SECONDS = 0.02, 0.5  # that may be missing, the larger of both


def is_short(found: float, announced: float) -> bool:
    """Whether so many of the announced seconds are missing that a video is not whole."""
    return announced - found > max(SECONDS, SHARE * announced)


def of_question(question: Question, video: Video) -> str:
    """What is missing of a question's video by its file or by the annotations, in words; "" where nothing is.

    Annotations in whole minutes or seconds are taken for rounded ones.
    """
    return (
        video.short
        or _below(question.duration_s, "annotated", video.duration_s, minutes=True)
        or of_spans(question.evidence_s, video.duration_s)
    )


def of_spans(spans: Sequence[tuple[float, float]], duration_s: float) -> str:
    """What is missing of a video whose evidence spans end after it, in words; "" where nothing is."""
    return _below(max((end for _, end in spans), default=None), "in evidence spans", duration_s)


def _below(said: float | None, where: str, duration_s: float, *, minutes: bool = False) -> str:
    if said is None:
        return ""
    rounded = 60.0 if minutes and said % 60 == 0 else 1.0 if said % 1 == 0 else 0.0
    return f"{said:,.1f} s {where}, the file has {duration_s:,.1f} s" if is_short(duration_s + rounded, said) else ""
