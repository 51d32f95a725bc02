"""Decoding in a child process: a decoder that crashes or hangs costs its video, and never the run.

The parent asks for one video after the other and takes the frames as they come. The child decodes on while the parent
does something else, until as many bytes of frames wait as are allowed; so it is never more than that ahead, beside what
is on its way (evalkit/data/decoding/array_pipe.py).
"""

from __future__ import annotations

import logging
import time
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from evalkit.child_process import LightProcess, Logged, how_it_ended
from evalkit.data.decoding.array_pipe import NONE, ArrayReceiver, ring_file
from evalkit.data.decoding.child import Decode, Decoded, Failed, Finished, Probe, Probed
from evalkit.data.decoding.source import FrameSource, FrameStream
from evalkit.data.video import RawFrame, SizedFrame, sized, wanted_sizes
from evalkit.errors import DecoderKilledError, EvalkitError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np

    from evalkit.data.decoding.child import Message, Request
    from evalkit.data.decoding.source import Now
    from evalkit.types import FramePlan, Video

log = logging.getLogger(__name__)

CHILD = "evalkit.data.decoding.child:serve"
TRIES = 2  # processes that may end at one video
BASE_SECONDS = 120.0  # of a deadline that is not set: as `data verify` has it
SCANNED_BYTES = 10e6  # a second, on a slow disk
NOT_AGAIN = "it is not tried again until the file ({state}) or decode.deadline ({deadline}) changes"


class _EndedError(Exception):
    """The child process has ended; the message says how."""


class DecodeInChild(FrameSource):
    """A child process decodes; it is started when it is needed, and again after its end."""

    def __init__(
        self, *, limit: int = 0, threads: int = 0, deadline: float | None = None, tolerate_short: bool = False
    ) -> None:
        """`limit`: bytes of frames that may wait to be taken; 0: one message of them, and no video is begun ahead.

        `threads`: that decode a video at most; 0: one a core.
        `deadline`: seconds that its user waits for one video; None: BASE_SECONDS and the video's duration.
        `tolerate_short`: as FrameSource.
        """
        self.ahead, self.deadline, self.tolerate_short = limit > 0, deadline, tolerate_short
        self.threads, self._limit = threads, limit
        self._process: LightProcess | None = None
        self._arrays: ArrayReceiver | None = None  # of the process, or of the last one
        self._announced: Path | None = None
        self._unread: FrameStream | None = None

    def start(self) -> None:
        """Start the process, so that it is there when the first video is asked for. EvalkitError where none starts."""
        if self._process is None:
            try:
                with ring_file() as ring:
                    files = () if ring == NONE else (ring,)
                    self._process = LightProcess(CHILD, self._limit, self.threads, ring, files=files)
                    self._arrays = ArrayReceiver(self._process.pipe, ring)
            except OSError as error:
                raise EvalkitError(f"no process for decoding could be started: {error}") from error

    @property
    def process_id(self) -> int:
        """Of the process, which is started if it does not run."""
        self.start()
        assert self._process is not None
        return self._process.pid

    def close(self) -> None:
        """As FrameSource."""
        if self._process is not None:
            self._process.kill()
            self._ended()

    def announce(self, path: Path) -> None:
        """As FrameSource: it is probed as soon as everything before it has been taken."""
        self.ask(Probe(path))
        self._announced = path

    def probed(self, path: Path) -> Video:
        """As FrameSource. DecoderKilledError where the process ended twice, or did not answer."""
        if self._unread is not None or self._announced not in (None, path):
            self.close()
        wait = _Wait(path, _scan_seconds(path) if self.deadline is None else self.deadline)
        while True:
            if self._announced is None:
                self.ask(Probe(path))
            self._announced = None
            try:
                probed: Probed = self.receive(wait, Probed)
                return probed.video
            except _EndedError as ended:
                wait.died(ended, self.deadline)

    def frames(
        self, video: Video, plans: Sequence[FramePlan], reader: str, now: Now = time.perf_counter
    ) -> FrameStream:
        """As FrameSource. DecoderKilledError likewise; `now` is not asked, as it may wait for a GPU."""
        if self._unread is not None:
            self.close()
        self._unread = _Sent(self, Decode(replace(video, seconds=None), tuple(dict.fromkeys(plans)), reader))
        return self._unread

    # ---- messages

    def ask(self, request: Request) -> None:
        """Send a request. That the process has ended is seen where its answer is read."""
        self.start()
        assert self._process is not None
        try:
            self._process.pipe.send(request)
        except OSError as error:
            log.debug("the process that decodes took no request: %s", error)

    def receive(self, wait: _Wait, *expected: type[Message]) -> Any:
        """The next message, which must be one of `expected`. Raises what the child found wrong, and _EndedError.

        At the deadline the process is killed, and DecoderKilledError raised.
        """
        assert self._process is not None
        assert self._arrays is not None
        while True:
            start = time.monotonic()
            try:
                came = self._arrays.poll(max(0.0, wait.seconds))
                message = self._arrays.receive() if came else None
            except (EOFError, OSError) as error:  # it has ended, or fell silent in the middle of a message
                if not isinstance(error, EOFError):
                    self._process.kill()
                raise _EndedError(self._ended()) from error
            except Exception as error:  # what cannot be unpickled raises many kinds
                raise self._not_understood() from error
            wait.seconds -= time.monotonic() - start
            if not came:
                self.close()
                raise wait.over(self.deadline)
            if isinstance(message, Logged):
                message.log()
            elif isinstance(message, Failed):
                self._unread = None
                raise message.error
            elif isinstance(message, expected):
                return message
            else:
                raise self._not_understood()

    def ask_again(self, stream: FrameStream, request: Request) -> None:
        """Ask a new process for what the last one has not sent."""
        self._unread = stream
        self.ask(request)

    def kept(self, pixels: np.ndarray) -> np.ndarray:
        """Pixels of the last message that hold beyond the next one."""
        return pixels if self._arrays is None else self._arrays.kept(pixels)

    def finished(self) -> None:
        """The frames that were asked for have been taken."""
        self._unread = None

    def _not_understood(self) -> _EndedError:
        """What came is no answer, so that no other can be hoped for: the process is killed."""
        assert self._process is not None
        self._process.kill()
        return _EndedError(f"{self._ended()}, as it had sent what cannot be understood")

    def _ended(self) -> str:
        """Let go of the process, and forget what it was asked; how it ended."""
        assert self._process is not None
        process, self._process, self._announced, self._unread = self._process, None, None, None
        return how_it_ended(process.stop())


