"""Makes small videos whose every frame carries its own number as a bar code of black and white blocks."""

from __future__ import annotations

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
    "libx265": {"preset": "ultrafast", "crf": "20", "x265-params": "pools=none:frame-threads=1:log-level=none"},
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
    pixels: str | None = None,
) -> Path:
    """Write a video of (height, width) `size`; `ticks` are the frames' times in units of 1 / rate, where they vary.

    `pixels`: FFmpeg's name of the stored pixels' format; None: 4:2:0 of 8 bits where the size is even.
    """
    with av.open(str(path), "w", options=muxer or {}) as container:
        stream = container.add_stream(codec, rate=rate, options=CODECS.get(codec, {}) | (options or {}))
        stream.height, stream.width = size
        stream.pix_fmt = pixels or ("yuv420p" if size[0] % 2 == 0 and size[1] % 2 == 0 else "yuv444p")
        stream.codec_context.gop_size = keyframes
        if codec == "libx264":
            stream.codec_context.max_b_frames = b_frames
        for index in range(frames):
            frame = av.VideoFrame.from_ndarray(picture(index, *size), format="rgb24")
            frame.pts = index if ticks is None else ticks[index]
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path
