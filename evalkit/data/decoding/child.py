"""The process that decodes: it opens files and sends their frames, as its parent asks, until the pipe ends.

It imports PyAV and numpy; torch only where large frames are resized, whose arithmetic is torch's.
"""

from __future__ import annotations

import ctypes
import logging
import os
import threading
import time
from collections import deque
from contextlib import closing, suppress
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, NamedTuple

from evalkit.child_process import Logged
from evalkit.data import video as video_file
from evalkit.data.decoding.array_pipe import ArraySender, Taken
from evalkit.data.readers import threads
from evalkit.data.video import RawFrame, SizedFrame
from evalkit.errors import ConfigError, VideoError
from evalkit.types import FramePlan, Video

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from multiprocessing.connection import Connection


SMALL = 1_000_000  # bytes of a frame: with torch a process takes seconds to start and 200 MB more
MESSAGE = 1_000_000  # bytes of frames that are sent at once: small ones cost more to hand over than to copy
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # source: malloc.h of glibc
KEPT = 64 << 20  # bytes of freed memory that are kept at least, as much as glibc would by itself in the end
LARGEST = 32 << 20  # bytes that M_MMAP_THRESHOLD may be; source: malloc.c of glibc, 64 bits


class Probe(NamedTuple):
    """Asks what is known of a file."""

    path: Path


class Decode(NamedTuple):
    """Asks for frames."""

    video: Video
    plans: tuple[FramePlan, ...]
    reader: str

    @property
    def resizes(self) -> bool:
        """Whether frames are resized here: large ones are, small ones by the parent, so that no torch is loaded."""
        return _is_large(self.video)


def _is_large(video: Video) -> bool:
    return video.height * video.width * 3 > SMALL


class Probed(NamedTuple):
    """What is known of it."""

    video: Video


class Decoded(NamedTuple):
    """Frames that were asked for, as many as make up MESSAGE, or one that is larger."""

    frames: list[RawFrame | SizedFrame]  # all of one kind; raw ones are resized by the parent


class Finished(NamedTuple):
    """All frames have come."""

    seconds: float  # that decoding took, without waiting for the parent


class Failed(NamedTuple):
    """A file or a setting is at fault."""

    error: Exception


Request = Probe | Decode
Message = Probed | Decoded | Finished | Failed | Logged


class Outbox(logging.Handler):
    """Messages and log records on their way to the parent, sent by a thread of its own.

    At most `limit` bytes of frames wait in it, or one message.
    """

    def __init__(self, sender: ArraySender, limit: int) -> None:
        super().__init__()
        self._sender, self._limit, self._bytes = sender, limit, 0
        self._waiting: deque[tuple[Message, int]] = deque()
        self._changed = threading.Condition()
        threading.Thread(target=self._send_all, daemon=True).start()

    def put(self, message: Message, size: int = 0) -> None:
        """Waits for room where the message holds `size` bytes of frames."""
        with self._changed:
            self._changed.wait_for(lambda: not size or not self._bytes or self._bytes + size <= self._limit)
            self._waiting.append((message, size))
            self._bytes += size
            self._changed.notify_all()

    def emit(self, record: logging.LogRecord) -> None:
        """A log record, as a message."""
        self.put(Logged.of(record, self))

    def drain(self) -> None:
        """Wait until everything is sent: what is in the pipe outlives this process."""
        with self._changed:
            self._changed.wait_for(lambda: not self._waiting)

    def _send_all(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting)
                message, size = self._waiting[0]
            try:
                self._sender.send(message)
            except OSError:
                os._exit(0)  # the parent has ended
            with self._changed:
                self._waiting.popleft()
                self._bytes -= size
                self._changed.notify_all()


def serve(pipe: Connection, limit: int, decoders: int, ring: int) -> None:
    """The life of the process; at most `limit` bytes of frames wait for the parent to take them.

    A video is decoded on at most `decoders` threads; 0: on one a core. `ring`: of `array_pipe.ring_file`.
    """
    threads.limit(decoders)
    keep_freed_memory(max(limit, KEPT))
    sender, inbox = ArraySender(pipe, ring), SimpleQueue[Request]()
    outbox = Outbox(sender, limit)
    logging.getLogger().addHandler(outbox)
    threading.Thread(target=_receive, args=(pipe, inbox, sender), daemon=True).start()
    while True:
        try:
            _answer(inbox.get(), outbox)
        except Exception as error:  # noqa: BLE001 – whatever a decoder raises is this file's fault
            outbox.put(Failed(_plain(error)))
        outbox.drain()  # so that a crash of the next video loses nothing of this one


def keep_freed_memory(size: int) -> None:
    """Keep up to so many bytes that are freed for the frames to come, where the C library can.

    Given back to the system and taken anew for each video they cost a page fault every 4 kB: a tenth of decoding.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # glibc's
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, LARGEST)
        mallopt(M_TRIM_THRESHOLD, min(size, 2**31 - 1))


def _receive(pipe: Connection, inbox: SimpleQueue[Request], sender: ArraySender) -> None:
    """At any time, so that the parent never waits to ask. When the pipe ends the process does, in a decoder, too."""
    with suppress(EOFError, OSError):
        while True:
            request = pipe.recv()
            if isinstance(request, Taken):
                sender.taken()
            else:
                inbox.put(request)
    os._exit(0)


def _answer(request: Request, outbox: Outbox) -> None:
    if isinstance(request, Probe):
        video = video_file.probe(request.path)
        outbox.put(Probed(video))
        if _is_large(video):
            _use_one_thread()  # torch is there when frames are asked for
        return
    frames: Generator[RawFrame | SizedFrame]
    if request.resizes:
        _use_one_thread()
        frames = video_file.sized_frames(*request)
    else:
        frames = video_file.raw_frames(*request)
    spent = 0.0
    with closing(frames):
        while True:
            start = time.perf_counter()
            some, size = _next_message(frames)
            spent += time.perf_counter() - start
            if not some:
                break
            outbox.put(Decoded(some), size)
    outbox.put(Finished(spent))


def _next_message(frames: Iterator[RawFrame | SizedFrame]) -> tuple[list[RawFrame | SizedFrame], int]:
    """Frames for one message and the bytes of their pixels; none where all have come."""
    some: list[RawFrame | SizedFrame] = []
    size = 0
    while size < MESSAGE and (frame := next(frames, None)) is not None:
        some.append(frame)
        size += _size(frame)
    return some, size


def _size(frame: RawFrame | SizedFrame) -> int:
    """Bytes of pixels."""
    return frame.rgb.nbytes if isinstance(frame, RawFrame) else sum(rgb.nbytes for rgb in frame.pixels.values())


def _use_one_thread() -> None:
    """For resizing: the other cores are the model's and the decoder's."""
    import torch

    torch.set_num_threads(1)


def _plain(error: Exception) -> Exception:
    """An exception that can be sent whatever its class holds."""
    for kind in (ConfigError, VideoError):
        if isinstance(error, kind):
            return kind(str(error))
    return VideoError(f"{type(error).__name__}: {error}")
