"""Videos as files: what is known before decoding, and exact frames by number with true times.

One pass decodes what all plans of a grid want. Frames shrink to their plan's size as they are decoded, so memory is
that of what is kept of them and a few full-size frames, however long the video is.
"""

from __future__ import annotations

import logging
from bisect import bisect_left
from collections import deque
from contextlib import closing
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from evalkit.data.fingerprint import fingerprint
from evalkit.data.readers import reader_named
from evalkit.errors import VideoError
from evalkit.types import FramePlan, Frames, Video

if TYPE_CHECKING:
    from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
    from pathlib import Path

    from evalkit.data.readers import Reader
    from evalkit.data.readers.timeline import Timeline

    Size = tuple[int, int, tuple[int, int] | None]  # a plan's height and width, and the size on the way to them
    Key = tuple[tuple[int, ...], Size]  # and its indices

log = logging.getLogger(__name__)


def probe(path: Path) -> Video:
    """What is known of a video before decoding; its frames are counted, its first one is decoded for the upright size.

    Raises VideoError where the file is missing, empty, without a picture, or does not decode.
    """
    from evalkit.data.readers import announced, pyav, timeline

    file = timeline.scan(path)
    with closing(pyav.nearest(file, [0])) as first:
        rgb = next((rgb for _, _, rgb in first), None)
    if rgb is None:
        raise VideoError(
            f"{path}: expected a video that decodes, got {len(file)} frames of which none does; {timeline.REPLACE}"
        )
    height, width = rgb.shape[:2]
    duration = file.duration
    return Video(
        path=path,
        duration_s=float(duration),
        fps=float(len(file) / duration),
        frames=len(file),
        height=height,
        width=width,
        seconds=file.all_seconds(),
        short=announced.shortfall(file),
        state=file.state,
        fingerprint=fingerprint(path),
    )


def expect_whole(video: Video) -> None:
    """VideoError for a video of which less is there than its file announces."""
    if video.short:
        raise VideoError(
            f"{video.path}: {video.short}; fetch it again, or set decode.tolerate_short=true to show what is there"
        )


class RawFrame(NamedTuple):
    """One wanted frame, as it is in the file."""

    wanted: int  # its number in the video
    shown: int  # the frame that stands in for it: itself, where it decodes
    seconds: float  # when that one is shown
    rgb: np.ndarray  # (height, width, 3) uint8


class SizedFrame(NamedTuple):
    """One wanted frame, at the sizes at which it is wanted."""

    wanted: int
    shown: int
    seconds: float
    pixels: Mapping[Size, np.ndarray]  # (height, width, 3) uint8 RGB


def raw_frames(video: Video, plans: Sequence[FramePlan], reader: str = "pyav") -> Generator[RawFrame]:
    """Every frame that a plan wants, each once and ascending, in one pass; what is yielded is held no longer.

    Where a frame does not decode, the last earlier one that does stands in for it, and a warning is logged at the end.

    Raises ValueError for a plan outside the video, ConfigError for an unknown reader, VideoError where the file cannot
    be read or more than half of the wanted frames do not decode, which is known at the end.
    """
    for plan in plans:
        _check(plan, video)
    from evalkit.data.readers.timeline import state

    read = reader_named(reader)
    wanted = sorted({index for plan in plans for index in plan.indices})
    if wanted:
        file = _timeline(video)
        for index, shown, rgb in _decoded(file, read, wanted):
            yield RawFrame(index, shown, file.seconds(shown), rgb)
        _expect_unchanged(file, state(video.path))


def sized_frames(video: Video, plans: Sequence[FramePlan], reader: str = "pyav") -> Generator[SizedFrame]:
    """The same frames, resized once for each size at which plans want them. Raises as `raw_frames`."""
    sizes = wanted_sizes(plans)
    with closing(raw_frames(video, plans, reader)) as found:
        for frame in found:
            yield from sized([frame], sizes)


def wanted_sizes(plans: Sequence[FramePlan]) -> dict[int, set[Size]]:
    """At which sizes each frame is wanted."""
    sizes: dict[int, set[Size]] = {}
    for plan in plans:
        for index in plan.indices:
            sizes.setdefault(index, set()).add(size_of(plan))
    return sizes


def sized(frames: Sequence[RawFrame], sizes: Mapping[int, Collection[Size]]) -> list[SizedFrame]:
    """Frames of one video at the sizes at which they are wanted."""
    found: list[dict[Size, np.ndarray]] = [{} for _ in frames]
    for size in {size: None for frame in frames for size in sizes[frame.wanted]}:
        chosen = [i for i, frame in enumerate(frames) if size in sizes[frame.wanted]]
        for i, rgb in zip(chosen, _resized([frames[i].rgb for i in chosen], size), strict=True):
            found[i][size] = rgb
    return [SizedFrame(*frame[:3], pixels) for frame, pixels in zip(frames, found, strict=True)]


def decode(video: Video, plans: Sequence[FramePlan], reader: str = "pyav") -> list[Frames]:
    """The frames of every plan, (F, plan.height, plan.width, 3) uint8 RGB in the order of its indices, in one pass.

    Exactly as many frames as asked; `indices` and `seconds` are those of stand-ins where there are any. Equal plans
    share one `Frames`. Raises as `raw_frames`.
    """
    arrays = {_key(plan): np.empty((len(plan.indices), plan.height, plan.width, 3), np.uint8) for plan in plans}
    shown: dict[int, tuple[int, float]] = {}
    for frame in sized_frames(video, plans, reader):
        shown[frame.wanted] = frame.shown, frame.seconds
        _place(frame, arrays)
    frames = {key: _frames(pixels, [shown[index] for index in key[0]]) for key, pixels in arrays.items()}
    return [frames[_key(plan)] for plan in plans]


