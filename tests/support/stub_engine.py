"""An engine without a model for tests of worker processes: what it does with a video, the video's id says."""

from __future__ import annotations

import os
import signal
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from evalkit.errors import ConfigError
from evalkit.method import Method, OperatingPoint
from evalkit.types import Answer, Question

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
        if self.fails:
            raise ConfigError(self.fails)
        return StubEngine(self.folder)


@dataclass(frozen=True)
class StubEngine:
    """Answers with the question's id; after each answer it does what the video's id asks for."""

    folder: Path

    def frame_encoders(self, adapters: Collection[str | None]) -> None:
        """Nothing to load."""

    def answers(
        self, pending: Mapping[OperatingPoint, Sequence[Question]], following: object = None
    ) -> Iterator[tuple[OperatingPoint, Answer]]:
        for point, questions in pending.items():
            for question in questions:
                with (self.folder / "asked").open("a") as file:
                    file.write(f"{os.getpid()} {question.video_id} {point.ratio:g} {question.id}\n")
                yield point, answered(point, question)
                self._after(question.video_id)

    def _after(self, video: str) -> None:
        mark = self.folder / video
        match video.split("-")[0]:
            case "dies" | "once" if not (video.startswith("once") and mark.exists()):
                mark.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            case "setting":
                raise ConfigError("a setting is wrong")
            case "defect":
                raise ZeroDivisionError("a defect")
            case "waits":
                signal.pause()


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
