"""Does every video fail for one reason, which is not its own? Then the next one will, too, and the run stops."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from evalkit.errors import DecoderKilledError, SystematicError, VideoError

if TYPE_CHECKING:
    from evalkit.engine.encoded_video import Pending
    from evalkit.engine.executor.base import Given
    from evalkit.types import Answer

MAX_FAILED = 5  # videos, where nothing else is said
OF_THE_VIDEO = tuple(f"{kind.__name__}: " for kind in (VideoError, DecoderKilledError))


class CircuitBreaker:
    """Counts videos, one after the other as they are done, of which nothing is answered for one and the same reason.

    Answers set the count back to zero; a video that cannot be read is its own reason and does not count.
    """

    def __init__(self, limit: int | None, videos: Sequence[Pending]) -> None:
        """`limit`: so many stop the run; None: it is never stopped."""
        self._limit = limit
        self._left = [sum(map(len, pending.values())) for pending in videos]  # questions of each video
        self._failed: dict[int, list[Answer]] = {}  # of videos that are begun, without those that have an answer
        self._reasons: frozenset[str] = frozenset()
        self._alike = 0

    def add(self, given: Given) -> None:
        """An answer that came and is stored. Raises SystematicError where the limit is reached."""
        place, answer = given.video, given.answer
        self._left[place] -= 1
        failed = self._failed.setdefault(place, [])
        failed.append(answer)
        if answer.status != "failed":
            self._alike = 0
        if self._left[place]:
            return
        del self._failed[place]
        if not any(one.status != "failed" or str(one.error).startswith(OF_THE_VIDEO) for one in failed):
            self._count(failed)

    def _count(self, failed: Sequence[Answer]) -> None:
        reasons = frozenset(map(_reason, failed))
        self._alike = self._alike + 1 if reasons == self._reasons else 1
        self._reasons = reasons
        if self._limit is not None and self._alike >= self._limit:
            raise SystematicError(
                f"{self._alike} videos one after the other have no answer, and all for this reason: "
                f"{failed[-1].error}. The run stops here; what is stored stands. Remove the cause and give the same "
                "command, or max_failed=null to try all videos"
            )


def _reason(answer: Answer) -> str:
    """The error without what is of one video: its names and all numbers."""
    text = str(answer.error)
    for name in sorted((answer.question_id, answer.video_id), key=len, reverse=True):
        text = text.replace(name, "…") if name else text
    return re.sub(r"\d+", "#", text)
