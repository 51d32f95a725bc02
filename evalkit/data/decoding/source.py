"""What the engine asks of whatever decodes, and the plain form that decodes in the engine's own process."""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from evalkit.data import video as video_file

if TYPE_CHECKING:
    from pathlib import Path

    from evalkit.data.video import SizedFrame
    from evalkit.types import FramePlan, Video

    Now = Callable[[], float]  # seconds from an arbitrary start

log = logging.getLogger(__name__)


class FrameStream(ABC, Iterator["SizedFrame"]):
    """The frames of one video on their way, ascending; `seconds` of decoding are complete when the last has come."""

    seconds: float = 0.0


class FrameSource(ABC):
    """Decodes one video after the other."""

    ahead: bool = False  # whether a video may be begun while another is answered
    tolerate_short: bool = False  # whether a video is taken of which less is there than its file announces

    def start(self) -> None:  # noqa: B027 – nothing to start where nothing runs beside
        """Be ready for the first video sooner; else what runs is started when it is needed."""

    def announce(self, path: Path) -> None:  # noqa: B027 – likewise
        """`path` is the next that will be probed."""

    def probe(self, path: Path) -> Video:
        """What is known of a video before decoding. VideoError as `evalkit.data.video.probe`, and for a short one,
        unless those are tolerated.
        """
        video = self.probed(path)
        if not self.tolerate_short:
            video_file.expect_whole(video)
        elif video.short:
            log.warning("%s: %s; what is there is shown, and the answers say so", path, video.short)
        return video

    @abstractmethod
    def probed(self, path: Path) -> Video:
        """The same, whatever is there."""

    @abstractmethod
    def frames(
        self, video: Video, plans: Sequence[FramePlan], reader: str, now: Now = time.perf_counter
    ) -> FrameStream:
        """What `evalkit.data.video.sized_frames` yields, begun at once where something runs ahead.

        `now` counts the seconds of decoding where they are spent in this process.
        """

    def close(self) -> None:  # noqa: B027 – likewise
        """End what runs beside; it starts again when it is needed."""


class DecodeInProcess(FrameSource):
    """Frames are decoded when they are asked for."""

    def __init__(self, *, tolerate_short: bool = False) -> None:
        self.tolerate_short = tolerate_short

    def probed(self, path: Path) -> Video:
        """As FrameSource."""
        return video_file.probe(path)

    def frames(
        self, video: Video, plans: Sequence[FramePlan], reader: str, now: Now = time.perf_counter
    ) -> FrameStream:
        """As FrameSource."""
        return _Timed(video_file.sized_frames(video, plans, reader), now)


class _Timed(FrameStream):
    def __init__(self, frames: Iterator[SizedFrame], now: Now) -> None:
        self._frames, self._now = frames, now

    def __next__(self) -> SizedFrame:
        start = self._now()
        try:
            return next(self._frames)
        finally:
            self.seconds += self._now() - start
