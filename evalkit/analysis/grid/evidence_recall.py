"""How much of what a method keeps lies where the answer is seen, beside the chance level of keeping anything.

A cell's entries count in equal parts for its frames: a token mixes the frames of its cell, and cells whose frames lie
far apart, as those of few frames do, must not look as if they held whatever one of them shows. A frame lies in a span
if it is shown within it, ends included.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evalkit.analysis.stats import accuracy_interval
from evalkit.analysis.stats.clustered_mean import ClusteredMean, clustered_mean

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Sequence

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
class _Case:
    """One question of one operating point."""

    share: float
    chance: float
    hit: bool
    hit_chance: float


def evidence_recall(point: MeasuredPoint, dense: MeasuredPoint) -> EvidenceRecall | None:
    """Of a point, with the chance level of the dense run; None where no question of both says what is needed."""
    cases: list[_Case] = []
    videos: list[Hashable] = []
    unseen = 0
    for key, answer in point.answers.items():
        found = _case(answer, dense.answers.get(key))
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


def _case(answer: Answer, dense: Answer | None) -> _Case | bool:
    """None of it is known: True. The dense run does not see the evidence: False."""
    if dense is None or not answer.evidence_s or not _entries(answer.kept) or not _entries(dense.kept):
        return True
    assert answer.kept is not None
    assert dense.kept is not None
    chance = share_inside(dense.kept, answer.evidence_s)
    if chance == 0:
        return False
    shown = set(_frames(dense.kept))
    seen = sum(_inside(second, answer.evidence_s) for second in shown)
    kept = len(set(_frames(answer.kept)))
    share = share_inside(answer.kept, answer.evidence_s)
    return _Case(share, chance, share > 0, hit_chance(len(shown), seen, kept))


def _entries(kept: KeptOverTime | None) -> float:
    return 0 if kept is None else math.fsum(kept.tokens)


def share_inside(kept: KeptOverTime, spans: Spans) -> float:
    """Share of the kept entries that lie in the spans."""
    inside = math.fsum(
        tokens * sum(_inside(second, spans) for second in frames) / len(frames)
        for tokens, frames in zip(kept.tokens, _cell_frames(kept), strict=True)
    )
    return inside / math.fsum(kept.tokens)


def hit_chance(shown: int, seen: int, drawn: int) -> float:
    """Probability that `drawn` of `shown` frames, without replacement, include one of the `seen` ones in a span."""
    if drawn + seen > shown:
        return 1.0
    return 1 - math.comb(shown - seen, drawn) / math.comb(shown, drawn)


def _inside(second: float, spans: Spans) -> bool:
    return any(start <= second <= end for start, end in spans)


def _cell_frames(kept: KeptOverTime) -> Sequence[tuple[float, ...]]:
    """Times of each cell's first and last frame, which are all that it has in the families so far.

    Answers of versions that did not write the last one count by the first.
    """
    if kept.last_seconds is None:
        return [(second,) for second in kept.seconds]
    return list(zip(kept.seconds, kept.last_seconds, strict=True))


def _frames(kept: KeptOverTime) -> Iterator[float]:
    return (
        second for tokens, frames in zip(kept.tokens, _cell_frames(kept), strict=True) if tokens for second in frames
    )
