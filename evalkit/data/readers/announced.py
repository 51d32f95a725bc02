"""What a file announces of itself, held against what it has: one that was cut off passes for a short video else.

Only a file whose header promises more than its packets have is looked at more closely, so whole ones cost nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

import av

from evalkit.data.readers.timeline import opened
from evalkit.data.shortfall import SHARE, is_short

if TYPE_CHECKING:
    from pathlib import Path

    from evalkit.data.readers.timeline import Timeline

SEGMENT = 0x18538067  # the element of a Matroska or WebM file that holds all others
EBML = 0x1A45DFA3  # the one before it


def shortfall(file: Timeline) -> str:
    """What is missing of the announced video, in words; "" for a whole one.

    A header that promises too much makes no file short: one is whole whose frames are all there by its own table, in
    which another stream is as long as announced, or whose outermost element ends where the file does.
    """
    header, found = file.header, file.duration
    announced = header.stream_seconds or header.seconds
    if not header.stream_seconds:  # a container's duration may count from 0 on, whenever the first frame is shown
        found = max(found, file.end)
    if not is_short(float(found), announced) or _is_whole(file, announced):
        return ""
    if header.frames > header.packets:
        return f"{header.frames:,} frames announced, {header.packets:,} are there"
    return f"{announced:,.1f} s announced, {float(found):,.1f} s are there"


def _is_whole(file: Timeline, announced: float) -> bool:
    header = file.header
    if header.frames and header.packets >= (1 - SHARE) * header.frames:
        return True
    if not header.stream_seconds and not is_short(_longest(file.path), announced):
        return True
    return _ends_as_announced(file.path)


def _longest(path: Path) -> float:
    """Seconds at which the last packet of any stream ends."""
    ends = [0.0]
    with opened(path) as (container, _):
        try:
            for packet in container.demux():
                if packet.size and packet.pts is not None:
                    ends.append(float((packet.pts + (packet.duration or 0)) * packet.time_base))
        except av.FFmpegError:
            pass  # it breaks off there
    return max(ends)


def _ends_as_announced(path: Path) -> bool:
    """Whether a Matroska, WebM or AVI file has all bytes that its outermost elements announce; False for others."""
    size = path.stat().st_size
    with path.open("rb") as file:
        kind = file.read(4)
        file.seek(0)
        if kind == b"RIFF":
            return _end_of_riff(file, size) <= size
        if kind == EBML.to_bytes(4):
            return _end_of_matroska(file) <= size
    return False


def _end_of_riff(file: BinaryIO, size: int) -> int:
    """Where the last of an AVI file's outermost chunks ends; there are several above a gigabyte."""
    end = 0
    while end + 8 <= size:
        file.seek(end)
        head = file.read(8)
        end += 8 + int.from_bytes(head[4:], "little")
        end += end % 2
    return end


def _end_of_matroska(file: BinaryIO) -> float:
    """Where the segment ends; infinity where the file does not say, or begins with something else."""
    for expected in (EBML, SEGMENT):
        if _element_number(file, keep_marker=True) != expected:
            return float("inf")
        size = _element_number(file)
        if size is None:
            return float("inf")
        if expected == SEGMENT:
            return file.tell() + size
        file.seek(size, 1)
    raise AssertionError


def _element_number(file: BinaryIO, *, keep_marker: bool = False) -> int | None:
    """A number of variable length, as EBML writes them; None where all its bits are set, which says "unknown"."""
    first = file.read(1)
    if not first or not first[0]:
        return None
    length = 9 - first[0].bit_length()
    value = int.from_bytes(first + file.read(length - 1))
    if keep_marker:
        return value
    bits = value - (1 << 7 * length)
    return None if bits == (1 << 7 * length) - 1 else bits
