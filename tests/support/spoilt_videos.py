"""Videos that are cut off, or have other bytes inside."""

from __future__ import annotations

from typing import TYPE_CHECKING

import av

from tests.support import clips
from tests.support.odd_videos import straight, vp9

if TYPE_CHECKING:
    from pathlib import Path

SHORT = [(".mp4", 0.5), (".mp4", 0.3), (".mkv", 0.6), (".webm", 0.6), (".avi", 0.6), (".flv", 0.6)]


def cut(path: Path, share: float) -> Path:
    """A file of sixty frames with `share` of the bytes of its pictures."""
    made = vp9(path) if path.suffix == ".webm" else straight(path)
    data = made.read_bytes()
    start = max(data.find(b"mdat"), data.find(b"movi"), 0)  # of the pictures, where the head is long
    path.write_bytes(data[: start + int((len(data) - start) * share)])
    return path


def gap_of_zeros(whole: Path, path: Path) -> Path:
    """As a download that left a gap has them."""
    return clips.zeroed(whole, path, 0.6, 0.7)


def substituted(whole: Path, path: Path) -> Path:
    """Key frame 60 has the bytes of key frame 20, as far as they go."""
    with av.open(str(whole)) as container:
        keys = [packet for packet in container.demux(video=0) if packet.size and packet.is_keyframe]
    data = bytearray(whole.read_bytes())
    (start, size), (to, room) = ((keys[place].pos, keys[place].size) for place in (1, 3))
    data[to : to + min(size, room)] = data[start : start + min(size, room)]
    path.write_bytes(bytes(data))
    return path
