"""What a pool and its workers say to each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from evalkit.child_process import Logged

if TYPE_CHECKING:
    from evalkit.method import OperatingPoint
    from evalkit.types import Answer, Question


class Answers(Protocol):
    """What a worker needs of an engine."""

    def answers(
        self,
        pending: Mapping[OperatingPoint, Sequence[Question]],
        following: Mapping[OperatingPoint, Sequence[Question]] | None = None,
        /,
    ) -> Iterator[tuple[OperatingPoint, Answer]]:
        """Answers to the questions of one video; ConfigError for what concerns the whole run.

        `following`: what is asked next, if nothing else comes up, as the same object.
        """
        ...


class EngineFactory(Protocol):
    """Builds the engine in the process that uses it; it is sent there, and what it holds is."""

    def __call__(self) -> Answers:
        """The engine, loaded. ConfigError where it cannot be."""
        ...


class Asked(NamedTuple):
    """What one operating point is to answer about a video."""

    point: int  # by which its answers name it
    of: OperatingPoint
    questions: Sequence[Question]


class Task(NamedTuple):
    """A video to answer, and the one that may be decoded meanwhile."""

    asked: Sequence[Asked] | None  # None: what the task before called `following`
    following: Sequence[Asked] | None


class Ready(NamedTuple):
    """The engine is loaded."""


class Told(NamedTuple):
    """One answer."""

    point: int
    answer: Answer


class Done(NamedTuple):
    """All of a video is answered."""


class Stopped(NamedTuple):
    """What ends the whole run: a wrong setting, or a defect with its traceback."""

    error: Exception


Message = Ready | Told | Done | Logged | Stopped


class WorkerLostError(Exception):
    """A worker has ended, or nothing can be expected of it; the message says which, to follow "worker N"."""
