"""Frames of a world into a video file: H.264, VP9 or AV1, the same bytes for a version of the encoder."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from evalkit.atomic_write import replacing
from evalkit.tiny.videos.render import Painter
from evalkit.tiny.videos.world import World

SIDE = 128  # pixels; evaluation shrinks it to 112
# one thread each: several would make the bytes depend on the machine
CODECS = {
    "h264": ("libx264", {"preset": "veryfast", "crf": "25", "x264-params": "threads=1:keyint=64"}),
    "vp9": ("libvpx-vp9", {"crf": "36", "b": "0", "deadline": "realtime", "cpu-used": "8", "g": "64"}),
    "av1": ("libaom-av1", {"crf": "38", "b": "0", "cpu-used": "8", "usage": "realtime", "g": "64"}),
}


@dataclass(frozen=True, kw_only=True)
class Clip:
    """A video file to be written."""

    path: Path
    world: World
    frames: int
    fps: int
    codec: str = "h264"

    @property
    def seconds(self) -> float:
        """Duration."""
        return self.frames / self.fps


def write(clip: Clip) -> None:
    """Render and encode a clip; the file appears under its name only when it is complete."""
    import av

    clip.path.parent.mkdir(parents=True, exist_ok=True)
    container_format = {".webm": "webm", ".mkv": "matroska"}.get(clip.path.suffix, "mp4")
    name, options = CODECS[clip.codec]
    with (
        replacing(clip.path) as fresh,
        av.open(str(fresh), "w", format=container_format, options=_container_options(container_format)) as out,
    ):
        stream = out.add_stream(name, rate=Fraction(clip.fps), options=dict(options))
        stream.width = stream.height = SIDE
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1
        painter = Painter(clip.world, SIDE)
        for number in range(clip.frames):
            picture = painter.frame((number + 0.5) / clip.frames, number)
            out.mux(stream.encode(av.VideoFrame.from_numpy_buffer(picture, format="rgb24")))
        out.mux(stream.encode())


def _container_options(container_format: str) -> dict[str, str]:
    # Matroska draws random ids unless told not to
    return {} if container_format == "mp4" else {"fflags": "+bitexact"}