def resize(rgb: np.ndarray, height: int, width: int) -> np.ndarray:
    """A picture (H, W, 3) uint8 as (height, width, 3) uint8, by antialiased bicubic interpolation.

    Where evalkit resizes frames, with the arithmetic (on integers, as torchvision has it for tensors)
    of Qwen2-VL's own video processor.
    """
    return _resized([rgb], (height, width, None))[0]


def resize_nearest(rgb: np.ndarray, height: int, width: int) -> np.ndarray:
    """A picture (H, W, 3) uint8 as (height, width, 3) uint8, each pixel that of the nearest centre, as Pillow does it.

    ReTaKe's released code shrinks its frames in this way; it aliases.
    """
    from PIL import Image

    return np.array(Image.fromarray(rgb).resize((width, height), Image.Resampling.NEAREST))


def size_of(plan: FramePlan) -> Size:
    """Height and width of a plan's frames, and the size on the way to them."""
    return plan.height, plan.width, plan.nearest


def _resized(pictures: Sequence[np.ndarray], size: Size) -> Sequence[np.ndarray]:
    """Pictures of one shape (H, W, 3) at one size, resized in one call: for small ones that is most of the time."""
    height, width, nearest = size
    if nearest is not None:
        pictures = [resize_nearest(rgb, *nearest) for rgb in pictures]
    if pictures[0].shape[:2] == (height, width):
        return pictures
    import torch

    stacked = pictures[0][None] if len(pictures) == 1 else np.stack(pictures)  # one that is large is not copied
    batch = torch.from_numpy(stacked).permute(0, 3, 1, 2)
    small = torch.nn.functional.interpolate(
        batch, size=(height, width), mode="bicubic", antialias=True, align_corners=False
    )
    return [rgb.numpy() for rgb in small.permute(0, 2, 3, 1)]


def _key(plan: FramePlan) -> Key:
    return plan.indices, size_of(plan)


def _check(plan: FramePlan, video: Video) -> None:
    indices = plan.indices
    if not indices or plan.height < 1 or plan.width < 1:
        raise ValueError(
            f"{video.path}: expected a plan with frames, got {len(indices)} of {plan.height}×{plan.width} pixels"
        )
    if any(later <= earlier for earlier, later in pairwise(indices)):
        raise ValueError(f"{video.path}: expected unique ascending frame numbers, got {indices}")
    if indices[0] < 0 or indices[-1] >= video.frames:
        raise ValueError(
            f"{video.path}: expected frame numbers in [0, {video.frames}), got {indices[0]} to {indices[-1]}"
        )


def _timeline(video: Video) -> Timeline:
    from evalkit.data.readers.timeline import scan

    file = scan(video.path)
    if len(file) != video.frames:
        raise VideoError(
            f"{video.path}: expected {video.frames} frames, found {len(file)}; the file changed, probe it again"
        )
    if video.state is not None:
        _expect_unchanged(file, video.state)
    return file


def _expect_unchanged(file: Timeline, state: tuple[int, int]) -> None:
    """VideoError where `state` is that of another file than its frames were numbered in: they may be of either."""
    if file.state != state:
        raise VideoError(f"{file.path}: the file changed while it was read; start again when nothing writes to it")


def _decoded(file: Timeline, read: Reader, wanted: Sequence[int]) -> Iterator[tuple[int, int, np.ndarray]]:
    """(wanted frame, frame shown in its place, pixels) for every wanted frame, ascending.

    What the reader leaves out is read from the beginning without seeking, by a second pass that follows the first.
    """
    from evalkit.data.readers import pyav

    lost: dict[int, int] = {}
    left_out: deque[int] = deque()
    second = pyav.nearest(file, iter(lambda: left_out.popleft() if left_out else None, None))
    with closing(read(file, wanted)) as sure, closing(second):
        found = next(sure, None)
        for index in wanted:
            if found is not None and found[0] == index:
                yield index, index, found[1]
                found = next(sure, None)
                continue
            left_out.append(index)
            near = next(second, None)
            if near is None:  # no frame of the file decodes
                raise _too_few(file, 0, len(wanted))
            if near[1] != index:
                lost[index] = near[1]
            yield near
    if 2 * len(lost) > len(wanted):
        raise _too_few(file, len(wanted) - len(lost), len(wanted))
    if lost:
        _warn(file, lost, len(wanted))


def _too_few(file: Timeline, decoded: int, wanted: int) -> VideoError:
    from evalkit.data.readers import timeline

    return VideoError(
        f"{file.path}: expected at least half of {wanted} wanted frames to decode, got {decoded}; {timeline.REPLACE}"
    )


def _warn(file: Timeline, lost: Mapping[int, int], wanted: int) -> None:
    examples = ", ".join(f"{stand_in} for {index}" for index, stand_in in list(lost.items())[:3])
    log.warning(
        "%s: %d of %d wanted frames do not decode; earlier ones stand in: %s", file.path, len(lost), wanted, examples
    )


def _place(frame: SizedFrame, arrays: Mapping[Key, np.ndarray]) -> None:
    """Put a frame into every plan that wants it."""
    for (indices, size), pixels in arrays.items():
        row = bisect_left(indices, frame.wanted)
        if row < len(indices) and indices[row] == frame.wanted:
            pixels[row] = frame.pixels[size]


def _frames(pixels: np.ndarray, shown: Sequence[tuple[int, float]]) -> Frames:
    return Frames(pixels=pixels, indices=tuple(index for index, _ in shown), seconds=tuple(at for _, at in shown))
