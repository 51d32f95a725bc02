"""Files that are odd in one way each, made from the numbered clips of evalkit.testing."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import av
import numpy as np

from evalkit.testing.clips import CODECS, COLUMNS, ROWS, make, number, picture

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["CODECS", "COLUMNS", "ROWS", "make", "number", "picture"]


def audio_only(path: Path) -> Path:
    """A second of silence without any picture."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate, frame.pts = 16000, 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def with_cover(path: Path) -> Path:
    """Silence with a cover picture: a video stream that is no video."""
    with av.open(str(path), "w", format="mp4") as container:
        sound = container.add_stream("aac", rate=16000, layout="mono")
        cover = container.add_stream("mjpeg", rate=1)
        cover.height, cover.width, cover.pix_fmt = 32, 32, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic.value
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        silence.sample_rate, silence.pts = 16000, 0
        container.mux(cover.encode(av.VideoFrame.from_ndarray(picture(5, 32, 32), format="rgb24")))
        container.mux(sound.encode(silence))
        for stream in (cover, sound):
            container.mux(stream.encode())
    return path


def cut_at_start(whole: Path, path: Path, ticks: int) -> Path:
    """An mp4 cut without encoding, so that an edit list hides the frames before time `ticks` of the whole one."""
    options = {"avoid_negative_ts": "disabled"}
    with av.open(str(whole)) as source, av.open(str(path), "w", options=options) as container:
        stream = container.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream, packet.pts, packet.dts = stream, packet.pts - ticks, packet.dts - ticks
                container.mux(packet)
    return path


def truncated(whole: Path, path: Path, share: float) -> Path:
    """The first `share` of a file's bytes."""
    data = whole.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


def damaged(whole: Path, path: Path, start: float, stop: float) -> Path:
    """An mp4 (faststart) whose coded pictures are overwritten between two shares of their bytes."""
    data = bytearray(whole.read_bytes())
    body = data.index(b"mdat") + 4
    first, last = (body + int((len(data) - body) * share) for share in (start, stop))
    data[first:last] = b"\xa5" * (last - first)
    path.write_bytes(bytes(data))
    return path


def rotated(upright: Path, path: Path, degrees: int) -> Path:
    """An mp4 with the display matrix of its track set to a clockwise turn by 90, 180 or 270 degrees."""
    sine, cosine = {90: (1, 0), 180: (0, -1), 270: (-1, 0)}[degrees]
    one = 1 << 16
    data = bytearray(upright.read_bytes())
    matrix = data.index(b"tkhd") + 4 + 40  # version 0: the matrix begins 40 bytes into the box's content
    data[matrix : matrix + 36] = struct.pack(
        ">9i", cosine * one, sine * one, 0, -sine * one, cosine * one, 0, 0, 0, 1 << 30
    )
    path.write_bytes(bytes(data))
    return path
