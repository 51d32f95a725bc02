"""Makes small videos whose every frame carries its own number as a bar code of black and white blocks."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import av
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

ROWS, COLUMNS = 3, 4  # blocks: 12 bits, frame numbers up to 4095
# Every encoder on one thread: threads change the bits that come out.
CODECS = {
    "libx264": {"preset": "veryfast", "crf": "20", "threads": "1"},
    "libvpx-vp9": {
        "deadline": "realtime",
        "cpu-used": "8",
        "crf": "24",
        "b": "0",
        "lag-in-frames": "12",
        "threads": "1",
    },
    "libsvtav1": {"preset": "12", "crf": "24", "svtav1-params": "lp=1"},
}


def picture(number: int, height: int, width: int) -> np.ndarray:
    """Frame `number` as (height, width, 3) uint8 RGB: block i is white where bit i is set; the hue drifts in time."""
    bits = (number >> np.arange(ROWS * COLUMNS)) & 1
    rows = np.arange(height) * ROWS // height
    columns = np.arange(width) * COLUMNS // width
    white = bits.reshape(ROWS, COLUMNS)[rows][:, columns].astype(bool)
    dark = np.array([number % 40, 40, 40 - number % 40], np.uint8)
    return np.where(white[:, :, None], np.uint8(230), dark)


def number(pixels: np.ndarray) -> int:
    """The number that a frame (height, width, 3) carries, whatever it was resized to."""
    height, width = pixels.shape[:2]
    rows = (np.arange(ROWS) * 2 + 1) * height // (2 * ROWS)
    columns = (np.arange(COLUMNS) * 2 + 1) * width // (2 * COLUMNS)
    bits = pixels[rows][:, columns].mean(-1).ravel() > 127
    return int((bits << np.arange(ROWS * COLUMNS)).sum())


def make(
    path: Path,
    *,
    frames: int,
    codec: str = "libx264",
    size: tuple[int, int] = (48, 64),
    rate: int = 25,
    keyframes: int = 50,
    b_frames: int = 3,
    ticks: Sequence[int] | None = None,
    options: dict[str, str] | None = None,
    muxer: dict[str, str] | None = None,
) -> Path:
    """Write a video of (height, width) `size`; `ticks` are the frames' times in units of 1 / rate, where they vary."""
    with av.open(str(path), "w", options=muxer or {}) as container:
        stream = container.add_stream(codec, rate=rate, options=CODECS[codec] | (options or {}))
        stream.height, stream.width = size
        stream.pix_fmt = "yuv420p" if size[0] % 2 == 0 and size[1] % 2 == 0 else "yuv444p"
        stream.codec_context.gop_size = keyframes
        if codec == "libx264":
            stream.codec_context.max_b_frames = b_frames
        for index in range(frames):
            frame = av.VideoFrame.from_ndarray(picture(index, *size), format="rgb24")
            frame.pts = index if ticks is None else ticks[index]
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


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
