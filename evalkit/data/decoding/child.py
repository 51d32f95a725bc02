"""The process that decodes: it opens files and sends their frames, as its parent asks, until the pipe ends.

It imports PyAV and numpy; torch only where frames are resized, whose arithmetic is torch's.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections import deque
from contextlib import closing, suppress
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, NamedTuple

from evalkit.data import video as video_file
from evalkit.data.video import Picture
from evalkit.errors import ConfigError, VideoError
from evalkit.types import FramePlan, Video

if TYPE_CHECKING:
    from collections.abc import Sequence
    from multiprocessing.connection import Connection


class Probe(NamedTuple):
    """Asks what is known of a file."""

    path: Path


class Decode(NamedTuple):
    """Asks for frames."""

    video: Video
    plans: tuple[FramePlan, ...]
    reader: str


class Probed(NamedTuple):
    """What is known of it."""

    video: Video


class Finished(NamedTuple):
    """All frames have come."""

    seconds: float  # that decoding took, without waiting for the parent


class Failed(NamedTuple):
    """A file or a setting is at fault."""

    error: Exception


class Logged(NamedTuple):
    """A log record."""

    name: str
    level: int
    text: str


Request = Probe | Decode
Message = Probed | Picture | Finished | Failed | Logged


class Outbox(logging.Handler):
    """Messages and log records on their way to the parent, sent by a thread of its own.

    At most `limit` bytes of frames wait in it, or one frame.
    """

    def __init__(self, pipe: Connection, limit: int) -> None:
        super().__init__()
        self._pipe, self._limit, self._bytes = pipe, limit, 0
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
        self.put(Logged(record.name, record.levelno, self.format(record)))

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
                self._pipe.send(message)
            except OSError:
                os._exit(0)  # the parent has ended
            with self._changed:
                self._waiting.popleft()
                self._bytes -= size
                self._changed.notify_all()


def serve(pipe: Connection, limit: int) -> None:
    """The life of the process; at most `limit` bytes of frames wait for the parent to take them."""
    outbox, inbox = Outbox(pipe, limit), SimpleQueue[Request]()
    logging.getLogger().addHandler(outbox)
    threading.Thread(target=_receive, args=(pipe, inbox), daemon=True).start()
    while True:
        try:
            _answer(inbox.get(), outbox)
        except Exception as error:  # noqa: BLE001 – whatever a decoder raises is this file's fault
            outbox.put(Failed(_plain(error)))
        outbox.drain()  # so that a crash of the next video loses nothing of this one


def _receive(pipe: Connection, inbox: SimpleQueue[Request]) -> None:
    """At any time, so that the parent never waits to ask. When the pipe ends the process does, in a decoder, too."""
    with suppress(EOFError, OSError):
        while True:
            inbox.put(pipe.recv())
    os._exit(0)


def _answer(request: Request, outbox: Outbox) -> None:
    if isinstance(request, Probe):
        outbox.put(Probed(video_file.probe(request.path)))
        return
    _prepare_resizing(request.video, request.plans)
    spent = 0.0
    with closing(video_file.pictures(*request)) as pictures:
        while True:
            start = time.perf_counter()
            picture = next(pictures, None)
            spent += time.perf_counter() - start
            if picture is None:
                break
            outbox.put(picture, sum(pixels.nbytes for pixels in picture.pixels.values()))
    outbox.put(Finished(spent))


def _prepare_resizing(video: Video, plans: Sequence[FramePlan]) -> None:
    if "torch" not in sys.modules and any((plan.height, plan.width) != (video.height, video.width) for plan in plans):
        import torch

        torch.set_num_threads(1)  # the cores are the model's and the decoder's


def _plain(error: Exception) -> Exception:
    """An exception that can be sent whatever its class holds."""
    for kind in (ConfigError, VideoError):
        if isinstance(error, kind):
            return kind(str(error))
    return VideoError(f"{type(error).__name__}: {error}")
