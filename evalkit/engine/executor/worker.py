"""A worker process: it loads its engine once and answers one video after the other, as its parent hands them out."""

from __future__ import annotations

import logging
import threading
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from evalkit.child_process import Logged, end_with_parent
from evalkit.errors import ConfigError, EvalkitError

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from evalkit.method import OperatingPoint
    from evalkit.types import Answer, Question

    Levels = Mapping[str, int]  # logger -> level


class Answers(Protocol):
    """What a worker needs of an engine."""

    def answers(
        self, pending: Mapping[OperatingPoint, Sequence[Question]], /
    ) -> Iterator[tuple[OperatingPoint, Answer]]:
        """Answers to the questions of one video; ConfigError for what concerns the whole run."""
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


class _Sender(logging.Handler):
    """Sends messages, and log records as such, from any thread."""

    def __init__(self, pipe: Connection) -> None:
        super().__init__()
        self._pipe, self._one = pipe, threading.Lock()

    def send(self, message: Message) -> None:
        """One at a time."""
        with self._one:
            self._pipe.send(message)

    def emit(self, record: logging.LogRecord) -> None:
        """A record as the parent's log is to have it."""
        self.send(Logged.of(record, self))


def serve(pipe: Connection, levels: Levels) -> None:
    """The life of the process: an engine factory comes, then videos, until the pipe ends.

    The parent has blocked the terminal's signals in it, as the run lies in its hands; the process ends with it.
    """
    end_with_parent()
    sender = _Sender(pipe)
    logging.getLogger().addHandler(sender)
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    with suppress(EOFError, OSError):  # the parent has closed its end, or has ended
        try:
            _answer_all(pipe, sender)
        except EOFError:
            raise
        except Exception as error:  # noqa: BLE001 – it is the parent's to raise
            sender.send(Stopped(_plain(error)))


def _answer_all(pipe: Connection, sender: _Sender) -> None:
    engine: Answers = _received(pipe)()
    sender.send(Ready())
    while True:
        asked: list[Asked] = _received(pipe)
        places = {one.of: one.point for one in asked}
        for point, answer in engine.answers({one.of: one.questions for one in asked}):
            sender.send(Told(places[point], answer))
        sender.send(Done())


def _received(pipe: Connection) -> Any:
    try:
        return pipe.recv()
    except (AttributeError, ImportError) as error:
        raise ConfigError(
            f"a worker process cannot import what it is to run ({error}): put the class into a module that can be "
            "imported by name, or answer in one process (executor.workers=1, workers=1)"
        ) from error


def _plain(error: Exception) -> Exception:
    """An exception that can be sent whatever its class holds, its traceback in words where it is a defect."""
    if isinstance(error, EvalkitError):
        return (ConfigError if isinstance(error, ConfigError) else EvalkitError)(str(error))
    return RuntimeError(f"in a worker process: {traceback.format_exc()}")
