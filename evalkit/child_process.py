"""A process that answers messages, each within a deadline: what may hang or crash is done there and can be killed."""

from __future__ import annotations

import ctypes
import fcntl
import logging
import multiprocessing
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import weakref
from contextlib import contextmanager, suppress
from multiprocessing import connection, resource_tracker
from typing import TYPE_CHECKING, Any, NamedTuple

from evalkit.errors import EvalkitError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from multiprocessing.connection import Connection
    from multiprocessing.context import BaseContext
    from multiprocessing.process import BaseProcess

    Answer = Callable[[Any], object]  # of one message; a function of a module or a plain object, for it is sent

START_SECONDS = 300.0  # a process has imported its libraries by then, even on a busy machine
SILENCE_SECONDS = 60.0  # in the middle of a message
KILL_SECONDS = 5.0  # until a killed process is gone; one that waits for a broken disk is left behind

PR_SET_PDEATHSIG = 1  # of linux/prctl.h
TERMINAL = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}  # signals that a whole group of processes gets


@contextmanager
def signals_blocked() -> Iterator[None]:
    """Processes that are started in this block never get SIGINT, SIGTERM and SIGHUP; this one gets them at its end."""
    resource_tracker.ensure_running()  # which would lift the block when the first process is started
    before = signal.pthread_sigmask(signal.SIG_BLOCK, TERMINAL)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end_with_parent() -> None:
    """In a process of multiprocessing: it ends as soon as the one that asked for it does, however that ended."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        if sys.platform == "linux":
            _kill_at_end_of(parent.sentinel)
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _kill_at_end_of(sentinel: int) -> None:
    """The system kills this process when the pipe is closed at its other end, by which even a stopped one ends.

    A forked process needs this: its parent in the system's eyes is the one that it was forked from.
    """
    fcntl.fcntl(sentinel, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(sentinel, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(sentinel, fcntl.F_SETFL, fcntl.fcntl(sentinel, fcntl.F_GETFL) | os.O_ASYNC)


def _end_with(sentinel: int) -> None:
    connection.wait([sentinel])
    os._exit(1)


def kill_with_parent() -> None:
    """In a child: the system kills it when the thread that started it ends, by which even a stopped process ends.

    Linux alone can do that; elsewhere a child ends when it reads the end of its pipe.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


class SpawnedProcess:
    """One process with a pipe, from its start to its end. Its parent ends it."""

    def __init__(
        self, target: Callable[..., None], *args: object, name: str | None = None, forked: bool = False
    ) -> None:
        """`target`, a function of a module, is run with its end of the pipe and `args`.

        `forked`: from the process of `multiprocessing.forkserver`. A fork of this one would inherit CUDA and the locks
        of other threads.
        """
        context: BaseContext = multiprocessing.get_context("forkserver" if forked else "spawn")
        self.pipe, self._other = context.Pipe()
        _limit_silence(self.pipe)
        self._process: BaseProcess = context.Process(  # type: ignore[attr-defined]  # of both contexts
            target=target, args=(self._other, *args), daemon=True, name=name
        )

    def start(self) -> None:
        """Start it. OSError where the system has no process to give."""
        self._process.start()
        self._other.close()  # or the end of the process would not end the pipe

    @property
    def sentinel(self) -> int:
        """What `multiprocessing.connection.wait` takes to wait for its end."""
        return self._process.sentinel

    def is_alive(self) -> bool:
        """Whether it runs."""
        return self._process.is_alive()

    @property
    def exitcode(self) -> int | None:
        """None while it runs, and before it is started."""
        return self._process.exitcode

    def kill(self) -> None:
        """End it at once, if it has been started."""
        if self._process.pid is not None:
            self._process.kill()

    def stop(self, seconds: float = KILL_SECONDS) -> int | None:
        """Let it end by itself within `seconds`, else kill it; its exit code, where it has one."""
        self.pipe.close()  # one that is idle ends by this
        if self._process.pid is None:
            return None
        self._process.join(seconds)
        self._process.kill()
        self._process.join(KILL_SECONDS)
        return self._process.exitcode


