"""An engine without a model for tests of worker processes: what it does with a video, the video's id says."""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import signal
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from unittest.mock import patch

from evalkit.engine.executor import forking
from evalkit.engine.executor.pool import Pool
from evalkit.engine.executor.process import Processes, ProcessWorker
from evalkit.errors import ConfigError, VideoError
from evalkit.method import Method, OperatingPoint
from evalkit.types import Answer, Question

if TYPE_CHECKING:
    from evalkit.data.decoding.process import DecodeInChild

POINTS = [OperatingPoint("all", Method(), 1.0), OperatingPoint("all", Method(), 0.5)]


@dataclass(frozen=True)
class StubFactory:
    """Builds the engine; `folder` is where it notes what it was asked."""

    folder: Path
    fails: str = ""

    def __call__(self) -> StubEngine:
        """The engine, unless it is to fail."""
        if self.fails == "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.fails in ("decodes", "unprotected"):
            return StubEngine(self.folder, source=self._stopped_decoder())
        if self.fails:
            raise ConfigError(self.fails)
        return StubEngine(self.folder)

    def _stopped_decoder(self) -> DecodeInChild:
        """Notes this process and one that decodes, which is stopped; `unprotected`: this one may outlive its parent."""
        from evalkit.data.decoding.process import DecodeInChild

        if self.fails == "unprotected":
            fcntl.fcntl(multiprocessing.parent_process().sentinel, fcntl.F_SETFL, 0)  # type: ignore[union-attr]
        source = DecodeInChild()
        with suppress(VideoError):
            source.probe(self.folder / "nothing")  # by whose answer it is known to serve
        os.kill(source.process_id, signal.SIGSTOP)
        os.waitid(os.P_PID, source.process_id, os.WSTOPPED | os.WNOWAIT)
        (self.folder / "processes").write_text(f"{os.getpid()} {source.process_id}")
        return source


@dataclass(frozen=True)
class StubEngine:
    """Answers with the question's id; after each answer it does what the video's id asks for."""

    folder: Path
    source: object = None  # kept, as its process ends with it
    _announced: dict[str, object] = field(default_factory=dict)

    def frame_encoders(self, adapters: Collection[str | None]) -> None:
        """Nothing to load."""

    def answers(
        self,
        pending: Mapping[OperatingPoint, Sequence[Question]],
        following: Mapping[OperatingPoint, Sequence[Question]] | None = None,
    ) -> Iterator[tuple[OperatingPoint, Answer]]:
        self._note("followed", f"{_video(pending)} {_video(following)} {pending is self._announced.get('video')}")
        self._announced["video"] = following
        for point, questions in pending.items():
            for question in questions:
                if question.id == "less:1":
                    continue
                self._note("asked", f"{question.video_id} {point.ratio:g} {question.id}")
                yield point, self._answered(point, question)
                self._after(question.video_id)

    def _note(self, file: str, text: str) -> None:
        with (self.folder / file).open("a") as notes:
            notes.write(f"{os.getpid()} {text}\n")

    def _answered(self, point: OperatingPoint, question: Question) -> Answer:
        right: Any = answered(point, question)
        match question.video_id.split("-")[0]:
            case "unasked":
                return replace(right, question_id="another")
            case "other":
                return replace(right, video_id="another")
            case "twice":
                return replace(right, question_id=f"{question.video_id}:0")
            case "nothing":
                return None  # type: ignore[return-value]
        return cast(Answer, right)

    def _after(self, video: str) -> None:
        mark = self.folder / video
        match video.split("-")[0]:
            case "dies" | "once" if not (video.startswith("once") and mark.exists()):
                mark.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            case "stops" | "stopped" if not (video.startswith("stopped") and mark.exists()):
                mark.touch()
                os.kill(os.getpid(), signal.SIGSTOP)
            case "setting":
                raise ConfigError("a setting is wrong")
            case "defect":
                raise ZeroDivisionError("a defect")
            case "waits":
                signal.pause()


def pool_of(*factories: StubFactory, deadline: float = 60.0, forked: bool = False) -> Pool[ProcessWorker]:
    """A worker process for each. `forked`: of a process that has loaded none of the libraries it is for."""
    with patch.object(forking, "LIBRARIES", ()):
        return Pool(Processes(factories, forked=forked), len(factories), deadline)


def _video(pending: Mapping[OperatingPoint, Sequence[Question]] | None) -> str:
    return "-" if pending is None else next(iter(pending.values()))[0].video_id


def question(video: str, number: int) -> Question:
    """Question `number` about a video that is not there."""
    return Question(
        benchmark="mlvu",
        id=f"{video}:{number}",
        video_id=video,
        video_path=Path("nowhere") / video,
        text="?",
        options=("one", "two"),
        answer="A",
        groups={},
        row={},
    )


def videos(*names: str, questions: int = 2) -> list[dict[OperatingPoint, list[Question]]]:
    """Every video with its questions for both operating points."""
    return [{point: [question(name, n) for n in range(questions)] for point in POINTS} for name in names]


def answered(point: OperatingPoint, question: Question) -> Answer:
    return Answer(
        benchmark=question.benchmark,
        question_id=question.id,
        video_id=question.video_id,
        groups={},
        method=point.name,
        ratio=point.ratio,
        text=f"{question.id} at {point.ratio:g}",
        letter="A",
        gold="A",
        correct=True,
        status="ok",
        error=None,
        prompt_sha="",
        ledger=None,
    )
