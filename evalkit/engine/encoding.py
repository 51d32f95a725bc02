"""From a video's frames, as they come, to the visual tokens of every operating point."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

import torch

from evalkit.data.video import size_of
from evalkit.engine.encoded_clips import EncodedClips
from evalkit.engine.encoded_video import EncodedVideo, PlannedVideo
from evalkit.engine.stage_times import Clock, Meter
from evalkit.model.shared_weights import encoder_tensors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from evalkit.data.decoding.source import FrameStream
    from evalkit.data.video import SizedFrame
    from evalkit.encoder_view import Need
    from evalkit.engine.frame_encoder import FrameEncoder
    from evalkit.engine.slice_encoder import SliceEncoder
    from evalkit.errors import MethodError
    from evalkit.method import OperatingPoint
    from evalkit.types import Question, Video, VisualTokens

    FrameEncoderOf = Mapping[str | None, FrameEncoder]  # by adapter
    Refused = tuple[OperatingPoint, Sequence[Question], MethodError]  # whose method makes no plan for these questions

T = TypeVar("T")


@dataclass
class FrameSet:
    """Operating points that want the same frames from the very same vision weights: they are encoded once."""

    encoder: FrameEncoder
    planned: list[PlannedVideo]
    clock: Clock
    clips: EncodedClips  # of all sets of one size and encoder; one that is found counts as if it were encoded here
    peak_bytes: int = 0
    error: Exception | None = None  # of the encoder: it costs these operating points alone
    slices: SliceEncoder | None = field(init=False, default=None)  # None: no frames are wanted, or all are encoded
    tokens: VisualTokens | None = field(init=False, default=None)
    stand_ins: int = field(init=False, default=0)  # frames that others were shown for

    def __post_init__(self) -> None:
        plan = self.planned[0].frames
        self.indices, self.size = frozenset(plan.indices), size_of(plan)
        needs: frozenset[Need] = frozenset().union(*(one.point.method.needs for one in self.planned))
        self._reading: dict[Need, Clock] = {}  # seconds of reading the encoder
        if plan.indices:
            self.slices = self.encoder.slices(plan, needs, self._read, self.clips)

    def add(self, frame: SizedFrame) -> None:
        """A frame, which is not wanted here perhaps; a slice that is full is encoded."""
        if self.slices is not None and frame.wanted in self.indices:
            self.stand_ins += frame.shown != frame.wanted
            self.slices.hold(frame.pixels[self.size], frame.seconds)
            if self.slices.full:
                self._measured(self.slices.encode_next)

    def finish(self, video: Video) -> None:
        """All frames have come."""
        if (slices := self.slices) is not None:
            plan = self.planned[0].frames
            self.tokens = self._measured(lambda: self.encoder.tokens(video, plan, slices))
            self.slices = None

    def _read(self, need: Need) -> AbstractContextManager[None]:
        """Around the work for one need, which is a part of encoding."""
        return self._reading.setdefault(need, Clock(self.clock.meter)).stage("encode")

    def _measured(self, encode: Callable[[], T]) -> T | None:
        """What the encoder gives; None where it raises, which is kept as `error`."""
        assert self.slices is not None
        meter, slices = self.clock.meter, self.slices
        before, reused = self.clock.spent["encode"], slices.reused
        meter.reset_peak()
        try:
            with torch.inference_mode(), self.clock.stage("encode"):
                return encode()
        except Exception as error:  # noqa: BLE001 – recorded as failed rows, never the end of a run
            self.error, self.slices = error, None
            return None
        finally:
            self.clips.seconds += self.clock.spent["encode"] - before
            self.clock.spent["encode"] += (slices.reused - reused) * self.clips.seconds_each
            self.peak_bytes = max(self.peak_bytes, meter.peak_bytes())

    def encoded(self, video: Video, decoding: Clock, *, shared: bool) -> EncodedVideo:
        """For its operating points, which alone hold the tokens from now on. Raises what the encoder raised."""
        if self.error is not None:
            raise self.error
        first, tokens = self.planned[0], self.tokens
        self.tokens = None
        # who did not ask does not pay
        self.clock.spent["encode"] -= sum(clock.spent["encode"] for clock in self._reading.values())
        dense, clocks = first.budget.frames, (decoding, self.clock)  # the frames are the same at every ratio
        return EncodedVideo(
            video, first.frames, dense, tokens, clocks, self.peak_bytes, self._reading, shared, self.stand_ins
        )


@dataclass(frozen=True)
class BegunVideo:
    """One video whose frames are being decoded."""

    video: Video
    sets: list[FrameSet]
    refused: Sequence[Refused]
    stream: FrameStream  # every frame that a set wants


def frame_sets(planned: Sequence[PlannedVideo], encoders: FrameEncoderOf, meter: Meter) -> list[FrameSet]:
    """The distinct sets of frames, in the order of the operating points that first want them."""
    models = {id(one.backbone): one.backbone for one in planned}
    tensors = {key: encoder_tensors(model) for key, model in models.items()} if len(models) > 1 else {}

    def same_weights(one: PlannedVideo, other: PlannedVideo) -> bool:
        return tensors.get(id(one.backbone)) == tensors.get(id(other.backbone))

    groups: list[list[PlannedVideo]] = []
    for one in planned:
        for group in groups:
            if group[0].frames == one.frames and same_weights(group[0], one):
                group.append(one)
                break
        else:
            groups.append([one])
    sets: list[FrameSet] = []
    for first, *others in groups:
        alike = (one for one in sets if one.size == size_of(first.frames) and same_weights(one.planned[0], first))
        clips = next((one.clips for one in alike), EncodedClips())
        sets.append(FrameSet(encoders[first.point.adapter], [first, *others], Clock(meter), clips))
    return sets


def take_frames(frames: Iterator[SizedFrame], sets: Sequence[FrameSet]) -> None:
    """Take all frames of a video, and encode what makes up whole slices as they come. Raises VideoError."""
    for frame in frames:
        for one in sets:
            one.add(frame)


def finish_sets(video: Video, sets: Sequence[FrameSet]) -> None:
    """Encode what is left when all frames have been taken; a clip of several sets is encoded once."""
    for one in sets:
        one.finish(video)
    for one in sets:
        one.clips.forget()