class LightProcess:
    """One process with a pipe that imports a single module, not the main module of its parent as spawned ones do.

    It starts in a fraction of a second whatever its parent has imported, and needs no `if __name__ == "__main__":`. Its
    function must end it as soon as the pipe ends, by which it ends with its parent, too.
    """

    def __init__(self, target: str, *args: int, files: Sequence[int] = ()) -> None:
        """`target`: "module:function", called with the pipe and `args`. OSError where no process can be started.

        `files`: descriptors that are open in it, too.
        """
        self.pipe, other = multiprocessing.Pipe()
        _limit_silence(self.pipe)
        module, function = target.split(":")
        code = (
            f"import sys; sys.path[:] = {sys.path!r}\n"
            "from evalkit.child_process import kill_with_parent\nkill_with_parent()\n"
            f"from multiprocessing.connection import Connection\nfrom {module} import {function}\n"
            f"{function}(Connection({other.fileno()}), *{args!r})"
        )
        with other:
            self._process = subprocess.Popen(
                [sys.executable, "-c", code],
                pass_fds=[other.fileno(), *files],
                stdin=subprocess.DEVNULL,
                stdout=2,  # what a library prints is no result
                start_new_session=True,  # Ctrl-C is the parent's to handle
            )
        self._end = weakref.finalize(self, _end, self.pipe, self._process)

    @property
    def pid(self) -> int:
        """The system's number of it."""
        return self._process.pid

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()

    def stop(self) -> int | None:
        """Let it end by itself, else kill it; its exit code, where it has one: below 0 for a signal."""
        self._end()
        return self._process.returncode


def _end(pipe: Connection, process: subprocess.Popen[bytes]) -> None:
    pipe.close()
    for _ in range(2):
        with suppress(subprocess.TimeoutExpired):
            process.wait(KILL_SECONDS)
            return
        process.kill()


def _limit_silence(pipe: Connection) -> None:
    """A message that breaks off, or is not taken, is an OSError after SILENCE_SECONDS: its process is stopped."""
    limit = struct.pack("ll", int(SILENCE_SECONDS), int(SILENCE_SECONDS % 1 * 1e6))
    with socket.socket(fileno=os.dup(pipe.fileno())) as same:
        same.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
        same.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)


def how_it_ended(code: int | None) -> str:
    """An exit code for messages: the name of the signal that ended the process, where one did."""
    return signal.Signals(-code).name if code and -code in set(signal.Signals) else f"exit code {code}"


class Logged(NamedTuple):
    """A log record on its way to the parent."""

    name: str
    level: int
    text: str

    @classmethod
    def of(cls, record: logging.LogRecord, handler: logging.Handler) -> Logged:
        """A record as `handler` formats it."""
        return cls(record.name, record.levelno, handler.format(record))

    def log(self) -> None:
        """Log it here, where this process logs such records."""
        logging.getLogger(self.name).log(self.level, "%s", self.text)


class ChildProcess(SpawnedProcess):
    """A process that answers messages; SIGINT and logging are off in it."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(_serve, answer)

    def wait(self) -> None:
        """Until it is ready for messages. EvalkitError where it does not get there."""
        with suppress(EOFError, OSError):
            if self.pipe.poll(START_SECONDS):
                self.pipe.recv()
                return
        raise EvalkitError(f"no process could be started (exit code {self.stop()}); see stderr for why")

    def ask(self, message: object, seconds: float) -> Any:
        """The answer to a message. TimeoutError after `seconds`; EOFError or OSError where the process has ended."""
        self.pipe.send(message)
        if not self.pipe.poll(seconds):
            raise TimeoutError(f"nothing heard for {seconds:g} s")
        return self.pipe.recv()


def _serve(pipe: Connection, answer: Answer) -> None:
    """The life of the process: a word when it is ready, and an answer to every message until the pipe ends."""
    end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.disable(logging.CRITICAL)  # what matters is sent
    pipe.send("ready")
    with suppress(EOFError):
        while True:
            pipe.send(answer(pipe.recv()))
