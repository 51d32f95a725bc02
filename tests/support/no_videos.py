"""Files that are no video, or no readable one, each with what is said of it."""

from __future__ import annotations

import os
import socket
import zipfile
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from tests.support import clips
from tests.support.clips import make, picture
from tests.support.odd_videos import FAST

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.odd_videos import Made


def _holds(data: bytes) -> Made:
    def made(path: Path) -> Path:
        path.write_bytes(data)
        return path

    return made


def _zipped(path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.mp4", bytes(100))
    return path


def _still(path: Path, kind: str) -> Path:
    Image.fromarray(picture(5, 48, 64)).save(path, kind)
    return path


def _pipe(path: Path) -> Path:
    os.mkfifo(path)
    return path


def _socket(path: Path) -> Path:
    with socket.socket(socket.AF_UNIX) as end:
        end.bind(os.path.relpath(path))  # a socket's name has 107 bytes at most
    return path


def _link(path: Path, target: str) -> Path:
    path.symlink_to(target)
    return path


def _folder(path: Path) -> Path:
    path.mkdir()
    return path


def _fast(path: Path) -> tuple[bytes, int]:
    """An mp4 with its index in front, and where its pictures begin."""
    data = make(path, frames=60, muxer=FAST).read_bytes()
    return data, data.index(b"mdat") + 4


def _index_alone(path: Path) -> Path:
    data, start = _fast(path)
    path.write_bytes(data[:start])
    return path


def _nothing_decodes(path: Path) -> Path:
    data, start = _fast(path)
    path.write_bytes(data[:start] + bytes(len(data) - start))
    return path


def _no_index(path: Path) -> Path:
    data = make(path, frames=60).read_bytes()
    path.write_bytes(data[: data.index(b"moov") - 4])
    return path


def _playlist(path: Path, text: str) -> Path:
    make(path.with_name("real.ts"), frames=20)
    path.write_text(text)
    return path


HLS = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nreal.ts\n#EXT-X-ENDLIST\n"
CONCAT = "ffconcat version 1.0\nfile real.ts\n"
DASH = '<?xml version="1.0"?><MPD><Period><BaseURL>real.ts</BaseURL></Period></MPD>'
SDP = b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n"
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 123\n"

UNREADABLE = "expected a video that FFmpeg can read"
A_LIST = "got a list of other files, which are not opened"
NO_FILE = "got something that is no file"
NO_TIMES = "expected a presentation time for every frame"

LISTS: dict[str, Made] = {
    "hls": partial(_playlist, text=HLS),
    "hls behind a byte order mark": partial(_playlist, text="\ufeff" + HLS),
    "concat": partial(_playlist, text=CONCAT),
    "dash": partial(_playlist, text=DASH),
}
REFUSED: dict[str, tuple[str, Made, str]] = {  # suffix, how it is made, the reason
    **{name: (".mp4", made, A_LIST) for name, made in LISTS.items()},
    "hls by its own name": (".m3u8", LISTS["hls"], A_LIST),
    "a playlist of addresses": (".m3u8", _holds(b"http://localhost/v.mp4\n"), UNREADABLE),
    "a description of a stream": (".sdp", _holds(SDP), UNREADABLE),
    "an old playlist": (".asx", _holds(b"[playlist]\nFile1=http://localhost/v.mp4\n"), UNREADABLE),
    "a page": (".mp4", _holds(b"<!DOCTYPE html><html><body>404</body></html>"), UNREADABLE),
    "a pointer to a large file": (".mp4", _holds(LFS), UNREADABLE),
    "subtitles": (".mp4", _holds(b"1\n00:00:00,000 --> 00:00:01,000\nHello\n"), UNREADABLE),
    "noise": (".mp4", _holds(np.random.default_rng(0).bytes(100_000)), UNREADABLE),
    "zeros": (".mp4", _holds(bytes(100_000)), UNREADABLE),
    "nothing": (".mp4", _holds(b""), "got 0 bytes"),
    "an archive": (".mp4", _zipped, UNREADABLE),
    "a png": (".mp4", partial(_still, kind="PNG"), UNREADABLE),
    "a jpeg": (".mp4", partial(_still, kind="JPEG"), UNREADABLE),
    "a pipe": (".mp4", _pipe, NO_FILE),
    "a socket": (".mp4", _socket, NO_FILE),
    "a device": (".mp4", partial(_link, target="/dev/zero"), NO_FILE),
    "a folder": (".mp4", _folder, NO_FILE),
    "a link to nothing": (".mp4", partial(_link, target="nothing"), "No such file"),
    "a link to itself": (".mp4", partial(_link, target="v.mp4"), "symbolic links"),
    "no file": (".mp4", lambda path: path, "No such file"),
    "sound alone": (".m4a", clips.audio_only, "expected a file with a video stream, got: audio"),
    "sound with a cover": (".mp4", clips.with_cover, "a cover picture"),
    "no index": (".mp4", _no_index, UNREADABLE),
    "an index alone": (".mp4", _index_alone, "expected at least one frame, got none"),
    "no frame that decodes": (".mp4", _nothing_decodes, "60 frames of which none does"),
    "pictures without times": (".h264", partial(make, frames=20), NO_TIMES),
    "an avi with reordered frames": (".avi", partial(make, frames=20), NO_TIMES),
}
