"""decord 0.6, kept for parity with numbers that were made by it.

It loses its place in containers without an index, which are refused; its seek and its skip return wrong frames in open
GOPs, which are read frame by frame. A stream that is refreshed bit by bit (H.264 intra refresh) does not show in the
timeline and comes out wrong: read it by PyAV.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from evalkit.data.readers.timeline import REPLACE, Timeline
from evalkit.errors import ConfigError, VideoError

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    import numpy as np

log = logging.getLogger(__name__)

INDEXED = ("mov", "matroska")  # mp4 and its kin, mkv and webm


def read(timeline: Timeline, wanted: Sequence[int]) -> Generator[tuple[int, np.ndarray]]:
    """(frame number, RGB) of the `wanted` frames that decode. VideoError where decord misreads the file."""
    decord, video = _open(timeline)
    position = 0
    for index in wanted:
        try:
            if timeline.has_leading:
                for _ in range(index - position):
                    video.next()
            rgb: np.ndarray = (video.next() if timeline.has_leading else video[index]).asnumpy()
            position = index + 1
        except (decord.DECORDError, StopIteration) as error:
            log.debug("%s: decord stops at frame %d: %s", timeline.path, index, error)
            return  # where it stands now is unknown
        if rgb.shape[-1] != 3:  # videos turned by 90 degrees come as four channels of noise
            raise _refused(timeline, f"expected 3 colour channels, got {rgb.shape[-1]} (a video shot on its side?)")
        yield index, rgb


def _open(timeline: Timeline) -> tuple[Any, Any]:
    try:
        import decord
    except (ImportError, OSError) as error:
        raise ConfigError(
            f"reader=decord: decord does not load here ({error}); install it or set reader=pyav"
        ) from error
    if not timeline.container.startswith(INDEXED):
        raise _refused(timeline, f"expected an mp4, mov, mkv or webm, got {timeline.container}")
    try:
        video = decord.VideoReader(str(timeline.path.absolute()))
    except (decord.DECORDError, RuntimeError) as error:
        raise _refused(timeline, f"it cannot be opened; decord knows no AV1 and no cut-off files ({error})") from error
    if len(video) != len(timeline):  # an edit list hides frames; decord numbers those too
        raise _refused(timeline, f"expected {len(timeline)} frames, decord counts {len(video)}")
    return decord, video


def _refused(timeline: Timeline, came: str) -> VideoError:
    return VideoError(f"{timeline.path}: not readable with reader=decord: {came}; set reader=pyav, or {REPLACE}")
