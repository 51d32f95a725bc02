"""Which frames the dense run looks at, and at what size, by the presets of the published harnesses.

lmms_eval: lmms-eval 0.7.3 picks `max_num_frames` frames by `linspace(0, total − 1, n)` cut to integers. Most of its
models do that on the video itself (`fps: null`). Its Qwen2-VL model does it on what qwen-vl-utils hands it, which is
the video at 2 frames a second already (`fps: 2`, at least 4 and at most 768 of them, rounded linspace); so a video of
10 seconds has 20 frames there, whatever the cap. That library also shares 115,200 tokens among those 768 frames, which
leaves 235,200 pixels to a frame of a video longer than 6 minutes.

lmms_eval_qwen2_5_vl: what lmms-eval 0.7.3 runs for `--model qwen2_5_vl`, its chat class. (The simple class,
`--force_simple`, picks frames as lmms_eval does.) It asks qwen-vl-utils for `max_num_frames` frames of the video
itself, or with `fps` for all frames at that rate (4 to 768): `linspace(0, total − 1, n)` rounded. The 115,200 tokens
are shared among those alone, so that 32 frames keep the 602,112 pixels that the library allows a frame. What that class
does otherwise than evalkit: cells follow each other in even steps of whole seconds (`int` of 2 · duration / n), here at
their true times; it has no stop string, where evalkit's lmms_eval protocol ends a reply at the task's blank line (the
simple class drops that one, too); a video of one frame fails there; its `fps` knows no `max_num_frames`, here `frames`
is a cap; over 857 frames the processor resizes a second time, here frames go to that size in one step.

lmms_eval_qwen3_vl: what lmms-eval 0.7.3 runs for `--model qwen3_vl`, its chat class: the same request with tokens of
32 × 32 pixels, and no second resize. What that class does otherwise than evalkit: a system turn of its own ("You are a
helpful assistant."), which the checkpoint's template has not; with transformers from 5.10 on, a second pair of vision
tokens around the whole video; no stop string; a video of fewer frames than are asked for fails there.

retake: ReTaKe lists a video's 25-fps JPEGs, takes n = ⌊duration · sample_fps⌋, at most `frames`, made even, and picks
`linspace(0, total − 1, n)` cut to integers. Share k / (n − 1) of the way through the list is the same share of the way
through the video, so the same formula over the video's own frames gives the same pictures: exactly at 25 fps, within
one frame of either list at other rates. (Its code for raw video files does that, too.)

videochat_flash: VideoChat-Flash's and XComp's `dynamic_fps1`: 8 · ⌊fps · duration / 8⌋ frames between `min_frames` and
`frames`, the middles of equal intervals.

fps: the frame shown at 0, 1 / fps, 2 / fps … seconds, by the file's timestamps, so that a varying rate is no matter; a
longer video than `frames` of them is spread evenly.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from evalkit.errors import ConfigError, VideoError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evalkit.types import Video

NFRAMES = ("lmms_eval_qwen2_5_vl", "lmms_eval_qwen3_vl")  # which ask qwen-vl-utils for a number of frames
LMMS_EVAL = ("lmms_eval", *NFRAMES)
PRESETS = (*LMMS_EVAL, "retake", "videochat_flash", "fps")
RESIZES = ("bicubic", "nearest")
CLIP = 8  # frames of a clip in `dynamic_fps1`; source: XComp's get_frame_indices
POOL = (4, 768)  # fewest and most frames that qwen-vl-utils reads; source: its FPS_MIN_FRAMES and FPS_MAX_FRAMES
POOL_TOKENS = 115_200  # visual tokens that it allows for them; source: its MODEL_SEQ_LEN of 128 000 × 0.9
FRAME_TOKENS = 768  # visual tokens that it allows a frame; source: its VIDEO_MAX_TOKEN_NUM
MAX_ASPECT = 200  # source: Qwen2-VL's smart_resize
SLACK = 1e-6  # of a frame or a second: rates such as 30000 / 1001 are not exact in binary


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """Frames and resolution of the dense run. ConfigError where the settings contradict each other."""

    preset: str  # one of PRESETS
    frames: int  # at most so many frames
    min_pixels: int  # pixels of a resized frame
    max_pixels: int
    fps: float | None = None  # frames per second; None is for lmms-eval's presets: no rate, `frames` from any video
    min_frames: int = 1  # at least so many frames, where the video has them
    long_side: int | None = None  # pixels: larger frames are first shrunk to it; None: no such step
    # to the final size in one step, or first to `long_side` by nearest neighbour, as ReTaKe's code, then bicubic
    resize: str = "bicubic"

    def __post_init__(self) -> None:
        _expect(self.preset in PRESETS, f"preset: expected one of {', '.join(PRESETS)}, got {self.preset!r}")
        for name in ("frames", "min_frames", "min_pixels", "max_pixels", "long_side"):
            value = getattr(self, name)
            holds = (isinstance(value, int) and value > 0) or (name == "long_side" and value is None)
            _expect(holds, f"{name}: expected an integer above 0, got {value!r}")
        _expect(self.min_frames <= self.frames, f"frames: expected ≥ min_frames {self.min_frames}, got {self.frames}")
        pixels = f"max_pixels: expected ≥ min_pixels {self.min_pixels}, got {self.max_pixels}"
        _expect(self.min_pixels <= self.max_pixels, pixels)
        rate = 1.0 if self.fps is None and self.preset in LMMS_EVAL else self.fps
        holds = isinstance(rate, int | float) and 0 < rate < math.inf
        _expect(holds, f"fps: preset {self.preset} needs a number above 0, got {rate!r}")
        _expect(self.resize in RESIZES, f"resize: expected one of {', '.join(RESIZES)}, got {self.resize!r}")
        holds = self.resize != "nearest" or self.long_side is not None
        _expect(holds, "resize: nearest is how frames shrink to long_side: expected long_side in pixels, got null")

    def count(self, video: Video, cell_frames: int) -> int:
        """Frames of the dense run: a multiple of `cell_frames`, unless the video or the cap has fewer; never 0."""
        most = min(self._wanted(video), self.frames, video.frames)
        return max(most // cell_frames * cell_frames, min(cell_frames, self.frames, video.frames))

    def indices(self, video: Video, n: int) -> tuple[int, ...]:
        """`n` unique ascending frame numbers, spread over the video by the preset's formula.

        ValueError where the video has fewer than `n` frames.
        """
        if not 1 <= n <= video.frames:
            raise ValueError(f"{video.path}: expected to pick 1 to {video.frames} frames, got {n = }")
        if self.preset == "videochat_flash":
            return tuple(middles(video.frames, n))
        if self.preset in NFRAMES:
            return tuple(rounded_linspace(video.frames, n))
        pool = self._pool(video)
        if len(pool) < n:
            pool = range(video.frames)
        places = starts(len(pool), n) if self.preset == "fps" else cut_linspace(len(pool), n)
        return tuple(pool[place] for place in places)

    def size(self, video: Video, pixels_per_token: int) -> tuple[int, int]:
        """Height and width of a resized frame in pixels, multiples of `pixels_per_token`.

        VideoError for an aspect ratio above MAX_ASPECT.
        """
        height, width = video.height, video.width
        if max(height, width) > MAX_ASPECT * min(height, width):
            raise VideoError(
                f"{video.path}: expected sides of at most {MAX_ASPECT} to 1, got {height}×{width} pixels; "
                "remove its rows"
            )
        height, width = self._shrunk(height, width)
        size = smart_resize(
            height, width, pixels_per_token, self.min_pixels, self._most_pixels(video, pixels_per_token)
        )
        if self._shared_by(video) is None or self.preset == "lmms_eval_qwen3_vl":
            return size
        return smart_resize(
            *size, pixels_per_token, self.min_pixels, self.max_pixels
        )  # the processor, after qwen-vl-utils

    def nearest_size(self, video: Video) -> tuple[int, int] | None:
        """Height and width to which a frame shrinks by nearest neighbour before its final size; None: no such step."""
        size = self._shrunk(video.height, video.width)
        return None if self.resize == "bicubic" or size == (video.height, video.width) else size

    def _shrunk(self, height: int, width: int) -> tuple[int, int]:
        if self.long_side is None or max(height, width) <= self.long_side:
            return height, width
        share = self.long_side / max(height, width)
        return max(1, int(height * share)), max(1, int(width * share))

    def _wanted(self, video: Video) -> int:
        """Frames that the preset asks for, whatever the cap and the video allow."""
        if self.preset == "videochat_flash":
            return len(set(dynamic_fps1(video.frames, video.fps, self._rate, self.min_frames, self.frames)))
        if self.preset == "retake":
            return max(self.min_frames, math.floor(video.frames / video.fps * self._rate) // 2 * 2)
        return max(self.min_frames, len(self._pool(video)))

    def _pool(self, video: Video) -> Sequence[int]:
        """The frames among which the preset picks, unique and ascending."""
        if self.fps is None or self.preset == "retake":
            return range(video.frames)
        if self.preset in LMMS_EVAL:
            return qwen_vl_utils_pool(video.frames, video.fps, self.fps)
        return shown_every(video, self.fps)

    def _shared_by(self, video: Video) -> int | None:
        """Frames among which qwen-vl-utils shares its tokens; None: that library has no part in the preset."""
        if self.preset in NFRAMES:
            return self.count(video, 2)
        return None if self.fps is None or self.preset != "lmms_eval" else len(self._pool(video))

    def _most_pixels(self, video: Video, pixels_per_token: int) -> float:
        """`max_pixels`, or less where qwen-vl-utils allows a frame, or each of many frames, fewer tokens."""
        frames = self._shared_by(video)
        if frames is None:
            return self.max_pixels
        share = min(FRAME_TOKENS * pixels_per_token**2, POOL_TOKENS * pixels_per_token**2 / frames * 2)
        return min(self.max_pixels, max(share, int(self.min_pixels * 1.05)))

    @property
    def _rate(self) -> float:
        assert self.fps is not None  # by __post_init__, for every preset but lmms_eval
        return self.fps


def cut_linspace(total: int, n: int) -> list[int]:
    """`n` of `total` frames from the first to the last, evenly, cut to integers."""
    # source: lmms-eval 0.7.3 models/simple/qwen2_vl.py; ReTaKe get_frame_indices; for n = 1 it is the first frame
    places: list[int] = np.linspace(0, total - 1, n).astype(int).tolist()
    return places


def rounded_linspace(total: int, n: int) -> list[int]:
    """`n` of `total` frames from the first to the last, evenly, rounded in float32 as qwen-vl-utils' readers do it."""
    import torch

    picked: list[int] = torch.linspace(0, total - 1, n).round().int().tolist()
    return picked if len(set(picked)) == n else cut_linspace(total, n)  # halves may meet where nearly all are picked


