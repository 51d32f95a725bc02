"""Checks of files in processes that can be killed: a decoder that hangs or crashes costs one file, not the command."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from queue import SimpleQueue
from typing import TYPE_CHECKING

from evalkit.child_process import ChildProcess
from evalkit.errors import EvalkitError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    Check = Callable[[Path], None]  # raises what is wrong with a file; a function of a module, for it is sent by name


@dataclass(frozen=True)
class _Fault:
    """What the process does: checks a file, and says what is wrong with it."""

    check: Check

    def __call__(self, path: Path) -> str:
        try:
            self.check(path)
        except Exception as error:  # noqa: BLE001 – whatever a decoder raises is this file's fault
            return str(error) if isinstance(error, EvalkitError) else f"{type(error).__name__}: {error}"
        return ""


class Worker:
    """One process that checks files one after the other, started when it is needed and again after its end."""

    def __init__(self, check: Check) -> None:
        self._check = check
        self._process: ChildProcess | None = None
        self._dismissed = False

    def ask(self, path: Path, seconds: float) -> str:
        """What is wrong with a file, "" for nothing. The process is killed where it takes longer than `seconds`.

        EvalkitError where no process can be started.
        """
        process = self._process or self._start()
        try:
            return str(process.ask(path, seconds))
        except TimeoutError:
            process.kill()
            self.stop()
            return f"not decoded within {seconds:g} s"
        except (EOFError, OSError):
            return f"the process that decoded it ended with exit code {self.stop()}"

    def dismiss(self) -> None:
        """Kill the process, now or as soon as it is started; a thread that waits for its answer goes on at once."""
        self._dismissed = True
        if self._process is not None:
            self._process.kill()

    def stop(self) -> int | None:
        """Let go of the process, ended or not; its exit code, where it has one."""
        process, self._process = self._process, None
        return None if process is None else process.stop()

    def _start(self) -> ChildProcess:
        self._process = process = ChildProcess(_Fault(self._check))
        process.start()
        if self._dismissed:
            process.kill()
        process.wait()
        return process


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
