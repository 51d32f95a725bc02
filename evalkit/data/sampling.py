"""Which frames the dense run looks at, and at what size, by the presets of the published harnesses.

lmms_eval: lmms-eval 0.7.3 picks `max_num_frames` frames by `linspace(0, total − 1, n)` cut to integers. Most of its
models do that on the video itself (`fps: null`). Its Qwen2-VL and Qwen2.5-VL models do it on what qwen-vl-utils hands
them, which is the video at 2 frames a second already (`fps: 2`, at least 4 and at most 768 of them, rounded linspace);
so a video of 10 seconds has 20 frames there, whatever the cap.

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
from typing import TYPE_CHECKING

import numpy as np

from evalkit.errors import ConfigError, VideoError

if TYPE_CHECKING:
    from evalkit.types import Video

PRESETS = ("lmms_eval", "retake", "videochat_flash", "fps")
CLIP = 8  # frames of a clip in `dynamic_fps1`; source: XComp's get_frame_indices
POOL = (4, 768)  # fewest and most frames that qwen-vl-utils hands on; source: its FPS_MIN_FRAMES, FPS_MAX_FRAMES
MAX_ASPECT = 200  # source: Qwen2-VL's smart_resize


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
        _expect(1 <= self.min_frames <= self.frames, f"expected 1 ≤ min_frames ≤ frames, got {self.min_frames}, {self.frames}")
        _expect(
            0 < self.min_pixels <= self.max_pixels,
            f"expected 0 < min_pixels ≤ max_pixels, got {self.min_pixels}, {self.max_pixels}",
        )
        _expect(self.fps is not None or self.preset == "lmms_eval", f"fps: preset {self.preset} needs a number, got null")
        _expect(self.fps is None or 0 < self.fps < math.inf, f"fps: expected a number above 0, got {self.fps}")
        _expect(self.long_side is None or self.long_side > 0, f"long_side: expected pixels or null, got {self.long_side}")

    def count(self, video: Video, cell_frames: int) -> int:
        """Frames of the dense run: a multiple of `cell_frames`, unless the video or the cap has fewer; never 0."""
        wanted = max(self._wanted(video), self.min_frames)
        most = min(wanted, self.frames, video.frames)
        return max(most // cell_frames * cell_frames, min(cell_frames, self.frames, video.frames))

    def indices(self, video: Video, n: int) -> tuple[int, ...]:
        """`n` unique ascending frame numbers, spread over the video by the preset's formula.

        ValueError where the video has fewer than `n` frames.
        """
        if not 1 <= n <= video.frames:
            raise ValueError(f"{video.path}: expected 1 to {video.frames} frames to pick, got {n = }")
        if self.preset == "videochat_flash":
            return tuple(middles(video.frames, n))
        if self.preset == "fps":
            return self._steps(video, n)
        pool = self._pool(video)
        if n > len(pool):  # more than qwen-vl-utils would hand on
            return tuple(cut_linspace(video.frames, n))
        return tuple(pool[place] for place in cut_linspace(len(pool), n))

    def size(self, video: Video, unit: int) -> tuple[int, int]:
        """Height and width of a resized frame in pixels, multiples of `unit`. VideoError for a thin strip of a frame."""
        height, width = video.height, video.width
        if max(height, width) > MAX_ASPECT * min(height, width):
            raise VideoError(
                f"{video.path}: expected an aspect ratio of at most {MAX_ASPECT}, got {height} × {width} pixels; remove its rows"
            )
        if self.long_side is not None and max(height, width) > self.long_side:
            share = self.long_side / max(height, width)
            height, width = max(1, int(height * share)), max(1, int(width * share))
        return smart_resize(height, width, unit, self.min_pixels, self.max_pixels)

    def _wanted(self, video: Video) -> int:
        """Frames that the preset asks for, before the caps."""
        if self.preset == "lmms_eval":
            return len(self._pool(video))
        if self.preset == "retake":
            return math.floor(video.frames / video.fps * self._rate) // 2 * 2
        if self.preset == "videochat_flash":
            return len(set(dynamic_fps1(video.frames, video.fps, self._rate, self.min_frames, self.frames)))
        return math.ceil(video.frames / video.fps * self._rate)
