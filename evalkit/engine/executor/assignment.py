"""One video on its way through the workers: what of it is not answered yet, and which workers were lost on it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING

from evalkit.engine import records
from evalkit.engine.encoded_video import Pending
from evalkit.engine.executor.base import Given
from evalkit.engine.executor.messages import Asked, Told, WorkerLostError
from evalkit.types import Answer

if TYPE_CHECKING:
    from evalkit.types import Question

TRIES = 2  # workers that may be lost on one video


class Assignment:
    """The questions of one video."""

    def __init__(self, place: int, pending: Pending) -> None:
        self.place = place
        self._points = list(pending)
        self._left = [{question.id: question for question in questions} for questions in pending.values()]
        self._losses: list[str] = []

    @property
    def asked(self) -> list[Asked]:
        """What a worker is to do, without what came before an earlier one was lost."""
        pairs = enumerate(zip(self._points, self._left, strict=True))
        return [Asked(n, point, list(left.values())) for n, (point, left) in pairs if left]

    @cached_property
    def answers(self) -> int:
        """How many it was asked for at first, from all operating points."""
        return sum(map(len, self._left))

    @cached_property
    def size(self) -> int:
        """Bytes of the video, for which its duration is rarely known; 0 where it is missing."""
        try:
            return self._first.video_path.stat().st_size
        except OSError:
            return 0

    @property
    def video(self) -> str:
        """For messages."""
        return f"{self._first.benchmark}, video {self._first.video_id}"

    @property
    def _first(self) -> Question:
        return next(question for left in self._left for question in left.values())

    def given(self, told: Told) -> Given:
        """An answer that came. WorkerLostError where it is none to a question that is left."""
        place, answer = told
        if not (isinstance(answer, Answer) and place in range(len(self._points)) and self._is_left(place, answer)):
            raise WorkerLostError("answered what it was not asked")
        del self._left[place][answer.question_id]
        return Given(self.place, self._points[place], answer)

    def _is_left(self, place: int, answer: Answer) -> bool:
        point, question = self._points[place], self._left[place].get(answer.question_id)
        asked = question and (question.benchmark, question.video_id, point.name, point.ratio)
        return asked == (answer.benchmark, answer.video_id, answer.method, answer.ratio)

    def done(self) -> None:
        """The worker says that all is answered. WorkerLostError where it is not."""
        if self.asked:
            raise WorkerLostError("left out questions that it was asked")

    def lost(self, how: str) -> bool:
        """A worker was lost on this video; whether it may be tried again."""
        self._losses.append(how)
        return len(self._losses) < TRIES

    def failed(self) -> Iterator[Given]:
        """Every question that is left, as a row that says why."""
        reason = f"each worker that was given this video was lost: one {', one '.join(self._losses)}"
        for asked in self.asked:
            for question in asked.questions:
                yield Given(self.place, asked.of, records.failed(asked.of, question, reason))
