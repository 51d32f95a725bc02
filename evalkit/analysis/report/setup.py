"""One setup as the report shows it: its question sets, all its operating points, and every question."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from evalkit.sanitize import clean

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evalkit.analysis.grid.measured_points import Key, MeasuredPoint, QuestionSet
    from evalkit.analysis.results import Results
    from evalkit.runs.setups import Label
    from evalkit.types import Answer, KeptOverTime

VideoKey = tuple[str, str, str]  # benchmark's label, split, video id


@dataclass(frozen=True)
class SetupView:
    """A setup. `points` has every method at every ratio, also one that was run on some of the benchmarks only."""

    setup: Label
    sets: tuple[QuestionSet, ...]
    points: tuple[MeasuredPoint, ...]

    @cached_property
    def keys(self) -> list[Key]:
        """All questions: benchmarks in table order, ids as people count."""
        places = {part: place for place, part in enumerate(self.benchmarks)}
        found = {key for point in self.points for key in point.answers}
        return sorted(found, key=lambda key: (places[key[:2]], _natural(key[2]), key[2]))

    @cached_property
    def benchmarks(self) -> list[tuple[str, str]]:
        """Label and split of each benchmark, in table order."""
        runs = [part.run for own in self.sets for point in own.points for part in point.parts]
        return list(dict.fromkeys((run.label, run.split) for run in runs))

    @cached_property
    def videos(self) -> dict[VideoKey, list[Key]]:
        """The questions about each video, in the order of `keys`."""
        found: dict[VideoKey, list[Key]] = {}
        for key in self.keys:
            found.setdefault(self.video(key), []).append(key)
        return found

    def video(self, key: Key) -> VideoKey:
        """The video that a question is about."""
        return (*key[:2], self.asked[key].video_id)

    def of_video(self, video: VideoKey) -> list[Answer]:
        """All answers to the questions about a video."""
        return [answer for key in self.videos[video] for answer in self.answers(key) if answer is not None]

    def kept(self, video: VideoKey) -> list[KeptOverTime]:
        """Everything that was kept of a video, each distinct choice once."""
        return list(dict.fromkeys(answer.kept for answer in self.of_video(video) if answer.kept is not None))

    def seconds(self, video: VideoKey) -> float | None:
        """How long a video is."""
        return next((a.duration_s for a in self.of_video(video) if a.duration_s is not None), None)

    def answers(self, key: Key) -> list[Answer | None]:
        """What each point answered to a question."""
        return [point.answers.get(key) for point in self.points]

    @cached_property
    def asked(self) -> dict[Key, Answer]:
        """An answer to each question, one that did not fail where there is any: for its prompt, options and groups."""
        return {key: _most_informative(self.answers(key)) for key in self.keys}

    def place(self, point: MeasuredPoint | None) -> int:
        """The number of the point with the same method and ratio; -1 for none."""
        names = [(own.method, own.ratio) for own in self.points]
        return -1 if point is None else names.index((point.method, point.ratio))


def views(results: Results) -> list[SetupView]:
    """The setups of a collection of runs in table order."""
    return [
        SetupView(setup, tuple(own for own in results.question_sets if own.setup == setup), points)
        for setup, points in results.points.items()
    ]


def point_key(point: MeasuredPoint) -> str:
    """What links and filters call an operating point."""
    return f"{clean(point.method)}@{point.ratio:g}"


def _most_informative(answers: Sequence[Answer | None]) -> Answer:
    found = [answer for answer in answers if answer is not None]
    return next((answer for answer in found if answer.status != "failed"), found[0])


def _natural(text: str) -> list[tuple[int, str]]:
    """Numbers inside a text count as numbers: 2 comes before 10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"([0-9]+)", text)]
