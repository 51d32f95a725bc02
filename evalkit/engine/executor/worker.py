"""What a worker does: it loads its engine once and answers one video after the other, as its pool hands them out."""

from __future__ import annotations

import gc
import logging
import threading
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from evalkit.child_process import Logged, end_with_parent
from evalkit.engine.executor.messages import Done, Ready, Stopped, Told
from evalkit.errors import ConfigError, EvalkitError

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from evalkit.engine.executor.messages import Answers, Asked, Message, Task

    Levels = Mapping[str, int]  # logger -> level

LOGGERS = ("", "evalkit")  # whose levels hold in the workers, too


def levels() -> Levels:
    """Those of this process."""
    return {name: logging.getLogger(name).getEffectiveLevel() for name in LOGGERS}


def take_log(handler: logging.Handler, levels: Levels) -> None:
    """In a worker: all records go to `handler`, at the levels of the pool's process."""
    logging.getLogger().addHandler(handler)
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


def begin_loading() -> None:
    """In a worker, before it is told of its engine. Libraries make half a million objects, which stay: looking for
    garbage among them time and again takes seconds.
    """
    gc.disable()


def loaded() -> None:
    """The engine is there: from now on garbage is looked for among what comes after it."""
    gc.freeze()
    gc.enable()


class Answerer:
    """An engine that is given tasks. It keeps what it was told will follow, by which the engine knows it again."""

    def __init__(self, engine: Answers) -> None:
        self._engine = engine
        self._following: _Video | None = None

    def messages(self, task: Task) -> Iterator[Told | Done]:
        """The answers to a task's video, as they come."""
        video = self._following if task.asked is None else _Video(task.asked)
        assert video is not None, "the task before named nothing to follow"
        self._following = following = None if task.following is None else _Video(task.following)
        for point, answer in self._engine.answers(video.pending, None if following is None else following.pending):
            yield Told(video.places[point], answer)
        yield Done()


class _Video:
    """Questions as an engine takes them, and the places by which answers name operating points."""

    def __init__(self, asked: Sequence[Asked]) -> None:
        self.pending = {one.of: one.questions for one in asked}
        self.places = {one.of: one.point for one in asked}


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
    """The life of a process: an engine factory comes, then tasks, until the pipe ends.

    The parent has blocked the terminal's signals in it, as the run lies in its hands; the process ends with it.
    """
    end_with_parent()
    begin_loading()
    sender = _Sender(pipe)
    take_log(sender, levels)
    with suppress(EOFError, OSError):  # the parent has closed its end, or has ended
        try:
            _answer_all(pipe, sender)
        except EOFError:
            raise
        except Exception as error:  # noqa: BLE001 – it is the parent's to raise
            sender.send(Stopped(plain(error)))


def _answer_all(pipe: Connection, sender: _Sender) -> None:
    answerer = Answerer(_received(pipe)())
    loaded()
    sender.send(Ready())
    while True:
        for message in answerer.messages(_received(pipe)):
            sender.send(message)


def _received(pipe: Connection) -> Any:
    try:
        return pipe.recv()
    except (AttributeError, ImportError) as error:
        raise ConfigError(
            f"a worker process cannot import what it is to run ({error}): put the class into a module that can be "
            "imported by name, or answer in one process (executor.workers=1, workers=1)"
        ) from error


def plain(error: Exception) -> Exception:
    """An exception that can be sent whatever its class holds, its traceback in words where it is a defect."""
    if isinstance(error, EvalkitError):
        return (ConfigError if isinstance(error, ConfigError) else EvalkitError)(str(error))
    return RuntimeError(f"in a worker process: {traceback.format_exc()}")
