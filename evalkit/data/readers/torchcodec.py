"""torchcodec, exact seek mode; it needs FFmpeg's shared libraries on the machine."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from evalkit.data.readers import threads
from evalkit.data.readers.timeline import REPLACE, Timeline
from evalkit.errors import ConfigError, VideoError

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    import numpy as np

log = logging.getLogger(__name__)


def read(timeline: Timeline, wanted: Sequence[int]) -> Generator[tuple[int, np.ndarray]]:
    """(frame number, upright RGB) of the `wanted` frames that decode and carry the time that the file gives them."""
    decoder = _decoder(timeline)
    for index in wanted:
        try:
            frame = decoder.get_frame_at(index)
        except (IndexError, RuntimeError) as error:
            log.debug("%s: torchcodec does not decode frame %d: %s", timeline.path, index, error)
            continue
        # Behind an edit list or a key frame that does not restore the whole picture it returns another frame.
        expected = float(timeline.ticks[index] * timeline.time_base)
        if abs(frame.pts_seconds - expected) < float(timeline.time_base) / 2:
            yield index, frame.data.numpy()


def _decoder(timeline: Timeline) -> Any:
    try:
        from torchcodec.decoders import VideoDecoder
    except (ImportError, OSError, RuntimeError) as error:
        raise ConfigError(
            "reader=torchcodec: expected torchcodec and the FFmpeg shared libraries (libavcodec and its kin), "
            f"which do not load here; install FFmpeg (4 to 8) or set reader=pyav. torchcodec says: {error}"
        ) from error
    try:
        # frame by frame: a batch call would hold all frames at full size
        return VideoDecoder(
            str(timeline.path.absolute()),
            dimension_order="NHWC",
            num_ffmpeg_threads=threads.count(),
            seek_mode="exact",
        )
    except (RuntimeError, ValueError) as error:
        raise VideoError(
            f"{timeline.path}: torchcodec cannot open it: {error}; set reader=pyav, or {REPLACE}"
        ) from error
