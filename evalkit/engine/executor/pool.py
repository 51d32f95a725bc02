"""A pool hands out videos to its workers, takes answers in, and replaces workers that were lost.

What a worker is – a process of this machine, an actor of a Ray cluster – is its Starter's to know.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Generic, TypeVar

from evalkit.child_process import START_SECONDS, Logged
from evalkit.engine.encoded_video import Pending
from evalkit.engine.executor.assignment import Assignment
from evalkit.engine.executor.base import Given
from evalkit.engine.executor.messages import Done, Message, Ready, Stopped, Task, Told, WorkerLostError
from evalkit.errors import EvalkitError

if TYPE_CHECKING:
    from types import TracebackType

log = logging.getLogger(__name__)

END_SECONDS = 5.0  # for a worker to end by itself, once it is dismissed
DEADLINE = 3600.0  # seconds without an answer


class Worker(ABC):
    """One worker as its pool sees it, from its start to its end."""

    def __init__(self, number: int) -> None:
        self.number, self.ready = number, False
        self.assignment: Assignment | None = None
        self.following: Assignment | None = None  # which it may decode ahead; another worker may still take it
        self.since = time.monotonic()  # when it was started, was given its video, or gave its last answer

    def give(self, assignment: Assignment, following: Assignment | None) -> None:
        """Hand a video to an idle worker, and tell which one will probably be next."""
        asked = None if assignment is self.following else assignment.asked
        self.assignment, self.following, self.since = assignment, following, time.monotonic()
        self.send(Task(asked, None if following is None else following.asked))

    def patience(self, deadline: float) -> float:
        """Seconds since `since` after which it is given up."""
        if not self.ready:
            return max(deadline, START_SECONDS)
        return math.inf if self.assignment is None else deadline

    @abstractmethod
    def send(self, task: Task) -> None:
        """Send a task. ConfigError where it cannot be sent; that the worker has ended is seen by `receive`."""

    @abstractmethod
    def receive(self) -> Message:
        """The next message of a worker that `Starter.wait` found. WorkerLostError where none can come any more."""

    @abstractmethod
    def dismiss(self) -> None:
        """Let an idle one end by itself, without waiting for it."""

    @abstractmethod
    def end(self, seconds: float) -> str:
        """End it, which has `seconds` to do so by itself; how it ended, to follow "worker N"."""


W = TypeVar("W", bound=Worker)


class Starter(ABC, Generic[W]):
    """Starts workers of one kind, and waits for them."""

    remedy: str  # what to do where none gets ready

    @abstractmethod
    def start(self, number: int) -> W:
        """Start one. ConfigError where it cannot be told what to run."""

    @abstractmethod
    def wait(self, workers: Sequence[W], seconds: float) -> Collection[W]:
        """Those of `workers` that have a message, or have ended; none of them where `seconds` have passed before."""


class Pool(Generic[W]):
    """Workers for the length of a `with` block. Each has one video, and at most one more to decode ahead."""

    def __init__(
        self,
        starter: Starter[W],
        workers: int,
        deadline: float = DEADLINE,
        meanwhile: Callable[[], object] | None = None,
    ) -> None:
        """`deadline`: seconds without an answer after which a worker is ended; START_SECONDS at least for its start.

        `meanwhile`: called once in a thread, when a worker is ready, as this process only waits from then on.
        """
        self._starter, self._count, self._deadline, self._meanwhile = starter, workers, deadline, meanwhile
        self._workers: list[W] = []
        self._todo: deque[Assignment] = deque()

    def __enter__(self) -> Pool[W]:
        try:
            for number in range(self._count):
                self._workers.append(self._starter.start(number))
        except BaseException:
            self._end(0.0)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._end(END_SECONDS if kind is None else 0.0)

    def _end(self, seconds: float) -> None:
        for worker in self._workers:
            worker.dismiss()  # by which idle ones end, all at the same time
        for worker in self._workers:
            worker.end(seconds if worker.assignment is None else 0.0)
        self._workers.clear()

    def answers(self, videos: Sequence[Pending]) -> Iterator[Given]:
        """The answers to all questions of `videos`, as they come; returns when the first worker is ready.

        What has most questions is begun first, and of as many the largest file, so that the last videos are short ones
        and no worker waits long for another. Before all of them comes the one that is shortest by this, for answers to
        be seen soon.
        """
        assignments = [Assignment(place, pending) for place, pending in enumerate(videos)]
        self._todo.extend(sorted(assignments, key=lambda one: (-one.answers, -one.size, one.place)))
        shortest = next((one for one in reversed(self._todo) if one.size), None)
        if shortest is not None:
            self._todo.remove(shortest)
            self._todo.appendleft(shortest)
        while self._todo and not any(worker.ready for worker in self._workers):
            for _ in self._received():
                pass  # no answer comes before one is ready
        if self._meanwhile is not None:
            threading.Thread(target=self._meanwhile).start()  # no daemon: an import that is cut off may end in a crash
        return self._answers()

    def _answers(self) -> Iterator[Given]:
        while True:
            self._hand_out()
            if not any(worker.assignment for worker in self._workers) and not self._todo:
                return
            yield from self._received()

    # ---- handing out

    def _hand_out(self) -> None:
        """A video for each idle worker, and then what may follow."""
        idle = [worker for worker in self._workers if worker.ready and worker.assignment is None]
        chosen = [(worker, video) for worker in idle if (video := self._video_for(worker)) is not None]
        for worker, video in chosen:
            worker.give(video, self._todo.popleft() if self._todo else None)

    def _video_for(self, worker: W) -> Assignment | None:
        """The one that it was told, else the next, else one that a busy worker was told: nobody idles before the end.

        A video that is taken from a worker may be decoded twice; its answers are given once.
        """
        if worker.following is not None:
            return worker.following
        if self._todo:
            return self._todo.popleft()
        other = next((one for one in self._workers if one.assignment and one.following), None)
        if other is None:
            return None
        video, other.following = other.following, None
        return video

    # ---- taking in

    def _received(self) -> Iterator[Given]:
        until = min(map(self._until, self._workers), default=math.inf)
        heard = self._starter.wait(self._workers, max(0.0, until - time.monotonic()))
        for worker in [worker for worker in self._workers if worker in heard]:
            yield from self._take(worker)
        now = time.monotonic()
        overdue = [worker for worker in self._workers if worker not in heard and self._until(worker) <= now]
        speaks = self._starter.wait(overdue, 0.0) if overdue else ()  # it may be the caller that was slow
        for worker in [worker for worker in overdue if worker not in speaks]:
            missed = "gave no answer" if worker.ready else "was not ready"
            patience = worker.patience(self._deadline)
            yield from self._lost(worker, f"{missed} for {patience:g} s (executor.deadline)")

    def _until(self, worker: W) -> float:
        """When it is given up."""
        return worker.since + worker.patience(self._deadline)

    def _take(self, worker: W) -> Iterator[Given]:
        try:
            given = self._understood(worker, worker.receive())
        except WorkerLostError as lost:
            yield from self._lost(worker, str(lost))
        else:
            if given is not None:
                yield given

    def _understood(self, worker: Worker, message: Message) -> Given | None:
        """The answer that a message holds. WorkerLostError for one that makes no sense."""
        match message:
            case Told() if worker.assignment is not None:
                given = worker.assignment.given(message)
                worker.since = time.monotonic()
                return given
            case Done() if worker.assignment is not None:
                worker.assignment.done()
                worker.assignment = None
            case Ready():
                worker.ready = True
            case Logged():
                message.log()
            case Stopped():
                raise message.error
            case _:
                raise WorkerLostError("sent what is no message")
        return None

    # ---- losses

    def _lost(self, worker: W, why: str) -> Iterator[Given]:
        """Its video goes first to the next worker; once too many were lost on it, what is left is recorded."""
        how = worker.end(0.0 if why else END_SECONDS)  # else a kill could hide its exit code
        how = f"{why} and was killed" if why else how
        self._workers.remove(worker)
        if worker.following is not None:
            self._todo.appendleft(worker.following)
        if worker.assignment is not None and worker.assignment.asked:
            yield from self._tried_again(worker.assignment, f"worker {worker.number} {how}", how)
        if not worker.ready:  # another one would hardly get further
            log.warning("worker %d %s before it was ready; the others go on", worker.number, how)
        elif self._todo:
            self._workers.append(self._starter.start(worker.number))
        if self._todo and not self._workers:
            raise EvalkitError(f"no worker could be started, the last {how} {self._starter.remedy}")

    def _tried_again(self, video: Assignment, said: str, how: str) -> Iterator[Given]:
        if video.lost(how):
            log.warning("%s: %s; the video is tried again", video.video, said)
            self._todo.appendleft(video)
        else:
            log.warning("%s: %s, the second one lost on it; its questions are recorded as failed", video.video, said)
            yield from video.failed()
