"""Videos as files: what is known before decoding, and exact frames by number with true times.

One pass decodes what all plans of a grid want. Frames shrink to their plan's size as they are decoded, so memory is
that of the output and a few full-size frames, however long the video is.
"""

from __future__ import annotations

import logging
from bisect import bisect_left
from contextlib import closing
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from evalkit.data.readers import reader_named
from evalkit.errors import VideoError
from evalkit.types import FramePlan, Frames, Video

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
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
    from evalkit.data.readers import pyav, timeline

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
    )


def decode(video: Video, plans: Sequence[FramePlan], reader: str = "pyav") -> list[Frames]:
    """The frames of every plan, (F, plan.height, plan.width, 3) uint8 RGB in the order of its indices, in one pass.

    Exactly as many frames as asked. Where one does not decode, the last earlier one that does stands in for it; then
    `indices` and `seconds` are those of the stand-in and a warning is logged. Equal plans share one `Frames`.

    Raises ValueError for a plan outside the video, ConfigError for an unknown reader, VideoError where the file cannot
    be read or more than half of the wanted frames do not decode.
    """
    for plan in plans:
        _check(plan, video)
    read = reader_named(reader)
    arrays = {_key(plan): np.empty((len(plan.indices), plan.height, plan.width, 3), np.uint8) for plan in plans}
    if not arrays:
        return []
    file = _timeline(video)
    shown: dict[int, int] = {}
    for index, stand_in, rgb in _shots(file, read, sorted({index for plan in plans for index in plan.indices})):
        shown[index] = stand_in
        _place(index, rgb, arrays)
    frames = {key: _frames(file, pixels, [shown[index] for index in key[0]]) for key, pixels in arrays.items()}
    return [frames[_key(plan)] for plan in plans]


def resize(rgb: np.ndarray, height: int, width: int) -> np.ndarray:
    """A picture (H, W, 3) uint8 as (height, width, 3) uint8, by antialiased bicubic interpolation.

    Where evalkit resizes frames, with the arithmetic (on integers, as torchvision has it for tensors)
    of Qwen2-VL's own video processor.
    """
    if rgb.shape[:2] == (height, width):
        return rgb
    import torch

    picture = torch.from_numpy(rgb).permute(2, 0, 1)[None]
    size = (height, width)
    small = torch.nn.functional.interpolate(picture, size=size, mode="bicubic", antialias=True, align_corners=False)
    return small[0].permute(1, 2, 0).numpy()


def resize_nearest(rgb: np.ndarray, height: int, width: int) -> np.ndarray:
    """A picture (H, W, 3) uint8 as (height, width, 3) uint8, each pixel that of the nearest centre, as Pillow does it.

    ReTaKe's released code shrinks its frames in this way; it aliases.
    """
    from PIL import Image

    return np.array(Image.fromarray(rgb).resize((width, height), Image.Resampling.NEAREST))


def _key(plan: FramePlan) -> Key:
    return (plan.indices, (plan.height, plan.width, plan.nearest))


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
    return file


def _shots(file: Timeline, read: Reader, wanted: Sequence[int]) -> Iterator[tuple[int, int, np.ndarray]]:
    """(wanted frame, frame shown in its place, pixels) for every wanted frame, each once."""
    missing = set(wanted)
    with closing(read(file, wanted)) as shots:
        for index, rgb in shots:
            missing.discard(index)
            yield index, index, rgb
    if missing:
        yield from _second_pass(file, sorted(missing), len(wanted))


def _second_pass(file: Timeline, missing: Sequence[int], wanted: int) -> Iterator[tuple[int, int, np.ndarray]]:
    """What the reader was not sure of, read from the beginning without seeking; stand-ins for what does not decode."""
    from evalkit.data.readers import pyav, timeline

    lost = dict.fromkeys(missing, -1)
    with closing(pyav.nearest(file, missing)) as shots:
        for index, stand_in, rgb in shots:
            lost[index] = stand_in
            yield index, stand_in, rgb
    lost = {index: stand_in for index, stand_in in lost.items() if index != stand_in}
    if 2 * len(lost) > wanted or -1 in lost.values():
        raise VideoError(
            f"{file.path}: expected at least half of {wanted} wanted frames to decode, "
            f"got {wanted - len(lost)}; {timeline.REPLACE}"
        )
    if lost:
        examples = ", ".join(f"{stand_in} for {index}" for index, stand_in in list(lost.items())[:3])
        log.warning(
            "%s: %d of %d wanted frames do not decode; earlier ones stand in: %s",
            file.path,
            len(lost),
            wanted,
            examples,
        )


def _place(index: int, rgb: np.ndarray, arrays: Mapping[Key, np.ndarray]) -> None:
    """Put a frame into every plan that wants it, resized once per size."""
    sizes: dict[Size, np.ndarray] = {}
    for (indices, size), pixels in arrays.items():
        row = bisect_left(indices, index)
        if row == len(indices) or indices[row] != index:
            continue
        if size not in sizes:
            height, width, nearest = size
            sizes[size] = resize(rgb if nearest is None else resize_nearest(rgb, *nearest), height, width)
        pixels[row] = sizes[size]


def _frames(file: Timeline, pixels: np.ndarray, shown: Sequence[int]) -> Frames:
    return Frames(pixels=pixels, indices=tuple(shown), seconds=tuple(file.seconds(index) for index in shown))
