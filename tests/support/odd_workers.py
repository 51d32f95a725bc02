"""What a worker process does instead of its work, which no pool and no decoder's parent understands, and its waking."""

from __future__ import annotations

import os
import signal
import struct
from multiprocessing.connection import Connection

HALF = struct.pack("!i", 100) + b"half"  # of a message of 100 bytes
NO_PICKLE = struct.pack("!i", 4) + b"text"


def other_object(pipe: Connection, *_: object) -> None:
    """An object of another kind, at once."""
    pipe.send(("an answer", 1))
    signal.pause()


def no_pickle(pipe: Connection, *_: object) -> None:
    """Bytes that are no object."""
    _written(pipe, NO_PICKLE)


def half(pipe: Connection, *_: object) -> None:
    """The start of a message, of which no more comes."""
    _written(pipe, HALF)


def _written(pipe: Connection, data: bytes) -> None:
    with open(pipe.fileno(), "wb", closefd=False, buffering=0) as raw:
        raw.write(data)
    signal.pause()


def continued(process: int) -> None:
    """Continue a child process as soon as it has stopped."""
    os.waitid(os.P_PID, process, os.WSTOPPED)
    os.kill(process, signal.SIGCONT)