def shown_every(video: Video, fps: float) -> list[int]:
    """The frames shown at 0, 1 / fps, 2 / fps … seconds until the video ends, unique and ascending."""
    moments = [k / fps for k in range(math.ceil(video.duration_s * fps - SLACK))]
    if video.seconds is None:
        found = {min(int(moment * video.fps + SLACK), video.frames - 1) for moment in moments}
    else:
        found = {max(0, bisect_right(video.seconds, moment + SLACK) - 1) for moment in moments}
    return sorted(found)


def starts(total: int, n: int) -> list[int]:
    """The first frames of `n` equal intervals of `total` frames."""
    return [k * total // n for k in range(n)]


def middles(total: int, n: int) -> list[int]:
    """The middle frames of `n` ≤ `total` intervals."""
    # source: golden traces of XComp's get_frame_indices ("middle")
    edges = np.linspace(0, total, n + 1).astype(int).tolist()
    return [(first + after - 1) // 2 for first, after in pairwise(edges)]


def dynamic_fps1(total: int, rate: float, fps: float, fewest: int, most: int) -> list[int]:
    """Frame numbers of VideoChat-Flash's sampler for `total` frames at `rate` a second, always whole clips of 8.

    `fps` frames a second, at least `fewest` (a shorter video: its whole clips) and at most `most`. A video that has
    fewer frames than that repeats some to fill its last clip.
    """
    # source: golden traces of XComp's get_frame_indices, 48 cases
    if fewest > total:
        fewest = total // CLIP * CLIP
    clips = max(1, int(total / rate * fps // CLIP))
    picked = middles(total, min(max(fewest, min(CLIP * clips, most)), total))
    filled = math.ceil(len(picked) / CLIP) * CLIP
    return [picked[place] for place in starts(len(picked), filled)]


def qwen_vl_utils_pool(total: int, rate: float, fps: float) -> list[int]:
    """Frame numbers that qwen-vl-utils reads from `total` frames at `rate` a second; an even number of them."""
    # source: qwen-vl-utils smart_nframes and the readers' `torch.linspace(0, total - 1, n).round()`, in float32
    fewest, most = POOL
    most = min(most, total) // 2 * 2
    n = int(min(max(total / rate * fps, fewest), most)) // 2 * 2
    return rounded_linspace(total, max(1, n))


def smart_resize(height: int, width: int, pixels_per_token: int, min_pixels: int, max_pixels: float) -> tuple[int, int]:
    """The size nearest to `height` × `width` with sides that are multiples of `pixels_per_token`, within the limits.

    A frame so long that its short side would vanish keeps one token there, so it may exceed `max_pixels`.
    """
    # source: Qwen2-VL's image processor
    rows, columns = round(height / pixels_per_token), round(width / pixels_per_token)
    area = height * width
    if rows * columns * pixels_per_token**2 > max_pixels:
        shrink = math.sqrt(area / max_pixels)
        rows, columns = (max(1, math.floor(side / shrink / pixels_per_token)) for side in (height, width))
    elif rows * columns * pixels_per_token**2 < min_pixels:
        grow = math.sqrt(min_pixels / area)
        rows, columns = (math.ceil(side * grow / pixels_per_token) for side in (height, width))
    return rows * pixels_per_token, columns * pixels_per_token


def _expect(holds: bool, message: str) -> None:
    if not holds:
        raise ConfigError(f"sampling: {message}; see conf/sampling")
