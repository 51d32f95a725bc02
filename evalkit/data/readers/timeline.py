"""What a file's packets say before anything is decoded: when each frame is shown, and where decoding can begin."""

from __future__ import annotations

import logging
import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import av

from evalkit.errors import VideoError

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

log = logging.getLogger(__name__)

REPLACE = "check the file with any player, fetch it again, or remove its rows"

NO_TIME = -(1 << 63)  # as FFmpeg has it

# The containers that are opened, by FFmpeg's names. Playlists (hls, dash, concat) are not among them, nor what reads
# devices, networks or numbered pictures: they would open files that no annotation names.
CONTAINERS = (
    "mov,mp4,matroska,webm,avi,flv,live_flv,mpegts,mpeg,mpegvideo,m4v,asf,ogg,nut,mxf,gxf,dv,rm,wtv,ivf,obu,h264,hevc,"
    "vvc,av1,gif,yuv4mpegpipe"
)
LISTS = (b"#EXTM3U", b"ffconcat", b"<?xml", b"<MPD")  # what files begin with that name others


@dataclass(frozen=True, kw_only=True)
class Key:
    """A frame at which decoding can begin."""

    ticks: int  # presentation time
    seek: int  # decoding time, by which some containers seek


class Header(NamedTuple):
    """What a file says of its video before its packets are read, and how many there are."""

    stream_seconds: float = 0.0  # 0 where it does not say, as in the others
    seconds: float = 0.0  # of the whole container: of its longest stream, where it has several
    frames: int = 0
    packets: int = 0  # that are there, those that an edit list hides included


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """Every frame of a file in presentation order, in ticks of `time_base` seconds."""

    path: Path
    ticks: tuple[int, ...] = field(repr=False)  # (F,) presentation times, ascending
    keys: tuple[Key, ...] = field(repr=False)  # ascending
    time_base: Fraction
    container: str  # FFmpeg's name for it, e.g. mov,mp4,m4a,3gp,3g2,mj2
    has_leading: bool  # some frame follows a key frame in the file but is shown before it (open GOP)
    last: int  # ticks for which the last frame is shown
    header: Header
    state: tuple[int, int]  # bytes of the file and nanoseconds of its last change

    def __len__(self) -> int:
        return len(self.ticks)

    @property
    def duration(self) -> Fraction:
        """Seconds from the first frame's beginning to the last frame's end."""
        return (self.ticks[-1] - self.ticks[0] + self.last) * self.time_base

    @property
    def end(self) -> Fraction:
        """Seconds from the file's own 0 to the last frame's end."""
        return (self.ticks[-1] + self.last) * self.time_base

    def seconds(self, index: int) -> float:
        """Seconds from the first frame to frame `index`."""
        return float((self.ticks[index] - self.ticks[0]) * self.time_base)

    def all_seconds(self) -> tuple[float, ...]:
        """Seconds from the first frame to every frame, (F,): as `seconds` has them, but fast."""
        first, num, den = self.ticks[0], self.time_base.numerator, self.time_base.denominator
        return tuple((ticks - first) * num / den for ticks in self.ticks)

    def index_at(self, ticks: int) -> int:
        """The frame shown from `ticks` on."""
        return min(bisect_left(self.ticks, ticks), len(self) - 1)

    def key_before(self, ticks: int) -> Key:
        """The last key frame shown at or before `ticks`, or the file's first one."""
        return self.keys[max(0, bisect_right(self.keys, ticks, key=lambda key: key.ticks) - 1)]


@contextmanager
def opened(path: Path) -> Iterator[tuple[Any, Any]]:
    """The file's container and its picture stream; closed at the end, whatever happens. Raises VideoError."""
    _status(path)
    _refuse_list(path)
    try:
        # An absolute name is never taken for a protocol, and a playlist in disguise reaches neither network nor files.
        # (Given as `options`, the same crashes PyAV 15 on FLV.)
        options = {"fflags": "+genpts", "protocol_whitelist": "file", "format_whitelist": CONTAINERS}
        with av.open(str(path.absolute()), container_options=options) as container:
            yield container, _picture_stream(container, path)
    except av.FFmpegError as error:
        raise VideoError(f"{path}: expected a video that FFmpeg can read, got {error.strerror!r}; {REPLACE}") from error


def scan(path: Path) -> Timeline:
    """The timeline of a file, by reading its packets without decoding them. Raises VideoError.

    Headers are not asked: they promise frames that a truncated file no longer has, and mkv and webm have none.
    """
    return _scan(path, state(path))


def state(path: Path) -> tuple[int, int]:
    """Bytes, and nanoseconds of the last change, by which a file is known again. VideoError where there is none."""
    status = _status(path)
    return status.st_size, status.st_mtime_ns


