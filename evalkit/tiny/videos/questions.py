"""Every question of the built-in experiment, in one place.

Each kind asks about one world, has one right word, and takes its wrong options from the same video where it can.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from evalkit.tiny.videos.world import COLORS, DIGITS, OBJECTS, PLACES, Event, World

COUNTS = ("three", "four", "five", "six")


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A question without options."""

    kind: str
    text: str
    right: tuple[str, ...]  # right words; several only for `scene`, where the options decide
    near: tuple[str, ...]  # wrong words that the video shows
    far: tuple[str, ...]  # other wrong words of the same sort
    evidence: tuple[tuple[float, float], ...]  # when it is seen, shares of the video


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A question with four options."""

    asked: Asked
    options: tuple[str, ...]
    answer: int  # index of the right option


def _needle(world: World) -> list[Asked]:
    sign = world.sign
    return [_asked("needle", "What number is on the sign?", sign.thing, (), DIGITS, [sign])]


def _color(world: World) -> list[Asked]:
    near = tuple(e.color for e in world.objects)
    return [_asked("color", f"What color is the {e.thing}?", e.color, near, COLORS, [e]) for e in world.objects]


def _object(world: World) -> list[Asked]:
    colors = [e.color for e in world.objects]
    once = [e for e in world.objects if colors.count(e.color) == 1]
    return [_asked("object", f"Which object is {e.color}?", e.thing, _things(world), OBJECTS, [e]) for e in once]


def _after(world: World) -> list[Asked]:
    pairs = zip(world.objects, world.objects[1:], strict=False)
    return [_order("after", a, b, world) for a, b in pairs]


def _before(world: World) -> list[Asked]:
    pairs = zip(world.objects, world.objects[1:], strict=False)
    return [_order("before", b, a, world) for a, b in pairs]


def _order(word: str, known: Event, wanted: Event, world: World) -> Asked:
    near = tuple(t for t in _things(world) if t != known.thing)
    text = f"Which object comes right {word} the {known.thing}?"
    return _asked("order", text, wanted.thing, near, OBJECTS, [known, wanted], never=known.thing)


def _ends(world: World) -> list[Asked]:
    ends = (("first", world.objects[0]), ("last", world.objects[-1]))
    return [_asked(w, f"Which object comes {w}?", e.thing, _things(world), OBJECTS, [e]) for w, e in ends]


def _count(world: World) -> list[Asked]:
    word = COUNTS[len(world.objects) - 3]
    return [_asked("count", "How many objects appear?", word, (), COUNTS, world.objects)]


def _scene(world: World) -> list[Asked]:
    shown = tuple(s.place for s in world.scenes)
    spans = tuple((s.start, s.end) for s in world.scenes)
    far = tuple(p for p in PLACES if p not in shown)
    return [Asked(kind="scene", text="Which place is shown?", right=shown, near=(), far=far, evidence=spans)]


def _grounding(world: World) -> list[Asked]:
    near = tuple(s.place for s in world.scenes)
    return [
        _asked("grounding", f"Where is the {e.thing}?", world.scene_at(e.start).place, near, PLACES, [e])
        for e in world.objects
    ]


def _summary(world: World) -> list[Asked]:
    colors = [e.color for e in world.objects]
    main = max(colors, key=colors.count)
    if 2 * colors.count(main) <= len(colors):
        return []
    return [_asked("summary", "What is the main color of the objects?", main, tuple(colors), COLORS, world.objects)]


def _things(world: World) -> tuple[str, ...]:
    return tuple(e.thing for e in world.objects)


def _asked(
    kind: str,
    text: str,
    right: str,
    near: Sequence[str],
    every: Sequence[str],
    evidence: Sequence[Event],
    never: str = "",
) -> Asked:
    close = tuple(dict.fromkeys(w for w in near if w != right))
    far = tuple(w for w in every if w not in (*close, right, never))
    spans = tuple((e.start, e.end) for e in evidence)
    return Asked(kind=kind, text=text, right=(right,), near=close, far=far, evidence=spans)


KINDS: dict[str, Callable[[World], list[Asked]]] = {
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


def ask(world: World, kinds: Sequence[str] = tuple(KINDS)) -> list[Asked]:
    """All questions of these kinds that the world admits."""
    return [asked for kind in kinds for asked in KINDS[kind](world)]


def choose(asked: Asked, answer: int, rng: np.random.Generator) -> Choice:
    """Four options with the right one at index `answer`; words from the same video are preferred as wrong ones."""
    right = str(rng.choice(asked.right))
    near = [str(w) for w in rng.permutation(asked.near)] if asked.near else []
    far = [str(w) for w in rng.permutation(asked.far)] if asked.far else []
    options = [str(w) for w in rng.permutation((near + far)[:3])]
    options.insert(answer, right)
    return Choice(asked=asked, options=tuple(options), answer=answer)


def lettered(options: Sequence[str], style: str) -> list[str]:
    """Options with their letters, `style` as in "{}. " or "({}) "."""
    return [style.format(letter) + option for letter, option in zip("ABCD", options, strict=True)]
