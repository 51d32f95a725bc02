"""Checks of files in processes that can be killed: a decoder that hangs or crashes costs one file, not the command."""

from __future__ import annotations

import logging
import multiprocessing
import signal
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from queue import SimpleQueue
from typing import TYPE_CHECKING

from evalkit.errors import EvalkitError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from multiprocessing.connection import Connection
    from pathlib import Path

    Check = Callable[[Path], None]  # raises what is wrong with a file; a function of a module, for it is sent by name

START_SECONDS = 300.0  # a process has imported its libraries by then, even on a busy machine


class Worker:
    """One process that checks files one after the other, started when it is needed and again after its end."""

    def __init__(self, check: Check) -> None:
        self._check = check
        self._process: multiprocessing.process.BaseProcess | None = None
        self._pipe: Connection | None = None
        self._dismissed = False

    def ask(self, path: Path, seconds: float) -> str:
        """What is wrong with a file, "" for nothing. The process is killed where it takes longer than `seconds`.

        EvalkitError where no process can be started.
        """
        pipe = self._pipe or self._start()
        try:
            pipe.send(path)
            if pipe.poll(seconds):
                return str(pipe.recv())
        except (EOFError, OSError):
            return f"the process that decoded it ended with exit code {self.stop()}"
        self._kill()
        self.stop()
        return f"not decoded within {seconds:g} s"

    def dismiss(self) -> None:
        """Kill the process, now or as soon as it is started; a thread that waits for its answer goes on at once."""
        self._dismissed = True
        self._kill()

    def _kill(self) -> None:
        if self._process is not None and self._process.pid is not None:
            self._process.kill()

    def stop(self) -> int | None:
        """Let go of the process, ended or not; its exit code, where it has one."""
        process, pipe, self._process, self._pipe = self._process, self._pipe, None, None
        if process is None or pipe is None:
            return None
        pipe.close()  # one that is idle ends by this
        process.join(5)  # one that has crashed is gone at once and leaves its own exit code
        process.kill()
        process.join(5)  # one that waits for a broken disk cannot even be killed: it is left behind
        return process.exitcode

    def _start(self) -> Connection:
        context = multiprocessing.get_context("spawn")  # a fork would inherit the locks of other threads
        pipe, other = context.Pipe()
        self._process = context.Process(target=_serve, args=(other, self._check), daemon=True)
        self._process.start()
        if self._dismissed:
            self._process.kill()
        other.close()  # or the end of the process would not end the pipe
        self._pipe = pipe
        with suppress(EOFError, OSError):
            if pipe.poll(START_SECONDS):
                pipe.recv()
                return pipe
        raise EvalkitError(
            f"no process could be started to decode videos (exit code {self.stop()}); see stderr for why"
        )


def ask_all(check: Check, paths: Sequence[Path], *, workers: int, seconds: float) -> Iterator[tuple[Path, str]]:
    """(file, what is wrong with it) for every file, in the order in which `workers` processes find out."""
    idle: SimpleQueue[Worker] = SimpleQueue()
    hired = [Worker(check) for _ in range(min(workers, len(paths)))]
    for worker in hired:
        idle.put(worker)

    def ask(path: Path) -> tuple[Path, str]:
        worker = idle.get()
        try:
            return path, worker.ask(path, seconds)
        finally:
            idle.put(worker)

    with ThreadPoolExecutor(max(1, len(hired))) as threads:
        try:
            for answer in as_completed([threads.submit(ask, path) for path in paths]):
                yield answer.result()
        finally:
            threads.shutdown(wait=False, cancel_futures=True)
            for worker in hired:
                worker.dismiss()
            threads.shutdown(wait=True)
            for worker in hired:
                worker.stop()


def _serve(pipe: Connection, check: Check) -> None:
    """A process's life: a file in, its fault out, until the pipe ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the command stops its processes itself
    logging.disable(logging.CRITICAL)  # what matters is sent
    pipe.send("ready")
    while True:
        try:
            path = pipe.recv()
        except EOFError:
            return
        try:
            check(path)
        except Exception as error:  # noqa: BLE001 – whatever a decoder raises is this file's fault
            pipe.send(str(error) if isinstance(error, EvalkitError) else f"{type(error).__name__}: {error}")
        else:
            pipe.send("")
