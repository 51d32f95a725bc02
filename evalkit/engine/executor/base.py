"""What a grid asks of an executor, and the one that answers in this process."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from evalkit.engine.encoded_video import Pending, video_path
from evalkit.method import OperatingPoint
from evalkit.types import Answer

if TYPE_CHECKING:
    from evalkit.engine.setup import EngineSetup

log = logging.getLogger(__name__)


def adapters_of(videos: Sequence[Pending]) -> frozenset[str | None]:
    """Those of all operating points that are to answer, by which the models are loaded."""
    return frozenset(point.adapter for pending in videos for point in pending)


class Given(NamedTuple):
    """An answer on its way to its run folder."""

    video: int  # position of its video among those that were handed in
    point: OperatingPoint
    answer: Answer


class Executor(ABC):
    """Answers videos, in whatever order and with whatever processes; never how they are answered.

    A video is the unit of work. Run folders belong to the caller, who alone writes: an executor hands every answer out
    as soon as it is there, each exactly once.
    """

    @abstractmethod
    def answers(self, setup: EngineSetup, videos: Sequence[Pending]) -> AbstractContextManager[Iterator[Given]]:
        """The answers to all questions of `videos`; on leaving the context nothing of this work runs any more.

        A question that cannot be answered, or whose process dies, is an answer with status `failed`. Raises ConfigError
        for what concerns the whole run, and EvalkitError where there is no process left to answer in.
        """


@dataclass(frozen=True)
class InProcess(Executor):
    """One video after the other, in this process."""

    @contextmanager
    def answers(self, setup: EngineSetup, videos: Sequence[Pending]) -> Iterator[Iterator[Given]]:
        """As Executor; no model is loaded where there is nothing to answer."""
        if videos:
            log.info("loading the backbone %s", setup.backbone.name)
            setup.source.start()
            setup.source.announce(video_path(videos[0]))  # a long file is read through while the weights are loaded
            setup.engine.frame_encoders(adapters_of(videos))  # here, so that the progress bar counts answering alone
        try:
            yield (
                Given(place, point, answer)
                for place, (pending, following) in enumerate(zip(videos, [*videos[1:], None], strict=False))
                for point, answer in setup.engine.answers(pending, following)
            )
        finally:
            setup.source.close()
