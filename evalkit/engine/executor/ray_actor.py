"""Workers that are actors of a Ray cluster: the actor itself, and the pool's side of it.

What goes to an actor are the description of its engine and the questions of a video, what comes back are answers; both
are small enough that Ray sends them with its calls. Videos and weights are read by the actor.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import ray
from ray.exceptions import RayActorError, RayError, RayTaskError

from evalkit.child_process import SILENCE_SECONDS, Logged, kill_with_parent
from evalkit.engine.executor.messages import Message, Ready, Stopped, WorkerLostError
from evalkit.engine.executor.pool import Starter, Worker
from evalkit.engine.executor.worker import Answerer, begin_loading, levels, loaded, plain, take_log
from evalkit.errors import ConfigError

if TYPE_CHECKING:
    from evalkit.engine.executor.messages import EngineFactory, Task
    from evalkit.engine.executor.worker import Levels


class Actor:
    """Runs in the cluster. What it has to say it yields, log records between two messages."""

    def __init__(self, levels: Levels) -> None:
        kill_with_parent()  # Ray's process on this node: one that is stopped would not see that it has ended
        begin_loading()
        self._records = _Records()
        take_log(self._records, levels)

    def load(self, factory: EngineFactory) -> Iterator[Message]:
        """Build the engine."""
        yield from self._spoken(self._loaded(factory))

    def answer(self, task: Task) -> Iterator[Message]:
        """Answer the questions of a video."""
        yield from self._spoken(self._answerer.messages(task))

    def _loaded(self, factory: EngineFactory) -> Iterator[Message]:
        self._answerer = Answerer(factory())
        loaded()
        yield Ready()

    def _spoken(self, messages: Iterator[Message]) -> Iterator[Message]:
        try:
            for message in messages:
                yield from self._records.taken()
                yield message
        except Exception as error:  # noqa: BLE001 – it is the driver's to raise
            yield Stopped(plain(error))


class _Records(logging.Handler):
    """Keeps log records until they are taken."""

    def __init__(self) -> None:
        super().__init__()
        self._waiting: deque[Logged] = deque()

    def emit(self, record: logging.LogRecord) -> None:
        """From any thread."""
        self._waiting.append(Logged.of(record, self))

    def taken(self) -> Iterator[Logged]:
        """Those that wait."""
        while self._waiting:
            yield self._waiting.popleft()


class RayWorker(Worker):
    """One actor."""

    def __init__(self, number: int, factory: EngineFactory, *, cpus: float, gpus: float) -> None:
        super().__init__(number)
        self._actor = ray.remote(Actor).options(num_cpus=cpus, num_gpus=gpus, max_restarts=0).remote(levels())
        self.stream = self._called(self._actor.load, factory)

    def send(self, task: Task) -> None:
        """As Worker."""
        self.stream = self._called(self._actor.answer, task)

    def _called(self, method: Any, argument: object) -> Any:
        try:
            return method.options(num_returns="streaming").remote(argument)
        except RayError:
            raise
        except Exception as error:  # pickle raises many kinds
            raise ConfigError(f"what an actor is to run cannot be sent to it ({error})") from error

    def receive(self) -> Message:
        """As Worker."""
        try:
            message: Message = ray.get(next(self.stream), timeout=SILENCE_SECONDS)
        except (StopIteration, RayActorError) as error:
            raise WorkerLostError from error
        except RayTaskError as error:
            raise WorkerLostError(f"failed ({_first_line(error)})") from error
        except Exception as error:  # what cannot be unpickled raises many kinds
            raise WorkerLostError(f"sent what cannot be read ({_first_line(error)})") from error
        return message

    def dismiss(self) -> None:
        """Nothing: an actor ends when it is told to."""

    def end(self, seconds: float) -> str:
        """As Worker, at once."""
        ray.kill(self._actor)
        return "ended"


class Actors(Starter[RayWorker]):
    """Starts actors that build their engines by the same factory."""

    remedy = "(`ray status` and the logs of Ray's session may say why): give fewer, executor.workers=N"

    def __init__(self, factory: EngineFactory, *, cpus: float, gpus: float) -> None:
        """`cpus`, `gpus`: what each takes of its node."""
        self._factory, self._cpus, self._gpus = factory, cpus, gpus

    def start(self, number: int) -> RayWorker:
        """As Starter."""
        return RayWorker(number, self._factory, cpus=self._cpus, gpus=self._gpus)

    def wait(self, workers: Sequence[RayWorker], seconds: float) -> Collection[RayWorker]:
        """As Starter. That an idle actor has ended is seen when it is given a video."""
        busy = [worker for worker in workers if not worker.ready or worker.assignment is not None]
        streams = [worker.stream for worker in busy]
        ready, _ = ray.wait(streams, num_returns=1, timeout=None if seconds == math.inf else seconds)
        return [worker for worker in busy if any(worker.stream is stream for stream in ready)]


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]
