"""The pool's side of worker processes on this machine."""

from __future__ import annotations

import math
import select
import selectors
from collections.abc import Collection, Sequence
from contextlib import suppress
from typing import Any

from evalkit.child_process import SpawnedProcess, how_it_ended, signals_blocked
from evalkit.engine.executor import forking
from evalkit.engine.executor.messages import EngineFactory, Message, Task, WorkerLostError
from evalkit.engine.executor.pool import Starter, Worker
from evalkit.engine.executor.worker import levels, serve
from evalkit.errors import ConfigError


class ProcessWorker(Worker):
    """One process with a pipe."""

    def __init__(self, number: int, factory: EngineFactory, *, forked: bool = False) -> None:
        """`forked`: see `forking`."""
        super().__init__(number)
        self._process = SpawnedProcess(serve, levels(), name=f"worker {number}", forked=forked)
        self._readable = select.poll()  # `pipe.poll` makes one each time, which takes longer than to read an answer
        self._readable.register(self._process.pipe, select.POLLIN)
        with signals_blocked():
            self._process.start()
        try:
            self._send(factory)
        except ConfigError:
            self.end(0.0)
            raise

    @property
    def waits_for(self) -> list[Any]:
        """What can be read when there is a message, or when the process has ended."""
        return [self._process.pipe, self._process.sentinel]

    def send(self, task: Task) -> None:
        """As Worker."""
        self._send(task)

    def _send(self, value: object) -> None:
        try:
            with suppress(OSError):  # it has ended, or takes nothing: that is seen where its messages are read
                self._process.pipe.send(value)
        except Exception as error:  # pickle raises many kinds
            raise ConfigError(
                f"what a worker process is to run cannot be sent to it ({error}): put classes and functions into a "
                "module, or answer in one process (executor.workers=1, workers=1)"
            ) from error

    def receive(self) -> Message:
        """As Worker; what a process sent before its end comes first."""
        pipe = self._process.pipe
        try:
            if self._readable.poll(0):
                message: Message = pipe.recv()
                return message
        except BlockingIOError as error:
            raise WorkerLostError("fell silent in the middle of a message") from error
        except (EOFError, OSError) as error:
            raise WorkerLostError from error
        except Exception as error:  # what cannot be unpickled raises many kinds
            raise WorkerLostError(f"sent what cannot be read ({error})") from error
        raise WorkerLostError

    def dismiss(self) -> None:
        """As Worker."""
        self._process.pipe.close()

    def end(self, seconds: float) -> str:
        """As Worker."""
        return f"ended with {how_it_ended(self._process.stop(seconds))}"


class Processes(Starter[ProcessWorker]):
    """Starts processes, each of which builds an engine by one of the factories."""

    remedy = (
        "(stderr may say why; SIGKILL often means that memory ran out): give fewer, executor.workers=1. A script that "
        "calls evalkit.evaluate with workers=N must do so below `if __name__ == '__main__':`"
    )

    def __init__(self, factories: Sequence[EngineFactory], *, forked: bool = False) -> None:
        """One for each worker. `forked`: where none of them has a GPU, see `forking`."""
        self._factories, self._forked = factories, forked
        self._selector, self._watched = selectors.DefaultSelector(), list[ProcessWorker]()
        if forked:
            forking.start()

    def start(self, number: int) -> ProcessWorker:
        """As Starter."""
        return ProcessWorker(number, self._factories[number], forked=self._forked)

    def wait(self, workers: Sequence[ProcessWorker], seconds: float) -> Collection[ProcessWorker]:
        """As Starter."""
        if self._watched != list(workers):
            self._watch(workers)
        heard = self._selector.select(None if seconds == math.inf else seconds)
        return {key.data for key, _ in heard}

    def _watch(self, workers: Sequence[ProcessWorker]) -> None:
        """These from now on: to say so again at each answer would take longer than the answer."""
        self._selector.close()
        self._selector, self._watched = selectors.DefaultSelector(), list(workers)
        for worker in workers:
            for thing in worker.waits_for:
                self._selector.register(thing, selectors.EVENT_READ, worker)
