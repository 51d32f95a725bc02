"""Two operating points on the same questions. Every difference in evalkit is ours minus theirs and is made here."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

from evalkit.analysis.stats.identical import identical
from evalkit.analysis.stats.paired_tests import Difference, difference

if TYPE_CHECKING:
    from collections.abc import Callable

    from evalkit.types import Answer

Scores = tuple[bool, ...]
Statistics = dict[tuple[Scores, Scores, tuple[Hashable, ...]], Difference]
K = TypeVar("K", bound=Hashable)  # names a question in both operating points


@dataclass(frozen=True, kw_only=True)
class Paired(Generic[K]):
    """The questions that have a score in ours and in theirs, in the order of ours."""

    keys: tuple[K, ...]
    ours: Scores  # right or wrong
    theirs: Scores
    videos: tuple[Hashable, ...]  # of each question: the clusters
    excluded: frozenset[K]  # keys without a score in one of the two: failed, unanswered, or not scored
    _answers: tuple[Mapping[K, Answer], Mapping[K, Answer]] = field(repr=False, compare=False)
    _known: Statistics = field(repr=False, compare=False)

    @property
    def repeats(self) -> bool:
        """The same inputs and the same replies in both (`identical`): such a pair tests nothing."""
        ours, theirs = self._answers
        return identical((ours.get(key), theirs.get(key)) for key in ours.keys() | theirs.keys())

    @property
    def difference(self) -> Difference:
        """Accuracy of ours minus theirs with interval and tests; computed once for equal scores of equal videos."""
        scores = self.ours, self.theirs, self.videos
        if scores not in self._known:
            self._known[scores] = difference(*scores)
        return self._known[scores]

    @property
    def gained(self) -> tuple[K, ...]:
        """Questions that only ours has right."""
        return self._where(lambda mine, other: mine and not other)

    @property
    def lost(self) -> tuple[K, ...]:
        """Questions that only theirs has right."""
        return self._where(lambda mine, other: other and not mine)

    def _where(self, fits: Callable[[bool, bool], bool]) -> tuple[K, ...]:
        scores = zip(self.keys, self.ours, self.theirs, strict=True)
        return tuple(key for key, mine, other in scores if fits(mine, other))

    @property
    def accuracy(self) -> tuple[float, float]:
        """Percent of ours and of theirs on these questions; nan where there are none."""
        n = len(self.keys)
        return (100 * sum(self.ours) / n, 100 * sum(self.theirs) / n) if n else (float("nan"), float("nan"))


def pair(
    ours: Mapping[K, Answer],
    theirs: Mapping[K, Answer],
    *also: Mapping[K, Answer],
    missing_is_wrong: bool = False,
    video: Callable[[K], Hashable] | None = None,
    known: Statistics | None = None,
) -> Paired[K]:
    """Put two operating points' answers side by side.

    `also`: further operating points in which a question must have a score as well. `missing_is_wrong`: an answer of
    ours without a score counts as wrong where theirs has one, instead of being excluded. `video` gives the cluster of a
    key where video ids are not unique (default: our answer's video id). `known` holds statistics that were computed
    before.
    """
    others = (theirs, *also)
    mine = {key: a.correct or False if missing_is_wrong else a.correct for key, a in ours.items()}
    keys = tuple(k for k, score in mine.items() if score is not None and all(_scored(o, k) for o in others))
    every = ours.keys() | theirs.keys() | {key for own in also for key in own}
    return Paired(
        keys=keys,
        ours=tuple(bool(mine[key]) for key in keys),
        theirs=tuple(bool(theirs[key].correct) for key in keys),
        videos=tuple(ours[key].video_id if video is None else video(key) for key in keys),
        excluded=frozenset(every - set(keys)),
        _answers=(ours, theirs),
        _known={} if known is None else known,
    )


def _scored(answers: Mapping[K, Answer], key: K) -> bool:
    return key in answers and answers[key].correct is not None
