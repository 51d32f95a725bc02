"""The parent's side of worker processes: it hands out videos, takes answers in, and replaces processes that died."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from multiprocessing import connection
from typing import TYPE_CHECKING, Any

from evalkit.child_process import Logged, SpawnedProcess, how_it_ended, signals_blocked
from evalkit.engine import records
from evalkit.engine.encoded_video import Pending
from evalkit.engine.executor.base import Given
from evalkit.engine.executor.worker import Asked, Done, EngineFactory, Message, Ready, Stopped, Told, serve
from evalkit.errors import ConfigError, EvalkitError

if TYPE_CHECKING:
    from types import TracebackType

    from evalkit.types import Question

log = logging.getLogger(__name__)

TRIES = 2  # processes that may die of one video
END_SECONDS = 5.0  # for a process to end by itself, once its pipe is closed
LOGGERS = ("", "evalkit")  # whose levels hold in the workers, too


class Assignment:
    """One video on its way through the workers: what of it is not answered yet."""

    def __init__(self, place: int, pending: Pending) -> None:
        self.place, self.deaths = place, 0
        self._points = list(pending)
        self._left = [{question.id: question for question in questions} for questions in pending.values()]

    @property
    def asked(self) -> list[Asked]:
        """What a worker is to do, without what came before an earlier one died."""
        pairs = enumerate(zip(self._points, self._left, strict=True))
        return [Asked(n, point, list(left.values())) for n, (point, left) in pairs if left]

    @property
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
        """An answer that came."""
        del self._left[told.point][told.answer.question_id]
        return Given(self.place, self._points[told.point], told.answer)

    def failed(self, reason: str) -> Iterator[Given]:
        """Every question that is left, as a row that says why."""
        for asked in self.asked:
            for question in asked.questions:
                yield Given(self.place, asked.of, records.failed(asked.of, question, reason))


class Worker:
    """One process, from its start to its end."""

    def __init__(self, number: int, factory: EngineFactory) -> None:
        self.number, self.factory = number, factory
        self.ready = False
        self.assignment: Assignment | None = None
        levels = {name: logging.getLogger(name).getEffectiveLevel() for name in LOGGERS}
        self._process = SpawnedProcess(serve, levels, name=f"worker {number}")
        self.pipe = self._process.pipe
        with signals_blocked():
            self._process.start()
        try:
            self._send(factory)
        except ConfigError:
            self.end()
            raise

    @property
    def waits_for(self) -> list[Any]:
        """What `multiprocessing.connection.wait` takes: a message, or the end of the process."""
        return [self.pipe, self._process.sentinel]

    def give(self, assignment: Assignment) -> None:
        """Hand a video to an idle process."""
        self.assignment = assignment
        self._send(assignment.asked)

    def _send(self, value: object) -> None:
        try:
            with suppress(OSError):  # it died: that is seen where its messages are read
                self.pipe.send(value)
        except Exception as error:  # pickle raises many kinds
            raise ConfigError(
                f"what a worker process is to run cannot be sent to it ({error}): put classes and functions into a "
                "module, or answer in one process (executor.workers=1, workers=1)"
            ) from error

    def receive(self) -> Message | None:
        """The next message, which must be waiting; None where the process has ended."""
        try:
            return self.pipe.recv() if self.pipe.poll() else None  # what it sent before its end comes first
        except Exception as error:  # noqa: BLE001 – the end of the pipe, or half a message
            if not isinstance(error, EOFError | OSError):
                log.warning("worker %d sent what cannot be read: %s", self.number, error)
            return None

    def end(self, seconds: float = 0.0) -> str:
        """End the process, which has `seconds` to do so by itself; how it ended."""
        return how_it_ended(self._process.stop(seconds))


class Pool:
    """Worker processes for the length of a `with` block. A video is handed out only when a worker is idle."""

    def __init__(self, factories: Sequence[EngineFactory]) -> None:
        """One factory for each worker."""
        self._factories = factories
        self._workers: list[Worker] = []
        self._todo: deque[Assignment] = deque()

    def __enter__(self) -> Pool:
        try:
            for number, factory in enumerate(self._factories):
                self._workers.append(Worker(number, factory))
        except BaseException:
            self._end(0.0)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._end(END_SECONDS if kind is None else 0.0)

    def _end(self, seconds: float) -> None:
        for worker in self._workers:
            worker.pipe.close()  # by which idle ones end, all at the same time
        for worker in self._workers:
            worker.end(seconds if worker.assignment is None else 0.0)
        self._workers.clear()

    def answers(self, videos: Sequence[Pending]) -> Iterator[Given]:
        """The answers to all questions of `videos`, as they come; returns when the first worker is ready.

        The largest file is begun first.
        """
        assignments = [Assignment(place, pending) for place, pending in enumerate(videos)]
        self._todo.extend(sorted(assignments, key=lambda one: (-one.size, one.place)))
        while self._todo and not any(worker.ready for worker in self._workers):
            for _ in self._received():
                pass  # no answer comes before one is ready
        return self._answers()

    def _answers(self) -> Iterator[Given]:
        while True:
            for worker in self._workers:
                if worker.ready and worker.assignment is None and self._todo:
                    worker.give(self._todo.popleft())
            if not self._todo and not any(worker.assignment for worker in self._workers):
                return
            yield from self._received()

    def _received(self) -> Iterator[Given]:
        """Wait for messages, take one of each worker that has any."""
        found = set(connection.wait([thing for worker in self._workers for thing in worker.waits_for]))
        for worker in [worker for worker in self._workers if found.intersection(worker.waits_for)]:
            yield from self._take(worker, worker.receive())

    def _take(self, worker: Worker, message: Message | None) -> Iterator[Given]:
        match message:
            case Told() if worker.assignment is not None:
                yield worker.assignment.given(message)
            case Ready():
                worker.ready = True
            case Done():
                worker.assignment = None
            case Logged():
                message.log()
            case Stopped():
                raise message.error
            case _:
                yield from self._died(worker)

    def _died(self, worker: Worker) -> Iterator[Given]:
        """Its video goes first to the next process; once too many have died of it, what is left is recorded."""
        ended, lost = worker.end(END_SECONDS), worker.assignment  # else a kill could hide its exit code
        self._workers.remove(worker)
        if lost is not None and lost.asked:
            lost.deaths += 1
            if lost.deaths < TRIES:
                log.warning("%s: worker %d ended with %s; the video is tried again", lost.video, worker.number, ended)
                self._todo.appendleft(lost)
            else:
                reason = f"the worker process ended with {ended}, as did one before it on this video"
                log.warning("%s: %s; its questions are recorded as failed", lost.video, reason)
                yield from lost.failed(reason)
        if not worker.ready:  # another one would hardly get further
            log.warning("worker %d ended with %s before it was ready; the others go on", worker.number, ended)
        elif self._todo:
            self._workers.append(Worker(worker.number, worker.factory))
        if self._todo and not self._workers:
            raise EvalkitError(
                f"no worker process could be started, the last ended with {ended} (stderr may say why; SIGKILL often "
                "means that memory ran out): give fewer, executor.workers=1. A script that calls evalkit.evaluate with "
                "workers=N must do so below `if __name__ == '__main__':`"
            )
