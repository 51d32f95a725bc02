"""Which frames the dense run looks at, and at what size, by the presets of the published harnesses.

lmms_eval: lmms-eval 0.7.3 picks `max_num_frames` frames by `linspace(0, total − 1, n)` cut to integers. Most of its
models do that on the video itself (`fps: null`). Its Qwen2-VL and Qwen2.5-VL models do it on what qwen-vl-utils hands
them, which is the video at 2 frames a second already (`fps: 2`, at least 4 and at most 768 of them, rounded linspace);
so a video of 10 seconds has 20 frames there, whatever the cap. That library also shares 115,200 tokens among those
768 frames, which leaves 235,200 pixels to a frame of a video longer than 6 minutes.

retake: ReTaKe lists a video's 25-fps JPEGs, takes n = ⌊duration · sample_fps⌋, at most `frames`, made even, and picks
`linspace(0, total − 1, n)` cut to integers. Share k / (n − 1) of the way through the list is the same share of the way
through the video, so the same formula over the video's own frames gives the same pictures: exactly at 25 fps, within
one frame of either list at other rates. (Its code for raw video files does that, too.)

videochat_flash: VideoChat-Flash's and XComp's `dynamic_fps1`: 8 · ⌊fps · duration / 8⌋ frames between `min_frames` and
`frames`, the middles of equal intervals.

fps: the frame shown at 0, 1 / fps, 2 / fps … seconds; a longer video than `frames` of them is spread evenly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from evalkit.errors import ConfigError, VideoError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evalkit.types import Video

PRESETS = ("lmms_eval", "retake", "videochat_flash", "fps")
CLIP = 8  # frames of a clip in `dynamic_fps1`; source: XComp's get_frame_indices
POOL = (4, 768)  # fewest and most frames that qwen-vl-utils reads; source: its FPS_MIN_FRAMES and FPS_MAX_FRAMES
POOL_TOKENS = 115_200  # visual tokens that it allows for them; source: its MODEL_SEQ_LEN of 128 000 × 0.9
MAX_ASPECT = 200  # source: Qwen2-VL's smart_resize
SLACK = 1e-6  # of a frame: rates such as 30000 / 1001 are not exact in binary


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """Frames and resolution of the dense run. ConfigError where the settings contradict each other."""

    preset: str  # lmms_eval, retake, videochat_flash or fps
    frames: int  # at most so many frames
    min_pixels: int  # pixels of a resized frame
    max_pixels: int
    fps: float | None = None  # frames per second; None is for lmms_eval alone: no rate, `frames` from any video
    min_frames: int = 1  # at least so many frames, where the video has them
    long_side: int | None = None  # pixels: larger frames are first shrunk to it; None: no such step

    def __post_init__(self) -> None:
        _expect(self.preset in PRESETS, f"preset: expected one of {', '.join(PRESETS)}, got {self.preset!r}")
        for name in ("frames", "min_frames", "min_pixels", "max_pixels", "long_side"):
            value = getattr(self, name)
            holds = (isinstance(value, int) and value > 0) or (name == "long_side" and value is None)
            _expect(holds, f"{name}: expected an integer above 0, got {value!r}")
        _expect(self.min_frames <= self.frames, f"frames: expected ≥ min_frames {self.min_frames}, got {self.frames}")
        pixels = f"max_pixels: expected ≥ min_pixels {self.min_pixels}, got {self.max_pixels}"
        _expect(self.min_pixels <= self.max_pixels, pixels)
        rate = 1.0 if self.fps is None and self.preset == "lmms_eval" else self.fps
        holds = isinstance(rate, int | float) and 0 < rate < math.inf
        _expect(holds, f"fps: preset {self.preset} needs a number above 0, got {rate!r}")

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
        pool = self._pool(video)
        if len(pool) < n:
            pool = range(video.frames)
        places = starts(len(pool), n) if self.preset == "fps" else cut_linspace(len(pool), n)
        return tuple(pool[place] for place in places)

    def size(self, video: Video, unit: int) -> tuple[int, int]:
        """Height and width of a resized frame in pixels, multiples of `unit`. VideoError for a frame like a thread."""
        height, width = video.height, video.width
        if max(height, width) > MAX_ASPECT * min(height, width):
            raise VideoError(
                f"{video.path}: expected sides of at most {MAX_ASPECT} to 1, got {height}×{width} pixels; "
                "remove its rows"
            )
        if self.long_side is not None and max(height, width) > self.long_side:
            share = self.long_side / max(height, width)
            height, width = max(1, int(height * share)), max(1, int(width * share))
        return smart_resize(height, width, unit, self.min_pixels, self._most_pixels(video, unit))

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
        if self.preset == "lmms_eval":
            return qwen_vl_utils_pool(video.frames, video.fps, self.fps)
        steps = math.ceil(video.frames / video.fps * self.fps - SLACK)
        return sorted({min(int(k / self.fps * video.fps + SLACK), video.frames - 1) for k in range(steps)})

    def _most_pixels(self, video: Video, unit: int) -> float:
        """`max_pixels`, or less where qwen-vl-utils shares its tokens among the many frames of a long video."""
        if self.fps is None or self.preset != "lmms_eval":
            return self.max_pixels
        share = POOL_TOKENS * unit**2 / len(self._pool(video)) * 2
        return min(self.max_pixels, max(share, int(self.min_pixels * 1.05)))

    @property
    def _rate(self) -> float:
        assert self.fps is not None  # by __post_init__, for every preset but lmms_eval
        return self.fps


def cut_linspace(total: int, n: int) -> list[int]:
    """`n` of `total` frames from the first to the last, evenly, cut to integers."""
    # source: lmms-eval 0.7.3 models/simple/qwen2_vl.py; ReTaKe get_frame_indices; for n = 1 it is the first frame
    return [int(place) for place in np.linspace(0, total - 1, n)]


def starts(total: int, n: int) -> list[int]:
    """The first frames of `n` equal intervals of `total` frames."""
    return [k * total // n for k in range(n)]


def middles(total: int, n: int) -> list[int]:
    """The middle frames of `n` ≤ `total` intervals."""
    # source: golden traces of XComp's get_frame_indices ("middle")
    edges = [int(edge) for edge in np.linspace(0, total, n + 1)]
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
    import torch

    # source: qwen-vl-utils smart_nframes and the readers' `torch.linspace(0, total - 1, n).round()`, in float32
    fewest, most = POOL
    most = min(most, total) // 2 * 2
    n = int(min(max(total / rate * fps, fewest), most)) // 2 * 2
    return [int(index) for index in torch.linspace(0, total - 1, max(1, n)).round()]


def smart_resize(height: int, width: int, unit: int, min_pixels: int, max_pixels: float) -> tuple[int, int]:
    """The size nearest to `height` × `width` whose sides are multiples of `unit`, between the two numbers of pixels.

    A frame so long that its short side would vanish keeps one unit there, so it may exceed `max_pixels`.
    """
    # source: Qwen2-VL's image processor
    rows, columns = round(height / unit), round(width / unit)
    area = height * width
    if rows * columns * unit**2 > max_pixels:
        shrink = math.sqrt(area / max_pixels)
        rows, columns = (max(1, math.floor(side / shrink / unit)) for side in (height, width))
    elif rows * columns * unit**2 < min_pixels:
        grow = math.sqrt(min_pixels / area)
        rows, columns = (math.ceil(side * grow / unit) for side in (height, width))
    return rows * unit, columns * unit


def _expect(holds: bool, message: str) -> None:
    if not holds:
        raise ConfigError(f"sampling: {message}; see conf/sampling")
