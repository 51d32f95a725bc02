"""Every question of the built-in experiment, in one place.

Each kind asks about one world, has one correct word, and takes its wrong options from the same video where it can.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from evalkit.tiny.videos.world import COLORS, DIGITS, OBJECTS, PLACES, Event, World

COUNTS = ("three", "four", "five", "six")


@dataclass(frozen=True, kw_only=True)
class OpenQuestion:
    """A question without options."""

    kind: str
    text: str
    correct: tuple[str, ...]  # correct words; several only for `scene`, where the options decide
    near: tuple[str, ...]  # wrong words that the video shows
    far: tuple[str, ...]  # other wrong words of the same sort
    evidence: tuple[tuple[float, float], ...]  # when it is seen, shares of the video


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A question with four options."""

    question: OpenQuestion
    options: tuple[str, ...]
    answer: int  # index of the correct option


def _needle(world: World) -> list[OpenQuestion]:
    sign = world.sign
    return [_question("needle", "What number is on the sign?", sign.thing, (), DIGITS, [sign])]


def _color(world: World) -> list[OpenQuestion]:
    near = tuple(e.color for e in world.objects)
    return [_question("color", f"What color is the {e.thing}?", e.color, near, COLORS, [e]) for e in world.objects]


def _object(world: World) -> list[OpenQuestion]:
    colors = [e.color for e in world.objects]
    once = [e for e in world.objects if colors.count(e.color) == 1]
    return [_question("object", f"Which object is {e.color}?", e.thing, _things(world), OBJECTS, [e]) for e in once]


def _after(world: World) -> list[OpenQuestion]:
    pairs = zip(world.objects, world.objects[1:], strict=False)
    return [_order("after", a, b, world) for a, b in pairs]


def _before(world: World) -> list[OpenQuestion]:
    pairs = zip(world.objects, world.objects[1:], strict=False)
    return [_order("before", b, a, world) for a, b in pairs]


def _order(word: str, known: Event, wanted: Event, world: World) -> OpenQuestion:
    near = tuple(t for t in _things(world) if t != known.thing)
    text = f"Which object comes right {word} the {known.thing}?"
    return _question("order", text, wanted.thing, near, OBJECTS, [known, wanted], never=known.thing)


def _ends(world: World) -> list[OpenQuestion]:
    ends = (("first", world.objects[0]), ("last", world.objects[-1]))
    return [_question(w, f"Which object comes {w}?", e.thing, _things(world), OBJECTS, [e]) for w, e in ends]


def _count(world: World) -> list[OpenQuestion]:
    word = COUNTS[len(world.objects) - 3]
    return [_question("count", "How many objects appear?", word, (), COUNTS, world.objects)]


def _scene(world: World) -> list[OpenQuestion]:
    shown = tuple(s.place for s in world.scenes)
    spans = tuple((s.start, s.end) for s in world.scenes)
    far = tuple(p for p in PLACES if p not in shown)
    return [OpenQuestion(kind="scene", text="Which place is shown?", correct=shown, near=(), far=far, evidence=spans)]


def _grounding(world: World) -> list[OpenQuestion]:
    near = tuple(s.place for s in world.scenes)
    return [
        _question("grounding", f"Where is the {e.thing}?", world.scene_at(e.start).place, near, PLACES, [e])
        for e in world.objects
    ]


def _summary(world: World) -> list[OpenQuestion]:
    colors = [e.color for e in world.objects]
    main = max(colors, key=colors.count)
    if 2 * colors.count(main) <= len(colors):
        return []
    return [_question("summary", "What is the main color of the objects?", main, tuple(colors), COLORS, world.objects)]


def _things(world: World) -> tuple[str, ...]:
    return tuple(e.thing for e in world.objects)


def _question(
    kind: str,
    text: str,
    correct: str,
    near: Sequence[str],
    every: Sequence[str],
    evidence: Sequence[Event],
    never: str = "",
) -> OpenQuestion:
    close = tuple(dict.fromkeys(w for w in near if w != correct))
    far = tuple(w for w in every if w not in (*close, correct, never))
    spans = tuple((e.start, e.end) for e in evidence)
    return OpenQuestion(kind=kind, text=text, correct=(correct,), near=close, far=far, evidence=spans)


KINDS: dict[str, Callable[[World], list[OpenQuestion]]] = {
    "needle": _needle,
    "color": _color,
    "object": _object,
    "after": _after,
    "before": _before,
    "ends": _ends,
    "count": _count,
    "scene": _scene,
    "grounding": _grounding,
    "summary": _summary,
}


def questions_about(world: World, kinds: Sequence[str] = tuple(KINDS)) -> list[OpenQuestion]:
    """All questions of these kinds that the world admits."""
    return [question for kind in kinds for question in KINDS[kind](world)]


def choose(question: OpenQuestion, answer: int, rng: np.random.Generator) -> Choice:
    """Four options with the correct one at index `answer`; words from the same video are preferred as wrong ones."""
    correct = str(rng.choice(question.correct))
    near = [str(w) for w in rng.permutation(question.near)] if question.near else []
    far = [str(w) for w in rng.permutation(question.far)] if question.far else []
    options = [str(w) for w in rng.permutation((near + far)[:3])]
    options.insert(answer, correct)
    return Choice(question=question, options=tuple(options), answer=answer)


def lettered(options: Sequence[str], style: str) -> list[str]:
    """Options with their letters, `style` as in "{}. " or "({}) "."""
    return [style.format(letter) + option for letter, option in zip("ABCD", options, strict=True)]
