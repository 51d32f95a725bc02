"""When less of a video is there than somebody says."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from evalkit.types import Question, Video

SHARE, SECONDS = 0.02, 0.5  # that may be missing, the larger of both


def is_short(found: float, announced: float) -> bool:
    """Whether so many of the announced seconds are missing that a video is not whole."""
    return announced - found > max(SECONDS, SHARE * announced)


def of_question(question: Question, video: Video) -> str:
    """What is missing of a question's video by its file or by the annotations, in words; "" where nothing is.

    Annotations in whole minutes or seconds are taken for rounded ones.
    """
    annotated = question.duration_s
    if video.short or annotated is None:
        return video.short
    rounded = 60.0 if annotated % 60 == 0 else 1.0 if annotated % 1 == 0 else 0.0
    if not is_short(video.duration_s + rounded, annotated):
        return ""
    return f"{annotated:,.1f} s annotated, the file has {video.duration_s:,.1f} s"
