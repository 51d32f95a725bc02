"""One video, top to bottom: decode, encode, select, prefill, and every question's answer for every operating point.

An operating point is one method at one ratio, on the backbone's weights or on tuned ones of its own. With sharing, the
frames of all operating points come from one decoding pass, each distinct set of frames is encoded once by each vision
encoder, and each operating point prefills the video once for all its questions. Without it, the same code runs with one
operating point and one question at a time, so that sharing cannot change an answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch

from evalkit.data.decoding.source import DecodeInProcess, FrameSource
from evalkit.engine import replies
from evalkit.engine.encoded_video import EncodedVideo, Pending, PlannedVideo, PrefilledVideo, video_path
from evalkit.engine.encoding import BegunVideo, FrameSet, finish_sets, frame_sets, take_frames
from evalkit.engine.failures import joined, lost
from evalkit.engine.prefill import Prefiller, in_turn
from evalkit.engine.prefixes import Prefixes
from evalkit.engine.prompts import Prompts
from evalkit.engine.stage_times import Clock, Meter
from evalkit.errors import MethodError
from evalkit.method import OperatingPoint
from evalkit.types import Answer, Question, Video

if TYPE_CHECKING:
    from evalkit.data.protocols import Protocol
    from evalkit.engine.encoding import Refused
    from evalkit.engine.frame_encoder import FrameEncoder
    from evalkit.engine.models import FrameEncoders
    from evalkit.engine.prompts import Unasked


@dataclass(frozen=True, kw_only=True)
class Engine:
    """Everything that all operating points of a run have in common."""

    frame_encoders: FrameEncoders
    protocol: Protocol
    chunk_cells: int | None = 16  # cells per prefill chunk; None: the whole video at once
    share: bool = True
    gauge: Meter | None = None  # None: the backbone's device
    source: FrameSource = field(default_factory=DecodeInProcess)
    # the video that is decoded while the one before it is answered, or what is wrong with it
    _ahead: list[tuple[Pending, BegunVideo | Exception]] = field(default_factory=list, repr=False)
    _unasked: Unasked = field(default_factory=dict, repr=False)

    @property
    def frame_encoder(self) -> FrameEncoder:
        """That of the backbone as it is."""
        return self.frame_encoders((None,))[None]

    @property
    def meter(self) -> Meter:
        """What counts seconds and memory."""
        return self.gauge or Meter(self.frame_encoder.backbone.device)

    def answers(self, pending: Pending, following: Pending | None = None) -> Iterator[tuple[OperatingPoint, Answer]]:
        """Answer the questions of ONE video, given per operating point. Failures are answers with status `failed`.

        `following`: what is answered next. Where frames are decoded in another process, its decoding is begun as soon
        as the last frame of this video has come. Raises ConfigError, which concerns the whole run.
        """
        if self.share:
            yield from self._together(pending, following if self.source.ahead else None)
            return
        for point, questions in pending.items():
            for question in questions:
                yield from self._together({point: [question]})

    def _together(self, pending: Pending, following: Pending | None = None) -> Iterator[tuple[OperatingPoint, Answer]]:
        begun = self._taken(pending)
        failure = begun if isinstance(begun, Exception) else _error(lambda: self._take_frames(begun, following))
        if following is not None:  # before what is left is encoded, so that the other process has work meanwhile
            self._ahead.append((following, self._begin(following)))
        if isinstance(begun, Exception):
            yield from lost(pending, begun)
            return
        failure = failure or _error(lambda: finish_sets(begun.video, begun.sets))
        for point, batch, error in begun.refused:
            yield from lost({point: batch}, error)
        if failure is not None:
            yield from lost(joined(one for frames in begun.sets for one in frames.planned), failure)
            return
        shared = sum(map(len, pending.values())) > 1
        union = len({index for one in begun.sets for index in one.indices})
        prompts, prefixes = Prompts(self.protocol, self._unasked), Prefixes()
        for one in begun.sets:
            decoding = Clock(self.meter)
            decoding.spent["decode"] = begun.stream.seconds * len(one.indices) / max(1, union)
            yield from self._answer_set(one, begun.video, decoding, prompts, prefixes, shared=shared)

    def _taken(self, pending: Pending) -> BegunVideo | Exception:
        """A video that has been begun ahead, or is begun now."""
        ahead = [begun for asked, begun in self._ahead if asked is pending]
        self._ahead.clear()
        return ahead[0] if ahead else self._begin(pending)

    def _begin(self, pending: Pending) -> BegunVideo | Exception:
        """Plan one video's frames and have them decoded; what went wrong is for its turn."""
        try:
            encoders = self.frame_encoders({point.adapter for point in pending})
            video = self.source.probe(video_path(pending))
            planned: list[PlannedVideo] = []
            refused: list[Refused] = []
            batches = [(point, batch) for point, asked in pending.items() for batch in _planned_alike(point, asked)]
            for point, batch in batches:
                try:
                    seen = replace(video, frame_scores=batch[0].frame_scores)
                    planned.append(replace(encoders[point.adapter].plan(point, seen), questions=batch))
                except MethodError as error:  # this method makes no plan here, the others do
                    refused.append((point, batch, error))
            plans = [one.frames for one in planned if one.frames.indices]
            reader = next(iter(encoders.values())).reader
            stream = self.source.frames(video, plans, reader, self.meter.now)
            return BegunVideo(video, frame_sets(planned, encoders, self.meter), refused, stream)
        except Exception as error:  # noqa: BLE001 – one bad video becomes recorded rows, never the end of a run
            return error

    def _take_frames(self, begun: BegunVideo, following: Pending | None) -> None:
        """Take a video's frames, most of which are encoded as they come."""
        if following is not None:
            self.source.announce(video_path(following))
        take_frames(begun.stream, begun.sets)

    def _answer_set(
        self, frames: FrameSet, video: Video, decoding: Clock, prompts: Prompts, prefixes: Prefixes, *, shared: bool
    ) -> Iterator[tuple[OperatingPoint, Answer]]:
        """The answers of all operating points that want the same frames."""
        try:
            encoded = frames.encoded(video, decoding, shared=shared)
        except Exception as error:  # noqa: BLE001 – as above
            yield from lost(joined(frames.planned), error)
            return
        prefiller = Prefiller(prompts, prefixes, self.meter, self.chunk_cells)
        turns = in_turn(frames.planned)
        for place, one in enumerate(turns, 1):
            yield from self._answer_all(one, encoded.seen_by(one.point.method), prompts, prefiller, turns[place:])

    def _answer_all(
        self,
        planned: PlannedVideo,
        encoded: EncodedVideo,
        prompts: Prompts,
        prefiller: Prefiller,
        later: Sequence[PlannedVideo],
    ) -> Iterator[tuple[OperatingPoint, Answer]]:
        """One operating point's answers: from one prefilled cache, or from one for each question where it is query
        aware, unless it chose the same tokens for the question before.
        """
        attention = prefiller.question_attention(planned, encoded)
        for batch in [[q] for q in planned.questions] if planned.point.method.query_aware else [planned.questions]:
            try:
                with torch.inference_mode():
                    prefilled = prefiller.prefill(planned, encoded, attention, batch, later)
            except Exception as error:  # noqa: BLE001 – as above
                yield from lost({planned.point: batch}, error)
            else:
                yield from self._batch(prefilled, batch, prompts)
                del prefilled  # its cache may make room for the next

    def _batch(
        self, prefilled: PrefilledVideo, questions: Sequence[Question], prompts: Prompts
    ) -> Iterator[tuple[OperatingPoint, Answer]]:
        try:
            with torch.inference_mode():
                read = replies.read_together(prefilled, questions, prompts, self.meter)
        except Exception:  # noqa: BLE001 – what went wrong is met again, and recorded, where it is fed alone
            read = {}
        for question in questions:
            try:
                with torch.inference_mode():
                    own = read.pop(question.id, None)
                    answer = replies.answer(prefilled, question, prompts, self.meter, own)
            except Exception as error:  # noqa: BLE001 – as above
                yield from lost({prefilled.point: [question]}, error)
            else:
                yield prefilled.point, answer


def _error(work: Callable[[], None]) -> Exception | None:
    """What went wrong with a video; None where nothing did."""
    try:
        work()
    except Exception as error:  # noqa: BLE001 – as above
        return error
    return None


def _planned_alike(point: OperatingPoint, questions: Sequence[Question]) -> list[tuple[Question, ...]]:
    """Questions for which a method wants the same frames: all of them, unless it chooses frames for each."""
    return [(one,) for one in questions] if point.method.needs_frame_scores else [tuple(questions)]
