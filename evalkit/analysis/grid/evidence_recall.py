"""How much of what a method keeps lies where the answer is seen, beside the chance level of keeping anything.

A cell's entries count in equal parts for its frames: a token mixes the frames of its cell, and cells whose frames lie
far apart, as those of few frames do, must not look as if they held whatever one of them shows. A frame lies in a span
if it is shown within it, ends included.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from evalkit.analysis.stats import accuracy_interval
from evalkit.analysis.stats.clustered_mean import ClusteredMean, clustered_mean

if TYPE_CHECKING:
    from collections.abc import Hashable

    from evalkit.analysis.grid.measured_points import MeasuredPoint
    from evalkit.analysis.stats.accuracy_interval import Interval
    from evalkit.types import Answer, KeptOverTime

Spans = tuple[tuple[float, float], ...]


@dataclass(frozen=True, kw_only=True)
class EvidenceRecall:
    """One operating point on the questions whose evidence the dense run's frames show and of which it kept anything."""

    unseen: int  # questions with spans between the dense run's frames: nobody can keep what was not shown
    share: ClusteredMean  # of the kept entries that lie in the spans, percent
    chance: float  # of the dense run's entries that do, percent: what keeping anything at random has in the mean
    above: ClusteredMean  # share minus chance, question by question, percentage points
    hit: Interval  # questions of which something in a span was kept, percent
    hit_chance: float  # percent of questions that as many of the dense run's frames, drawn at random, would hit


@dataclass(frozen=True)
class _Chance:
    """What the dense run shows of the evidence of one question."""

    share: float  # of its entries that lie in the spans
    shown: int  # frames
    seen: int  # of those that lie in a span


@dataclass(frozen=True)
class _Case:
    """One question of one operating point."""

    share: float
    chance: float
    hit: bool
    hit_chance: float


class Evidence:
    """What operating points keep of the evidence, beside what a dense run shows of it.

    Every question of a point is looked at once, in however many question sets it stands: their answers must not go
    while this is used.
    """

    def __init__(self) -> None:
        self._cases: dict[tuple[int, int], _Case | bool] = {}  # by the identities of an answer and the dense run's
        self._chances: dict[tuple[int, Spans], _Chance] = {}  # by the identity of what the dense run kept

    def recall(self, point: MeasuredPoint, dense: MeasuredPoint) -> EvidenceRecall | None:
        """Of a point; None where no question of it and of the dense run says what is needed."""
        cases: list[_Case] = []
        videos: list[Hashable] = []
        unseen = 0
        for key, answer in point.answers.items():
            theirs = dense.answers.get(key)
            pair = id(answer), id(theirs)
            if pair not in self._cases:
                self._cases[pair] = self._case(answer, theirs)
            found = self._cases[pair]
            unseen += found is False
            if isinstance(found, _Case):
                cases.append(found)
                videos.append(point.video(key))
        if not cases:
            return None
        share, chance = ([100 * getattr(case, name) for case in cases] for name in ("share", "chance"))
        return EvidenceRecall(
            unseen=unseen,
            share=clustered_mean(share, videos),
            chance=math.fsum(chance) / len(chance),
            above=clustered_mean([a - b for a, b in zip(share, chance, strict=True)], videos),
            hit=accuracy_interval.accuracy([case.hit for case in cases], videos),
            hit_chance=100 * math.fsum(case.hit_chance for case in cases) / len(cases),
        )

    def _case(self, answer: Answer, dense: Answer | None) -> _Case | bool:
        """None of it is known: True. The dense run does not see the evidence: False."""
        if dense is None or not answer.evidence_s or not _entries(answer.kept) or not _entries(dense.kept):
            return True
        assert answer.kept is not None
        assert dense.kept is not None
        chance = self._chance(dense.kept, answer.evidence_s)
        if chance.share == 0:
            return False
        share, kept = share_inside(answer.kept, answer.evidence_s), len(_frames(answer.kept))
        return _Case(share, chance.share, share > 0, hit_chance(chance.shown, chance.seen, kept))

    def _chance(self, kept: KeptOverTime, spans: Spans) -> _Chance:
        known = id(kept), spans
        if known not in self._chances:
            shown = _frames(kept)
            seen = int(_inside(shown, spans).sum())
            self._chances[known] = _Chance(share_inside(kept, spans), len(shown), seen)
        return self._chances[known]


def _entries(kept: KeptOverTime | None) -> float:
    return 0 if kept is None else math.fsum(kept.tokens)


def share_inside(kept: KeptOverTime, spans: Spans) -> float:
    """Share of the kept entries that lie in the spans."""
    frames = _cell_frames(kept)
    inside = np.array(kept.tokens) * _inside(frames, spans).sum(1) / frames.shape[1]
    return math.fsum(inside.tolist()) / math.fsum(kept.tokens)


def hit_chance(shown: int, seen: int, drawn: int) -> float:
    """Probability that `drawn` of `shown` frames, without replacement, include one of the `seen` ones in a span."""
    if drawn + seen > shown:
        return 1.0
    return 1 - math.comb(shown - seen, drawn) / math.comb(shown, drawn)


def _inside(seconds: np.ndarray, spans: Spans) -> np.ndarray:
    """Which frames, of any shape, lie in a span."""
    start, end = np.array(spans).T
    at = seconds[..., None]
    inside: np.ndarray = ((start <= at) & (at <= end)).any(-1)
    return inside


def _cell_frames(kept: KeptOverTime) -> np.ndarray:
    """(C, F) times of each cell's first and last frame, which are all that it has in the families so far.

    Answers of versions that did not write the last one count by the first.
    """
    return np.array([kept.seconds] if kept.last_seconds is None else [kept.seconds, kept.last_seconds]).T


def _frames(kept: KeptOverTime) -> np.ndarray:
    """Times of the frames of which something is kept, each once."""
    return np.unique(_cell_frames(kept)[np.array(kept.tokens) != 0])
