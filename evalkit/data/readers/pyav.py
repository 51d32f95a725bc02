"""PyAV: the default reader, which also says what a file's frames are when another reader is not sure."""

from __future__ import annotations

import logging
import math
from contextlib import closing
from itertools import chain
from typing import TYPE_CHECKING, Any

import av
import numpy as np

from evalkit.data.readers import threads
from evalkit.data.readers.timeline import Key, Timeline, opened, packets

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Sequence, Set

log = logging.getLogger(__name__)

# codecs whose frames say that no other refers to them; in H.265 one may still be referred to from a higher sub-layer
DISPOSABLE = ("h264",)


def read(timeline: Timeline, wanted: Sequence[int]) -> Generator[tuple[int, np.ndarray]]:
    """(frame number, upright RGB) of the `wanted` frames that decode; seeks where that skips a key frame.

    Of H.264, frames that no other frame refers to are left undecoded where they are not wanted.
    """
    with opened(timeline.path) as (container, stream):
        stream.codec_context.thread_count = threads.count(stream.width * stream.height)
        stream.thread_type = "NONE" if stream.codec_context.thread_count == 1 else "AUTO"
        known = frozenset(timeline.ticks[index] for index in wanted) if stream.codec.name in DISPOSABLE else None
        with closing(Cursor(container, stream, timeline, known)) as cursor:
            for index in wanted:
                cursor.skip_to(timeline.ticks[index])
                frame = cursor.advance(timeline.ticks[index])
                if frame is not None and frame.pts == timeline.ticks[index]:
                    yield index, upright_rgb(frame)


def nearest(timeline: Timeline, wanted: Iterable[int]) -> Generator[tuple[int, int, np.ndarray]]:
    """(frame number, number of the frame that stands in for it, upright RGB), without any seek and on one thread.

    The stand-in is the frame itself, or the last one before it that decodes, or else the first that decodes.
    """
    with opened(timeline.path) as (container, stream):
        stream.thread_type = "NONE"  # which frames around a damage come out must not depend on the number of cores
        with closing(Cursor(container, stream, timeline)) as cursor:
            for index in wanted:
                frame = cursor.advance(timeline.ticks[index]) or cursor.ahead
                if frame is not None:
                    yield index, timeline.index_at(frame.pts), upright_rgb(frame)


def upright_rgb(frame: Any) -> np.ndarray:
    """A decoded frame as (height, width, 3) uint8 RGB, turned as the file asks.

    The stream's own matrix and range are passed on because PyAV otherwise converts every video as BT.601, limited
    range: up to 5 and 17 grey levels off in BT.709 and full-range video, where FFmpeg and the other readers follow it.
    """
    rgb: np.ndarray = frame.to_ndarray(
        format="rgb24", src_colorspace=frame.colorspace, dst_colorspace="default", src_color_range=frame.color_range
    )
    turns = round(frame.rotation / 90) % 4  # counter-clockwise
    return np.ascontiguousarray(np.rot90(rgb, turns)) if turns else rgb


class Cursor:
    """Walks an open file in presentation order, one decoded frame behind and one ahead of the wanted time."""

    def __init__(self, container: Any, stream: Any, timeline: Timeline, wanted: Set[int] | None = None) -> None:
        """`wanted`: times of all frames that will be asked for, where others may be left out; None: they may not."""
        self._wanted = wanted
        self._container, self._stream, self._timeline = container, stream, timeline
        self._fed = timeline.keys[0].ticks  # the last key frame that went into the decoder
        self._frames = self._decoded(packets(container, stream))
        self._behind: Any = None  # last frame shown at or before the wanted time
        self.ahead: Any = None  # first frame after it, already decoded

    def close(self) -> None:
        """Let go of the decoder and its frames at once, without waiting for the garbage collector."""
        self._frames = iter(())  # what makes frames refers back to this
        self._behind = self.ahead = None

    def advance(self, ticks: int) -> Any | None:
        """The last frame that is shown at or before `ticks` and decodes; None where there is none."""
        while self._behind is None or self._behind.pts < ticks:
            self.ahead = self.ahead or next(self._frames, None)
            if self.ahead is None or self.ahead.pts > ticks:
                break
            self._behind, self.ahead = self.ahead, None
        return self._behind

    def skip_to(self, ticks: int) -> None:
        """Seek, where a key frame not yet fed to the decoder precedes `ticks`, unless it comes next in any case."""
        key, last = self._timeline.key_before(ticks), self.ahead or self._behind
        index_at = self._timeline.index_at
        comes_next = last is not None and index_at(key.ticks) == index_at(last.pts) + 1
        if key.ticks > self._fed and not comes_next:
            self._behind = self.ahead = None
            self._frames = self._decoded(self._packets_from(key))

    def _packets_from(self, key: Key) -> Iterator[Any]:
        """Packets from `key` on, or from earlier: containers seek by either time, so where it landed is looked at."""
        for target in (key.ticks, key.seek, self._timeline.keys[0].seek):
            self._container.seek(target, stream=self._stream)
            stream = packets(self._container, self._stream)
            first = next(stream)
            if first.pts is not None and first.pts <= key.ticks:
                break
        return chain([first], stream)

    def _decoded(self, stream: Iterator[Any]) -> Iterator[Any]:
        """Whole frames in presentation order; around a damage decoders also give frames out of order, left out here."""
        shown = -math.inf
        for packet in stream:
            if packet.is_keyframe and packet.size:
                self._fed = packet.pts
            for frame in self._decode(packet):
                if frame.interlaced_frame:
                    self._decode_all()
                if not frame.is_corrupt and frame.pts is not None and frame.pts > shown:
                    shown = frame.pts
                    yield frame

    def _decode_all(self) -> None:
        """From now on: a picture of two fields may be two packets, of which the second is not known to be wanted."""
        self._wanted, self._stream.codec_context.skip_frame = None, "DEFAULT"

    def _decode(self, packet: Any) -> list[Any]:
        if self._wanted is not None:
            self._stream.codec_context.skip_frame = "DEFAULT" if packet.pts in self._wanted else "NONREF"
        try:
            frames: list[Any] = self._stream.codec_context.decode(packet if packet.size else None)
        except av.FFmpegError as error:
            log.debug("%s: a packet does not decode: %s", self._timeline.path, error.strerror)
            return []
        return frames
