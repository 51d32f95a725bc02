"""Arguments of the Python interface: checked, and made into what the engine takes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence, Set
from dataclasses import replace
from pathlib import Path
from typing import Any

from evalkit.config import build, checks
from evalkit.config.checks import Rule
from evalkit.data import benchmarks
from evalkit.data.prepare import subsets
from evalkit.data.protocols import Protocol
from evalkit.data.sampling import Sampling
from evalkit.engine.backbone import Backbone
from evalkit.errors import ConfigError
from evalkit.method import Method, OperatingPoint
from evalkit.types import LETTERS, Benchmark, Question

MethodLike = Method | str  # a method, or the name of a file of conf/method
Points = Sequence[tuple[MethodLike, float] | OperatingPoint] | Mapping[str, MethodLike]

MAX_OPTIONS = 4  # of a question under a benchmark's protocol
ROW_FORMAT = "videomme"  # in which a published protocol asks a question that belongs to no benchmark


def expect(name: str, value: Any, rule: Rule) -> None:
    """ConfigError unless the argument is what the rule says."""
    expected, holds = rule
    if not holds(value):
        raise ConfigError(f"{name}: expected {expected.replace('null', 'None')}, got {value!r}")


def several(what: str, holds: Callable[[Any], bool]) -> Rule:
    """A list, a tuple or an array of such things; a text is none."""
    others = (str, bytes, Mapping, Set)
    return f"a list of {what}", lambda v: isinstance(v, Collection) and not isinstance(v, others) and all(map(holds, v))


def _pair(value: Any) -> bool:
    return isinstance(value, OperatingPoint) or (isinstance(value, tuple | list) and len(value) == 2)


MODEL: Rule = ("what load_backbone gives", lambda v: isinstance(v, Backbone))
TEXT: Rule = ("a text", lambda v: isinstance(v, str))
TEXTS = several("texts", TEXT[1])
PATH: Rule = ("a path", lambda v: isinstance(v, str | Path) and str(v) != "")
OPTIONAL_PATH: Rule = (f"{PATH[0]}, or null", lambda v: v is None or PATH[1](v))
PROTOCOL: Rule = ("a name or a Protocol", lambda v: isinstance(v, str | Protocol))
OPTIONAL_PROTOCOL: Rule = (f"{PROTOCOL[0]}, or null", lambda v: v is None or PROTOCOL[1](v))
PAIRS = several(
    "pairs such as ('uniform', 0.5), or names with methods such as {'uniform': 'uniform'} and ratios=(0.5,)", _pair
)


def question(path: Path, text: str, options: tuple[str, ...], *, published: bool) -> Question:
    """A question that belongs to no benchmark, for a published protocol as a row of Video-MME's.

    ConfigError where it is empty, or has more or fewer options than the protocol can ask.
    """
    if not text.strip():
        raise ConfigError("ask: expected a question, got an empty text")
    if published and not 2 <= len(options) <= MAX_OPTIONS:
        raise ConfigError(
            f"ask: a benchmark's protocol asks questions of 2 to {MAX_OPTIONS} options, got {len(options)}; leave "
            "protocol out for any other"
        )
    if len(options) > len(LETTERS):
        raise ConfigError(f"ask: expected at most {len(LETTERS)} options, got {len(options)}")
    row: dict[str, Any] = {
        "question_id": "question",
        "videoID": path.stem,
        "question": text,
        "options": [f"{letter}. {option}" for letter, option in zip(LETTERS, options, strict=False)],
        "answer": "",
        **dict.fromkeys(("duration", "domain", "sub_category", "task_type"), ""),
    }
    return Question(
        benchmark=ROW_FORMAT,
        id="question",
        video_id=path.stem,
        video_path=path,
        text=text,
        options=options,
        answer="",
        groups={},
        row=row,
    )


def sampling(model: Backbone, given: Sampling | None, frames: int | None) -> Sampling:
    """What the arguments `sampling` and `frames` say, or the backbone's configuration."""
    expect("sampling", given, ("Sampling(…), or None", lambda v: v is None or isinstance(v, Sampling)))
    expect("frames", frames, checks.whole(1, optional=True))
    chosen = given or model.sampling
    if chosen is None:
        raise ConfigError("expected sampling=Sampling(…), as this backbone brings none; load_backbone gives one")
    return chosen if frames is None else replace(chosen, frames=frames, min_frames=min(chosen.min_frames, frames))


def points(
    given: Points,
    ratios: Sequence[float],
    adapters: Mapping[str, str | Path],
) -> list[OperatingPoint]:
    """Each with a name of its own; ConfigError where two methods would share one, or what is given is none."""
    if isinstance(given, Mapping):
        expect("ratios", ratios, several("numbers", checks.number))
        found = [_point(name, method, ratio) for name, method in given.items() for ratio in ratios]
    else:
        expect("points", given, PAIRS)
        found = [one if isinstance(one, OperatingPoint) else _point(_name(one[0]), *one) for one in given]
    expect("adapters", adapters, ("a mapping of methods' names to folders", lambda v: isinstance(v, Mapping)))
    if unknown := sorted(set(adapters) - {point.name for point in found}):
        names = ", ".join(dict.fromkeys(point.name for point in found))
        raise ConfigError(f"adapters: expected names of methods among {names}; got {', '.join(unknown)}")
    found = [replace(p, adapter=str(adapters[p.name])) if p.name in adapters else p for p in found]
    first: dict[str, OperatingPoint] = {}
    for point in found:
        same = replace(first.setdefault(checks.name("method", point.name), point), ratio=build.ratio(point.ratio))
        if same != replace(point, ratio=same.ratio):
            raise ConfigError(
                f"points: two methods are called {point.name!r}; give each a name: {{'a': METHOD, 'b': METHOD}}, "
                "ratios=(…)"
            )
        build.own_adapter(point.name, point.adapter)
    if not found:
        raise ConfigError("points: expected at least one method and one ratio, got none")
    return list(dict.fromkeys(found))


def _point(name: str, method: MethodLike, ratio: float) -> OperatingPoint:
    one = build.method(method) if isinstance(method, str) else method
    if not isinstance(one, Method):
        raise ConfigError(f"expected a Method or a name of conf/method, got {method!r}")
    return OperatingPoint(name, one, build.ratio(ratio))


def _name(method: MethodLike) -> str:
    return method if isinstance(method, str) else type(method).__name__.lower()


def question_sets(
    benchmark: str | Benchmark | Sequence[Benchmark], root: str | Path | None, subset: str
) -> list[Benchmark]:
    """Those of a name and its folder, or as `evalkit.data.benchmarks.load` gave them."""
    subsets.check(subset)
    expect("root", root, OPTIONAL_PATH)
    if isinstance(benchmark, str):
        loaded = benchmarks.load(benchmark, None if root is None else Path(root).expanduser())
        return build.narrowed(loaded, subset)
    given = [benchmark] if isinstance(benchmark, Benchmark) else benchmark
    expect("benchmark", given, several("question sets, or a name", lambda v: isinstance(v, Benchmark)))
    return build.narrowed(given, subset)
