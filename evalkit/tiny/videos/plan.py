"""The fixed test sets: which videos, which questions, under which of the benchmarks' own names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from evalkit.tiny.videos.questions import Choice, OpenQuestion, choose, questions_about
from evalkit.tiny.videos.world import FEWEST, MOST, TEST_SEEDS, World, draw

SEED = 20260101

VIDEOMME_TASKS = {
    "needle": "OCR Problems",
    "color": "Attribute Perception",
    "object": "Object Recognition",
    "order": "Temporal Reasoning",
    "first": "Temporal Perception",
    "last": "Temporal Perception",
    "count": "Counting Problem",
    "scene": "Spatial Perception",
    "grounding": "Spatial Reasoning",
    "summary": "Information Synopsis",
}
LVBENCH_TYPES = {
    "needle": ["key information retrieval"],
    "color": ["entity recognition"],
    "object": ["entity recognition", "key information retrieval"],
    "order": ["event understanding", "reasoning"],
    "first": ["event understanding"],
    "last": ["event understanding"],
    "count": ["reasoning"],
    "scene": ["entity recognition", "summarization"],
    "grounding": ["temporal grounding"],
    "summary": ["summarization"],
}
MLVU_TASKS = {  # file stem: (question_type, kinds, videos, questions a video)
    "1_plotQA": ("plotQA", ("color",), 5, 4),
    "2_needle": ("findNeedle", ("needle",), 16, 1),
    "3_ego": ("ego", ("grounding",), 5, 4),
    "4_count": ("count", ("count",), 16, 1),
    "5_order": ("order", ("after", "before"), 5, 4),
    "6_anomaly_reco": ("anomaly_reco", ("object",), 8, 2),
    "7_topic_reasoning": ("topic_reasoning", ("scene", "summary"), 8, 2),
}
VIDEOMME_VIDEOS, VIDEOMME_QUESTIONS = 36, 3
LVBENCH_VIDEOS, LVBENCH_QUESTIONS = 12, 15


@dataclass(frozen=True, kw_only=True)
class Planned:
    """One video of a test set and its questions."""

    world: World
    frames: int
    fps: int
    task: str  # VideoMME: duration group; MLVU: file stem; LVBench: ""
    choices: tuple[Choice, ...]

    @property
    def seconds(self) -> float:
        """Duration."""
        return self.frames / self.fps

    def evidence(self, question: OpenQuestion) -> list[list[float]]:
        """When the answer is on screen, [start, end] in seconds each."""
        return [[round(a * self.seconds, 3), round(b * self.seconds, 3)] for a, b in question.evidence]


def videomme() -> list[Planned]:
    """Short, medium and long videos, three questions of different kinds each."""
    lengths = {"short": ((20, 100), 10), "medium": ((240, 720), 2), "long": ((1800, 2160), 2)}
    rng = np.random.default_rng((SEED, 1))
    letters = _letters(rng, VIDEOMME_VIDEOS * VIDEOMME_QUESTIONS)
    turn = _turns(rng, VIDEOMME_VIDEOS * VIDEOMME_QUESTIONS, list(VIDEOMME_TASKS))
    planned = []
    for number in range(VIDEOMME_VIDEOS):
        task = tuple(lengths)[number * len(lengths) // VIDEOMME_VIDEOS]
        seconds, fps = lengths[task]
        world = _world(number, number)
        kinds = [next(turn) for _ in range(VIDEOMME_QUESTIONS)]
        questions = _spread(rng, world, kinds)
        planned.append(_planned(rng, world, task, seconds, fps, questions, letters))
    return planned


def mlvu() -> list[Planned]:
    """Each task has its own videos."""
    rng = np.random.default_rng((SEED, 2))
    total = sum(videos * per for _, _, videos, per in MLVU_TASKS.values())
    letters = _letters(rng, total)
    planned: list[Planned] = []
    for stem, (_, kinds, videos, per) in MLVU_TASKS.items():
        for number in range(videos):
            # four objects or more where every question asks about another one
            world = _world(1000 + len(planned), number, fewest=4 if per == 4 else FEWEST, dominant=_odd(stem))
            questions = _some(rng, [questions_about(world, [k]) for k in kinds], per)
            planned.append(_planned(rng, world, stem, (180, 600), 2, questions, letters))
    return planned


def lvbench() -> list[Planned]:
    """Long videos with many questions each."""
    rng = np.random.default_rng((SEED, 3))
    letters = _letters(rng, LVBENCH_VIDEOS * LVBENCH_QUESTIONS)
    planned = []
    for number in range(LVBENCH_VIDEOS):
        world = _world(2000 + number, number)
        groups = [
            questions_about(world, kinds) for kinds in (("needle",), ("scene",), ("count",), ("ends",), ("summary",))
        ]
        rest = [questions_about(world, [k]) for k in ("color", "grounding", "object", "after", "before")]
        questions = [a for group in groups for a in group]
        questions += _some(rng, rest, LVBENCH_QUESTIONS - len(questions))
        planned.append(_planned(rng, world, "", (1200, 2160), 2, questions, letters))
    return planned


def _world(offset: int, number: int, *, fewest: int = FEWEST, dominant: bool | None = None) -> World:
    """A test world; the number of objects goes round, so that counts are balanced."""
    return draw(TEST_SEEDS[offset], objects=fewest + number % (MOST + 1 - fewest), dominant=dominant)


def _odd(stem: str) -> bool | None:
    return {"6_anomaly_reco": False, "7_topic_reasoning": True}.get(stem)


def _letters(rng: np.random.Generator, count: int) -> Iterator[int]:
    """Indices of correct options, as equally often each as `count` allows."""
    return iter(int(i) for i in rng.permutation(np.arange(count) % 4))


def _turns(rng: np.random.Generator, count: int, kinds: Sequence[str]) -> Iterator[str]:
    return iter([kinds[int(i)] for _ in range(-(-count // len(kinds))) for i in rng.permutation(len(kinds))])


def _spread(rng: np.random.Generator, world: World, kinds: Sequence[str]) -> list[OpenQuestion]:
    """One question of each kind; another kind where the world does not admit one, never the same question twice."""
    every = questions_about(world)
    questions: list[OpenQuestion] = []
    for kind in kinds:
        fresh = [a for a in every if a not in questions]
        pool = [a for a in fresh if a.kind == kind] or fresh
        questions.append(pool[int(rng.integers(len(pool)))])
    return questions


def _some(rng: np.random.Generator, groups: Sequence[list[OpenQuestion]], count: int) -> list[OpenQuestion]:
    """`count` questions, taken from the groups in turn."""
    shuffled = [[group[int(i)] for i in rng.permutation(len(group))] for group in groups]
    longest = max(map(len, shuffled))
    in_turn = [group[k] for k in range(longest) for group in shuffled if k < len(group)]
    return in_turn[:count]


def _planned(
    rng: np.random.Generator,
    world: World,
    task: str,
    seconds: tuple[int, int],
    fps: int,
    questions: Sequence[OpenQuestion],
    letters: Iterator[int],
) -> Planned:
    frames = int(rng.integers(seconds[0] * fps, seconds[1] * fps))
    choices = tuple(choose(a, next(letters), rng) for a in questions)
    return Planned(world=world, frames=frames, fps=fps, task=task, choices=choices)