class _Wait:
    """What is left of a video's deadline, and how often the process ended at it."""

    def __init__(self, path: Path, seconds: float) -> None:
        self.path, self.seconds, self._given, self._deaths = path, seconds, seconds, 0

    def over(self, deadline: float | None) -> DecoderKilledError:
        """The deadline has passed."""
        text = f"{self.path}: not decoded within {self._given:.4g} s, at which its process was killed"
        return DecoderKilledError(f"{text}; {not_again(self.path, deadline)}")

    def died(self, ended: _EndedError, deadline: float | None) -> None:
        """The process has ended, and is started again; DecoderKilledError where that was the second time."""
        self._deaths += 1
        text = f"{self.path}: the process that decodes it ended with {ended}"
        if self._deaths < TRIES:
            log.warning("%s; it is tried again", text)
            return
        final = "" if str(ended) == "SIGKILL" else f"; {not_again(self.path, deadline)}"  # which may be want of memory
        raise DecoderKilledError(f"{text}, as did one before it{final}")


class _Sent(FrameStream):
    """Frames as they come from the child."""

    def __init__(self, source: DecodeInChild, request: Decode) -> None:
        self._source, self._request = source, request
        self._sizes, self._resizing = wanted_sizes(request.plans), 0.0
        video, given = request.video, source.deadline
        self._wait = _Wait(video.path, BASE_SECONDS + video.duration_s if given is None else given)
        self._came: deque[SizedFrame] = deque()
        self._taken = self._passed = 0  # of this process, and by the caller
        source.ask(request)

    def __next__(self) -> SizedFrame:
        while True:
            if not self._came:
                self._receive()
            frame = self._came.popleft()
            self._taken += 1
            if self._taken > self._passed:  # a second process begins anew
                self._passed += 1
                return frame

    def _receive(self) -> None:
        """The next frames, at least one. Raises StopIteration where all have come."""
        while not self._came:
            try:
                message: Decoded | Finished = self._source.receive(self._wait, Decoded, Finished)
            except _EndedError as ended:
                self._wait.died(ended, self._source.deadline)
                self._taken = 0
                self._source.ask_again(self, self._request)
                continue
            if isinstance(message, Finished):
                self.seconds = message.seconds + self._resizing
                self._source.finished()
                raise StopIteration
            self._came.extend(self._sized(message.frames))

    def _sized(self, frames: Sequence[RawFrame | SizedFrame]) -> list[SizedFrame]:
        """Frames of a message, which are all of one kind, with raw ones resized."""
        start = time.perf_counter()
        resized = sized([frame for frame in frames if isinstance(frame, RawFrame)], self._sizes)
        self._resizing += time.perf_counter() - start
        found = [*resized, *(frame for frame in frames if isinstance(frame, SizedFrame))]
        return [
            frame._replace(pixels={size: self._source.kept(rgb) for size, rgb in frame.pixels.items()})
            for frame in found
        ]


def _scan_seconds(path: Path) -> float:
    try:
        return BASE_SECONDS + path.stat().st_size / SCANNED_BYTES
    except OSError:
        return BASE_SECONDS  # the child will say so


def not_again(path: Path, deadline: float | None) -> str:
    """What the error of a row says that is not tried again; the same as long as nothing changes that could help."""
    try:
        status = path.stat()
        state = f"{status.st_size} bytes, {status.st_mtime_ns} ns"
    except OSError:
        state = "missing"
    text = f"{BASE_SECONDS:g} s and the duration" if deadline is None else f"{deadline:g} s"
    return NOT_AGAIN.format(state=state, deadline=text)
