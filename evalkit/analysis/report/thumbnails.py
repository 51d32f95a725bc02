"""Small pictures of the frames that methods kept, one image a video, as many as a page may hold."""

from __future__ import annotations

import base64
import io
from bisect import bisect_left
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from PIL import Image

from evalkit.analysis.grid.measured_points import ALL
from evalkit.analysis.report.flips import changes
from evalkit.data.decoding.process import DecodeInChild
from evalkit.data.video import size_of
from evalkit.errors import EvalkitError
from evalkit.progress import progress
from evalkit.types import FramePlan

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy as np

    from evalkit.analysis.grid.measured_points import Key
    from evalkit.analysis.report.setup import SetupView, VideoKey
    from evalkit.types import KeptOverTime

MEGABYTE = 1_000_000
WIDTH = 80  # pixels of one picture
SHOWN = 12  # cells of each strip, evenly among the kept ones
MOST = 240  # pictures of a video: query-aware methods keep other frames for every question
COLUMNS = 12
QUALITY = 50


@dataclass(frozen=True)
class Sprite:
    """The pictures of one video, row by row in one image, and which of them show what was kept."""

    image: str = field(repr=False)  # WebP in base64, as it stands in the page
    height: int  # pixels of one picture
    seconds: tuple[float, ...]  # of each picture, ascending
    tiles: Mapping[KeptOverTime, tuple[int, ...]] = field(repr=False)  # places of pictures, ascending

    def plain(self) -> dict[str, Any]:
        """Values for the page's script."""
        size = {"height": self.height, "width": WIDTH, "columns": min(COLUMNS, len(self.seconds))}
        return {"image": self.image, **size, "seconds": [round(second, 1) for second in self.seconds]}


@dataclass(frozen=True)
class _Wanted:
    """A video of which pictures could be shown."""

    view: int  # its place
    video: VideoKey
    path: Path | None  # None: not where the run found it
    flips: int
    shown: Mapping[KeptOverTime, tuple[float, ...]]  # seconds of the pictures for each thing kept


def thumbnails(
    views: Sequence[SetupView], paths: Sequence[Mapping[VideoKey, Path]], megabytes: float
) -> tuple[list[dict[VideoKey, Sprite]], str]:
    """Sprites of each view's videos, and one line that says which videos have none; `paths` are the files.

    Together they take up to `megabytes` in the page; videos with most flipped questions come first. A video that is
    not there is no error: answers are often read where no videos are.
    """
    sprites: list[dict[VideoKey, Sprite]] = [{} for _ in views]
    wanted = _wanted(views, paths) if megabytes > 0 else []
    unread, left = 0, megabytes * MEGABYTE
    with progress(len(wanted), "video") as bar, closing(DecodeInChild()) as source:
        for one in wanted:
            sprite = _sprite(one, source)
            unread += sprite is None
            left -= 0 if sprite is None else len(sprite.image)
            if left < 0:
                break
            if sprite is not None:
                sprites[one.view][one.video] = sprite
            bar.update()
    return sprites, _note(len(wanted), sum(map(len, sprites)), unread, megabytes)


def _note(wanted: int, shown: int, unread: int, megabytes: float) -> str:
    if not wanted:
        why = "what was kept is not in these answers" if megabytes > 0 else "they were turned off"
        return f"No thumbnails: {why}."
    if not shown and unread:
        return "No thumbnails: no video could be read below the benchmark.root of config.yaml."
    parts = [f"Thumbnails of {shown} of {wanted} videos, those with most flipped questions first"]
    parts += [f"{unread} could not be read"] if unread else []
    parts += [f"the others would take more than {megabytes:g} MB"] if shown + unread < wanted else []
    return "; ".join(parts) + "."


def _wanted(views: Sequence[SetupView], paths: Sequence[Mapping[VideoKey, Path]]) -> list[_Wanted]:
    """Every video of which something was kept, those with most flipped questions first."""
    found = []
    for place, (view, files) in enumerate(zip(views, paths, strict=True)):
        flipped = _flipped(view)
        for video, keys in view.videos.items():
            flips = sum(flipped[key] for key in keys)
            if shown := _shown(view, sorted(keys, key=lambda key: not flipped[key])):
                found.append(_Wanted(place, video, files.get(video), flips, shown))
    return sorted(found, key=lambda one: -one.flips)


def _flipped(view: SetupView) -> Counter[Key]:
    """At how many operating points each question flips, against the dense run of its benchmark."""
    flipped: Counter[Key] = Counter()
    for own in view.sets:
        if own.name != ALL and own.dense is not None:
            for point in own.points:
                flipped.update(key for key, change in changes(point, own.dense).items() if change)
    return flipped


def _sprite(one: _Wanted, source: DecodeInChild) -> Sprite | None:
    """The pictures of one video; None where it cannot be read."""
    try:
        return None if one.path is None else _drawn(one.path, one.shown, source)
    except EvalkitError:
        return None


def _shown(view: SetupView, keys: Sequence[Key]) -> dict[KeptOverTime, tuple[float, ...]]:
    """Seconds of the pictures for what was kept, question by question, until there are `MOST` of them."""
    shown: dict[KeptOverTime, tuple[float, ...]] = {}
    pictures: set[float] = set()
    for answer in (answer for key in keys for answer in view.answers(key)):
        if answer is not None and answer.kept is not None and answer.kept.seconds:
            seconds = _evenly(sorted(set(answer.kept.seconds)))
            if len(pictures.union(seconds)) <= MOST:
                pictures.update(seconds)
                shown[answer.kept] = seconds
    return shown


def _evenly(seconds: Sequence[float]) -> tuple[float, ...]:
    """`SHOWN` of them at most, the first and the last among them."""
    last, count = len(seconds) - 1, min(SHOWN, len(seconds))
    return tuple(seconds[round(place * last / max(1, count - 1))] for place in range(count))


def _drawn(path: Path, shown: Mapping[KeptOverTime, tuple[float, ...]], source: DecodeInChild) -> Sprite:
    video = source.probed(path)
    moments = [video.shown_at(index) for index in range(video.frames)]
    frames = {second: _nearest(moments, second) for seconds in shown.values() for second in seconds}
    indices = tuple(sorted(set(frames.values())))
    height = max(1, round(WIDTH * video.height / video.width))
    plan = FramePlan(indices=indices, height=height, width=WIDTH)
    pictures = [frame.pixels[size_of(plan)] for frame in source.frames(video, [plan], "pyav")]
    places = {index: place for place, index in enumerate(indices)}
    return Sprite(
        image=_image(pictures),
        height=height,
        seconds=tuple(moments[index] for index in indices),
        tiles={kept: tuple(places[frames[second]] for second in seconds) for kept, seconds in shown.items()},
    )


def _nearest(moments: Sequence[float], second: float) -> int:
    after = min(bisect_left(moments, second), len(moments) - 1)
    return min((max(0, after - 1), after), key=lambda index: abs(moments[index] - second))


def _image(pictures: Sequence[np.ndarray]) -> str:
    """Pictures (height, width, 3) side by side, `COLUMNS` a row, as WebP in base64."""
    count, (height, width, _) = len(pictures), pictures[0].shape
    columns = min(COLUMNS, count)
    sheet = Image.new("RGB", (columns * width, -(-count // columns) * height))
    for place, picture in enumerate(pictures):
        sheet.paste(Image.fromarray(picture), (place % columns * width, place // columns * height))
    file = io.BytesIO()
    sheet.save(file, "WEBP", quality=QUALITY, method=4)
    return base64.b64encode(file.getvalue()).decode("ascii")
