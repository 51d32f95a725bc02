"""Kinds of questions on which the reference loses against the dense run, chosen on other videos than they are tried on.

To choose the questions that the reference got wrong and then to report its accuracy on them measures the choice: a
second run with the same ability would look far better than the first. A question cannot carry over from one half of the
videos to the other, but its kind (`task_type`) can. So the videos are halved; a kind is hard where, in one half, the
share of its questions that the dense run has right and the reference at the same ratio has wrong is above that of all
questions; the questions of those kinds in the other half are what everything is tried on. Both halves choose for each
other (cross-fitting), so that no question is counted that its own outcome has chosen.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Hashable

    from evalkit.analysis.grid.measured_points import Key, MeasuredPoint
    from evalkit.types import Answer

KIND = "task_type"
MIN_QUESTIONS = 5  # of a kind in the half that chooses: fewer say nothing of it

Labels = Mapping["Key", Sequence["Hashable"]]  # question -> its kinds


def hard_questions(reference: MeasuredPoint, dense: MeasuredPoint) -> tuple[Key, ...]:
    """Questions of both halves whose kinds the other half calls hard, in the order of the reference's answers."""
    both = {key for key in reference.scored if key in dense.scored}
    lost = {key for key in both if dense.scored[key] and not reference.scored[key]}
    labels = {key: _labels(key, answer) for key, answer in reference.answers.items() if key in both}
    halves = {key: half(reference.video(key)) for key in labels}
    return cross_fitted(labels, halves, lost)


def cross_fitted(labels: Labels, halves: Mapping[Key, int], lost: Collection[Key]) -> tuple[Key, ...]:
    """The questions with a kind that the other half (0 or 1) finds hard; `lost`: dense right, reference wrong."""
    hard = {own: hard_kinds({key: labels[key] for key in labels if halves[key] != own}, lost) for own in (0, 1)}
    return tuple(key for key, kinds in labels.items() if hard[halves[key]].intersection(kinds))


def hard_kinds(labels: Labels, lost: Collection[Key]) -> frozenset[Hashable]:
    """Kinds of which a larger share was lost than of all these questions."""
    asked = Counter(kind for kinds in labels.values() for kind in kinds)
    missed = Counter(kind for key, kinds in labels.items() if key in lost for kind in kinds)
    total, wrong = len(labels), sum(key in lost for key in labels)
    # as whole numbers: a kind that holds all questions must not be above itself
    return frozenset(kind for kind, n in asked.items() if n >= MIN_QUESTIONS and missed[kind] * total > wrong * n)


def half(video: tuple[str, ...]) -> int:
    """0 or 1 for a video, by the hash of its name: the same in every run, subset and table."""
    return hashlib.sha256("\0".join(video).encode()).digest()[-1] & 1


def _labels(key: Key, answer: Answer) -> list[Hashable]:
    """Kinds are a benchmark's own: those of two benchmarks that share a name are not one."""
    return [(*key[:2], label) for label in answer.groups.get(KIND, ())]
