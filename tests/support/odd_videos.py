"""Files that are odd in one way each and whole: every frame of them is right."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.support import clips
from tests.support.clips import make

if TYPE_CHECKING:
    from pathlib import Path

FAST = {"movflags": "faststart"}  # the index in front, as downloads have it
FRAGMENTED = {"movflags": "frag_keyframe+empty_moov"}
EVERY_FRAME = {"movflags": "frag_every_frame+empty_moov+default_base_moof"}
CLOSED = {"x264-params": "scenecut=0"}
HOURS = [600 * n for n in range(36)]
VARYING = [0, 1, 20, 21, 70, 71]
WRAP = [95_443 * 25 - 10 + n for n in range(20)]  # times of 33 bits in 1/90,000 s begin anew in the middle

Made = Callable[["Path"], "Path"]


class Whole(NamedTuple):
    """A file all of whose frames can be shown."""

    suffix: str
    made: Made  # from the path; returns that of the file, which may have another name
    frames: int = 20
    first: int = 0  # the number that its first frame carries


def clip(suffix: str, frames: int = 20, **kind: Any) -> Whole:
    """One that its encoder and container alone make odd."""
    return Whole(suffix, partial(make, frames=frames, **kind), frames)


def named(name: str) -> Whole:
    """An mp4 whose name FFmpeg or a shell would take for something else."""
    return Whole(".mp4", lambda path: make(path, frames=20).rename(path.with_name(name)))


def beside(path: Path) -> Path:
    """A second file in the same folder, from which the odd one is made."""
    return path.with_name("whole" + path.suffix)


def straight(path: Path) -> Path:
    """Frames in the order in which they are shown, as AVI must have them; no edit list is needed."""
    return make(beside(path), frames=60, b_frames=0, muxer=FAST if path.suffix == ".mp4" else None)


def _linked(path: Path) -> Path:
    place = path.with_name("elsewhere")
    place.mkdir()
    path.symlink_to(make(place / "v.mp4", frames=20))
    return path


def _edited(path: Path) -> Path:
    """Its first ten frames have times below 0, and are hidden."""
    return clips.cut_at_start(make(path.with_name("uncut.mp4"), frames=60, keyframes=30), path, 10 * 512)


def _turned(path: Path) -> Path:
    return clips.rotated(make(path.with_name("upright.mp4"), frames=20), path, 180)


def _followed(path: Path) -> Path:
    make(path, frames=20).write_bytes(path.read_bytes() + b"\xa5" * 5000)
    return path


def _with_hole(path: Path) -> Path:
    os.truncate(make(path, frames=20), 2 << 30)
    return path


def vp9(path: Path) -> Path:
    """Sixty frames in a webm."""
    return make(beside(path), frames=60, codec="libvpx-vp9")


WHOLE: dict[str, Whole] = {
    # what the pictures are coded by
    "hevc": clip(".mp4", codec="libx265"),
    "hevc, 10 bits": clip(".mkv", codec="libx265", pixels="yuv420p10le"),
    "hevc, 12 bits": clip(".mkv", codec="libx265", pixels="yuv420p12le"),
    "hevc, colours as they are": clip(".mp4", codec="libx265", pixels="gbrp12le"),
    "h264, 4:4:4": clip(".mp4", pixels="yuv444p"),
    "h264, 4:2:2 of 10 bits": clip(".mp4", pixels="yuv422p10le"),
    "h264, grey": clip(".mp4", pixels="gray"),
    "h264, interlaced": clip(".mp4", size=(64, 64), options={"x264-params": "interlaced=1"}),
    "h264, lossless": clip(".mp4", options={"crf": "0"}),
    "vp8": clip(".webm", codec="libvpx"),
    "vp9 with alpha": clip(".webm", codec="libvpx-vp9", pixels="yuva420p"),
    "mpeg-1": clip(".mpg", codec="mpeg1video"),
    "mpeg-2": clip(".ts", codec="mpeg2video"),
    "mpeg-4 part 2": clip(".avi", codec="mpeg4", keyframes=8),
    "h.263": clip(".3gp", codec="h263", size=(144, 176)),
    "wmv": clip(".wmv", codec="wmv2"),
    "prores": clip(".mov", 6, codec="prores_ks", pixels="yuv422p10le"),
    "motion jpeg": clip(".mov", codec="mjpeg", pixels="yuvj420p"),
    "motion png": clip(".mov", codec="png", pixels="rgb24"),
    "ffv1": clip(".mkv", codec="ffv1"),
    "raw pictures": clip(".avi", codec="rawvideo", pixels="bgr24"),
    # what they lie in
    "fragments": clip(".mp4", 60, keyframes=20, muxer=FRAGMENTED),
    "a fragment for each frame": clip(".mp4", 60, keyframes=20, muxer=EVERY_FRAME),
    "flv": clip(".flv"),
    "nut": clip(".nut"),
    "mxf": clip(".mxf", codec="mpeg2video"),
    "ivf": clip(".ivf", codec="libvpx-vp9"),
    "gif": clip(".gif", codec="gif", pixels="rgb8"),
    "a cover picture before the video": Whole(".mp4", partial(clips.with_second, cover=True)),
    "a second video behind it": Whole(".mkv", partial(clips.with_second, cover=False)),
    "bytes of something else at the end": Whole(".mp4", _followed),
    "a hole of two gigabytes at the end": Whole(".mp4", _with_hole),
    "a link out of its folder": Whole(".mp4", _linked),
    # size and time
    "4K": clip(".mp4", 2, rate=1, size=(2160, 3840), options={"preset": "ultrafast"}),
    "a strip": clip(".mp4", 4, size=(16, 4096)),
    "eight pixels wide": clip(".mp4", size=(6, 8), pixels="yuv444p"),
    "an odd size": clip(".mkv", size=(49, 67)),
    "turned": Whole(".mp4", _turned),
    "one frame": clip(".mp4", 1),
    "one key frame": clip(".mp4", 300, keyframes=1000, options=CLOSED),
    "key frames alone": clip(".mp4", 60, keyframes=1),
    "no key frame but the first is marked": clip(
        ".mkv", 60, keyframes=30, b_frames=0, options={"x264-params": "intra-refresh=1:scenecut=0"}
    ),
    "open groups of pictures": clip(".mp4", 60, keyframes=20, options={"x264-params": "open-gop=1:scenecut=0"}),
    "six hours": clip(".mp4", 36, rate=1, ticks=HOURS),
    "a thousand frames a second": clip(".mp4", rate=1000),
    "a varying rate": clip(".mp4", 6, ticks=VARYING),
    "times that begin anew": clip(".ts", ticks=WRAP),
    "a first frame after days": clip(".mkv", ticks=[400_000 * 25 + n for n in range(20)]),
    "edit list, negative times": Whole(".mp4", _edited, 50, first=10),
    # durations that lie
    "longer sound": Whole(".mp4", partial(clips.with_long_sound, frames=25, seconds=4), 25),
    "longer sound, of mkv": Whole(".mkv", partial(clips.with_long_sound, frames=25, seconds=4), 25),
    "mp4 that promises too much": Whole(".mp4", lambda path: clips.lying_mp4(straight(path), path, 10), 60),
    "webm that promises too much": Whole(".webm", lambda path: clips.lying_matroska(vp9(path), path, 10), 60),
    "avi that promises too much": Whole(".avi", lambda path: clips.lying_avi(straight(path), path, 600), 60),
    "no duration at all": clip(".mkv", muxer={"live": "1"}),
    # names
    "a name like an option": named("-i.mp4"),
    "a name like numbered pictures": named("v%03d.mp4"),
    "a name like an address": named("http:v.mp4"),
    "a name like two files": named("concat:a|b.mp4"),
    "a name like a pattern": named("v*[1].mp4"),
    "a name of two lines": named("a\nb.mp4"),
    "a name of 244 characters": named("x" * 240 + ".mp4"),
    "a picture's name": named("v.jpg"),
    "no suffix": named("video"),
}
