"""Messages with large arrays from one process to another.

The memory of arrays goes through a ring that both processes map, in which the sender finds room as the receiver gives
it back: a copy, where a pipe takes ten times as long. The ring is a file without a name, since shared memory that has
one is too small in many containers. Where the system has no such files, and for what does not fit in the ring, that
memory goes through the pipe.
"""

from __future__ import annotations

import mmap
import os
import pickle
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

RING = 16 << 20  # bytes; few enough to stay in a processor's cache
NONE = -1  # in place of a ring's file


class Taken(NamedTuple):
    """The receiver tells the sender over their pipe: the oldest arrays in the ring are not needed any more."""


@contextmanager
def ring_file() -> Iterator[int]:
    """The descriptor of a ring that a sender and a receiver map within the block; NONE where the system has none."""
    try:
        file = os.memfd_create("evalkit-arrays")
    except (AttributeError, OSError):  # another system, or one that does not let this process
        yield NONE
        return
    try:
        os.ftruncate(file, RING)
        yield file
    finally:
        os.close(file)


def _mapped(file: int) -> mmap.mmap | None:
    return None if file == NONE else mmap.mmap(file, RING)


class ArraySender:
    """One thread sends; another may tell of what was taken."""

    def __init__(self, pipe: Connection, file: int) -> None:
        """`file`: of `ring_file`; `pipe`: to a receiver that maps the same."""
        self._pipe, self._ring = pipe, _mapped(file)
        self._held: deque[tuple[int, int]] = deque()  # start and end of what is in the ring, oldest first
        self._changed = threading.Condition()

    def send(self, message: object) -> None:
        """Send it, as soon as there is room for its arrays. OSError as `pipe.send`."""
        arrays: list[pickle.PickleBuffer] = []
        head = pickle.dumps(message, protocol=5, buffer_callback=arrays.append)
        memory = [array.raw() for array in arrays]
        sizes = [one.nbytes for one in memory]
        start = self._reserved(sum(sizes))
        if start is not None:
            self._write(memory, start)
        self._pipe.send((head, sizes, start))
        if start is None:
            for one in memory:
                self._pipe.send_bytes(one)

    def taken(self) -> None:
        """The oldest message in the ring makes room."""
        with self._changed:
            self._held.popleft()
            self._changed.notify_all()

    def _reserved(self, size: int) -> int | None:
        """Where in the ring `size` bytes go, which may have to be waited for; None: they do not go there."""
        if self._ring is None or not 0 < size <= RING:
            return None
        with self._changed:
            self._changed.wait_for(lambda: self._room(size) is not None)
            start = self._room(size)
            assert start is not None
            self._held.append((start, start + size))
        return start

    def _room(self, size: int) -> int | None:
        """Behind the newest, else at the beginning, and never over what is held."""
        if not self._held:
            return 0
        oldest, newest = self._held[0][0], self._held[-1][1]
        if newest <= oldest:  # it has begun again before the oldest
            return newest if newest + size <= oldest else None
        if newest + size <= RING:
            return newest
        return 0 if size <= oldest else None

    def _write(self, memory: list[memoryview], start: int) -> None:
        assert self._ring is not None
        for one in memory:
            self._ring[start : start + one.nbytes] = one
            start += one.nbytes


class ArrayReceiver:
    """The other end of an ArraySender."""

    def __init__(self, pipe: Connection, file: int) -> None:
        self._pipe, self._ring = pipe, _mapped(file)
        self._whole = np.frombuffer(b"" if self._ring is None else self._ring, np.uint8)
        self._holds = False

    def poll(self, seconds: float) -> bool:
        """Whether a message comes within `seconds`. Arrays of the last one hold no longer, which may make room for it.

        OSError as `pipe.poll`.
        """
        if self._holds:
            self._holds = False
            with suppress(OSError):  # the sender has ended: what it sent before comes first
                self._pipe.send(Taken())
        return self._pipe.poll(seconds)

    def receive(self) -> object:
        """The message that `poll` found. Its arrays hold until the next `poll`: `kept` makes others of them.

        Raises as `pipe.recv` and `pickle.loads`, and ValueError for what no sender sends.
        """
        head, sizes, start = self._pipe.recv()
        if start is None:
            return pickle.loads(head, buffers=self._through_the_pipe(sizes))  # noqa: S301 – of a process of ours
        self._holds = True
        return pickle.loads(head, buffers=self._in_the_ring(sizes, start))  # noqa: S301 – likewise

    def kept(self, array: np.ndarray) -> np.ndarray:
        """The same array, or a copy where its memory is the ring's."""
        return array.copy() if np.may_share_memory(array, self._whole) else array

    def _through_the_pipe(self, sizes: list[int]) -> list[bytearray]:
        arrays = [bytearray(size) for size in sizes]
        for array in arrays:
            self._pipe.recv_bytes_into(array)
        return arrays

    def _in_the_ring(self, sizes: list[int], start: int) -> Iterator[np.ndarray]:
        for size in sizes:
            yield self._whole[start : start + size]
            start += size