@lru_cache(maxsize=8)  # one video is probed, then decoded once or a few times
def _scan(path: Path, state: tuple[int, int]) -> Timeline:
    with opened(path) as (container, stream):
        count, shown = 0, []
        for packet in packets(container, stream):
            count += packet.size > 0 and not packet.is_corrupt
            if _is_shown(packet):
                shown.append(Entry.of(packet))
        _check(path, container, stream, shown)
        ticks = sorted({entry.pts for entry in shown})
        last = max(entry.duration for entry in shown if entry.pts == ticks[-1])
        return Timeline(
            path=path,
            ticks=tuple(ticks),
            keys=_keys(shown),
            time_base=Fraction(stream.time_base),
            container=container.format.name,
            has_leading=_has_leading(shown),
            last=last or _usual_step(stream, ticks),
            header=_header(container, stream, count),
            state=state,
        )


def _header(container: Any, stream: Any, packets: int) -> Header:
    of_stream = float((stream.duration or 0) * stream.time_base)
    if container.format.name == "avi" and stream.average_rate:  # FFmpeg shortens its duration to the file's size
        of_stream = max(of_stream, float(stream.frames / stream.average_rate))
    return Header(
        stream_seconds=of_stream,
        seconds=(container.duration or 0) / av.time_base,
        frames=stream.frames,
        packets=packets,
    )


class Entry(NamedTuple):
    """What is kept of a packet; the packet itself holds its share of the file in memory."""

    pts: int
    dts: int
    duration: int
    is_key: bool

    @classmethod
    def of(cls, packet: Any) -> Entry:
        """The times of a packet, in ticks; NO_TIME where it has no presentation time."""
        pts = NO_TIME if packet.pts is None else packet.pts
        return cls(pts, pts if packet.dts is None else packet.dts, packet.duration or 0, packet.is_keyframe)


def _status(path: Path) -> os.stat_result:
    try:
        status = path.stat()
    except (OSError, ValueError) as error:
        raise VideoError(f"{path}: expected a video file, got: {error}; {REPLACE}") from error
    if not path.is_file() or not status.st_size:
        found = f"{status.st_size} bytes" if path.is_file() else "something that is no file"
        raise VideoError(f"{path}: expected a video file, got {found}; {REPLACE}")
    return status


def _refuse_list(path: Path) -> None:
    try:
        with path.open("rb") as file:
            start = file.read(16)
    except OSError as error:
        raise VideoError(f"{path}: expected a video file, got: {error}; {REPLACE}") from error
    if start.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(LISTS):
        raise VideoError(f"{path}: expected a video, got a list of other files, which are not opened; {REPLACE}")


def packets(container: Any, stream: Any) -> Iterator[Any]:
    """The stream's packets in file order, an empty one at the end; a file that breaks off ends there."""
    try:
        yield from container.demux(stream)
    except av.FFmpegError as error:
        log.warning("%s: reading ends early: %s", container.name, error.strerror)
        yield av.Packet()


def _is_shown(packet: Any) -> bool:
    """False for the empty one, for what an edit list hides, and for a last packet of which only a part is there."""
    return packet.size > 0 and not (packet.is_discard or packet.is_corrupt)


def _picture_stream(container: Any, path: Path) -> Any:
    stream = container.streams.best("video")
    if stream is None or _is_cover(stream):
        kinds = [
            f"{stream.type} (a cover picture)" if _is_cover(stream) else stream.type for stream in container.streams
        ]
        raise VideoError(
            f"{path}: expected a file with a video stream, got: {', '.join(kinds) or 'no stream'}; {REPLACE}"
        )
    return stream


def _is_cover(stream: Any) -> bool:
    return bool(stream.disposition & av.stream.Disposition.attached_pic)


def _check(path: Path, container: Any, stream: Any, shown: Sequence[Entry]) -> None:
    if not shown:
        raise VideoError(f"{path}: expected at least one frame, got none; {REPLACE}")
    # AVI stores decoding times only; with reordered frames they say nothing about which frame is shown when.
    reordered = container.format.name == "avi" and stream.codec_context.has_b_frames
    if reordered or any(entry.pts == NO_TIME for entry in shown):
        raise VideoError(
            f"{path}: expected a presentation time for every frame, the container ({container.format.name}) has none; "
            "encode the file again into mp4, e.g. ffmpeg -i OLD -c:v libx264 NEW.mp4"
        )


def _keys(shown: Sequence[Entry]) -> tuple[Key, ...]:
    """Places where decoding can begin, ascending; a file that names none is read from its first packet on."""
    named = [entry for entry in shown if entry.is_key] or shown[:1]
    keys = {entry.pts: Key(ticks=entry.pts, seek=entry.dts) for entry in named}
    return tuple(keys[ticks] for ticks in sorted(keys))


def _has_leading(shown: Sequence[Entry]) -> bool:
    latest = shown[0].pts
    for entry in shown:
        if entry.is_key:
            latest = entry.pts
        elif entry.pts < latest:
            return True
    return False


def _usual_step(stream: Any, ticks: Sequence[int]) -> int:
    """How long the last frame is shown where its packet does not say: as long as the average frame before it."""
    if len(ticks) > 1:
        return -(-(ticks[-1] - ticks[0]) // (len(ticks) - 1))
    return math.ceil(1 / (Fraction(stream.average_rate or 25) * Fraction(stream.time_base)))
