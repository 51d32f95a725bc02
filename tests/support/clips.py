"""Files that are odd in one way each, made from the numbered clips of evalkit.testing."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import av
import numpy as np

from evalkit.testing.clips import CODECS, COLUMNS, ROWS, make, number, picture

if TYPE_CHECKING:
    from collections.abc import Sequence
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
        cover = _cover(container)
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        silence.sample_rate, silence.pts = 16000, 0
        _show(container, cover, [5])
        container.mux(sound.encode(silence))
        container.mux(sound.encode())
    return path


def with_second(path: Path, *, cover: bool) -> Path:
    """Twenty frames, and before them a cover picture, or behind them a second video with other numbers."""
    with av.open(str(path), "w") as container:
        if cover:
            shown = [(_cover(container), [5]), (_video(container, 48, 64), range(20))]
        else:
            shown = [(_video(container, 48, 64), range(20)), (_video(container, 24, 32), range(100, 120))]
        for stream, numbers in shown:
            _show(container, stream, numbers)
    return path


def _video(container: Any, height: int, width: int) -> Any:
    stream = container.add_stream("libx264", rate=25)
    stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
    return stream


def _cover(container: Any) -> Any:
    stream = container.add_stream("mjpeg", rate=1)
    stream.height, stream.width, stream.pix_fmt = 32, 32, "yuvj420p"
    stream.disposition = av.stream.Disposition.attached_pic.value
    return stream


def _show(container: Any, stream: Any, numbers: Sequence[int]) -> None:
    """Write the frames of a stream, each with its number, to its end."""
    for place, shown in enumerate(numbers):
        frame = av.VideoFrame.from_ndarray(picture(shown, stream.height, stream.width), format="rgb24")
        frame.pts = place
        container.mux(stream.encode(frame))
    container.mux(stream.encode())


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


def zeroed(whole: Path, path: Path, start: float, stop: float) -> Path:
    """A file with zeros between two shares of its bytes, as a download that left a gap has them."""
    data = bytearray(whole.read_bytes())
    first, last = (int(len(data) * share) for share in (start, stop))
    data[first:last] = bytes(last - first)
    path.write_bytes(bytes(data))
    return path


def with_long_sound(path: Path, frames: int, seconds: int) -> Path:
    """`frames` pictures at 25 a second, and so many seconds of silence."""
    with av.open(str(path), "w") as container:
        video, sound = _video(container, 48, 64), container.add_stream("aac", rate=16000, layout="mono")
        _show(container, video, range(frames))
        for start in range(0, 16000 * seconds, 1024):
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            silence.sample_rate, silence.pts = 16000, start
            container.mux(sound.encode(silence))
        container.mux(sound.encode())
    return path


def lying_mp4(whole: Path, path: Path, times: int) -> Path:
    """An mp4 whose headers say that movie and track are `times` as long as they are; an edit list would say better."""
    data = bytearray(whole.read_bytes().replace(b"edts", b"free"))
    for box, place in ((b"mvhd", 16), (b"tkhd", 20), (b"mdhd", 16)):  # version 0: where the duration is in its content
        start = data.index(box) + 4 + place
        (duration,) = struct.unpack(">I", data[start : start + 4])
        data[start : start + 4] = struct.pack(">I", duration * times)
    path.write_bytes(bytes(data))
    return path


def lying_avi(whole: Path, path: Path, frames: int) -> Path:
    """An avi whose headers say that it has so many frames."""
    data = bytearray(whole.read_bytes())
    for box, place in ((b"avih", 16), (b"vids", 32)):  # in the main header after its size, and in that of the stream
        start = data.index(box) + (8 if box == b"avih" else 0) + place
        data[start : start + 4] = struct.pack("<I", frames)
    path.write_bytes(bytes(data))
    return path


def lying_matroska(whole: Path, path: Path, times: float) -> Path:
    """An mkv or webm whose header says that it is `times` as long as it is."""
    data = bytearray(whole.read_bytes())
    start = data.index(b"\x44\x89\x88") + 3
    (duration,) = struct.unpack(">d", data[start : start + 8])
    data[start : start + 8] = struct.pack(">d", duration * times)
    path.write_bytes(bytes(data))
    return path
