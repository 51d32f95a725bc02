"""Two runs side by side: which belong together, whether they may be compared, and what became of each question."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from evalkit.analysis.stats.identical import identical
from evalkit.errors import DataError
from evalkit.runs import load, setups

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from evalkit.runs.load import Run
    from evalkit.types import Answer


@dataclass(frozen=True)
class Pair:
    """Run `a` and run `b`, question by question. Differences are b minus a: what changes on going from a to b."""

    a: Run = field(repr=False)
    b: Run = field(repr=False)

    @cached_property
    def both(self) -> tuple[tuple[Answer, Answer], ...]:
        """The questions that stand in both runs, failed ones included, ordered by id."""
        second = {answer.question_id: answer for answer in self.b.answers}
        return tuple((one, second[one.question_id]) for one in self.a.answers if one.question_id in second)

    @cached_property
    def scored(self) -> tuple[tuple[Answer, Answer], ...]:
        """Those that have a score in both: a failed question is neither right nor wrong."""
        return tuple((a, b) for a, b in self.both if a.correct is not None and b.correct is not None)

    @property
    def gained(self) -> tuple[str, ...]:
        """Ids that b alone has right."""
        return tuple(b.question_id for a, b in self.scored if b.correct and not a.correct)

    @property
    def lost(self) -> tuple[str, ...]:
        """Ids that a alone has right."""
        return tuple(b.question_id for a, b in self.scored if a.correct and not b.correct)

    @property
    def left_out(self) -> tuple[str, ...]:
        """Ids without a score in one run or in both: failed, not answered yet, or left out by the protocol."""
        ids = {answer.question_id for run in (self.a, self.b) for answer in run.answers}
        return tuple(sorted(ids - {a.question_id for a, _ in self.scored}))

    @property
    def same(self) -> bool:
        """Whether the two are the same by construction: same inputs, same replies, nothing left out."""
        first, second = ({a.question_id: a for a in run.answers} for run in (self.a, self.b))
        return identical((first.get(key), second.get(key)) for key in first.keys() | second.keys())

    @property
    def settings(self) -> dict[str, tuple[str, str]]:
        """Setting -> its value in a and in b, where their setups differ."""
        return setups.differing(self.a.setup, self.b.setup)

    def marks(self) -> tuple[list[bool], list[bool], list[str]]:
        """Right or wrong in a, in b, and the video, of every scored question."""
        rows = [(bool(a.correct), bool(b.correct), a.video_id) for a, b in self.scored]
        return [row[0] for row in rows], [row[1] for row in rows], [row[2] for row in rows]


def read(path: Path) -> list[Run]:
    """The runs of a results folder, a run folder, or the answers.jsonl of one. DataError where there are none."""
    return load.load(path.parent if path.is_file() else path)


def failed(run: Run) -> int:
    """Questions of a run without an answer."""
    return sum(answer.status == "failed" for answer in run.answers)


# ---- which runs belong together


def name(run: Run) -> str:
    """A run in words."""
    return f"{run.label}, split {run.split}, {run.method} at ratio {run.ratio:g}"


def of_cell(runs: Sequence[Run], cell: str) -> list[Run]:
    """The runs of one cell of a grid, written METHOD@RATIO. DataError where there are none."""
    found = [run for run in runs if f"{run.method}@{run.ratio:g}" == cell]
    if not found:
        known = ", ".join(dict.fromkeys(f"{run.method}@{run.ratio:g}" for run in runs))
        raise DataError(f"expected METHOD@RATIO of a run that is there, came {cell!r}; there are {known}")
    return found


def partners(run: Run, others: Sequence[Run], *, across: bool = False) -> list[Run]:
    """Runs of the same benchmark, method and ratio, whatever their identity; `across`: of the same benchmark alone.

    Of several, those with the same question set and backbone, then those with the same sampling and protocol, then
    those with the same setup.
    """
    found = [other for other in others if _key(other, across) == _key(run, across)]
    for narrower in (_asked, _shown, _setup):
        if len(found) > 1:
            found = [other for other in found if narrower(other) == narrower(run)] or found
    return found


def matched(left: Sequence[Run], right: Sequence[Run], *, across: bool = False) -> list[Pair]:
    """Every run of `left` with its partner; two single runs belong together whatever they are. `across` as above.

    Runs of one setup are paired first. What is left is paired across setups, for the caller to say which settings
    differ. Raises DataError where a run has several partners, or where nothing belongs together.
    """
    if len(left) == len(right) == 1:
        return [Pair(left[0], right[0])]
    same = {id(run): [other for other in right if other.setup == run.setup] for run in left}
    pairs = _paired(left, lambda run: same[id(run)], across)
    taken = {id(run) for pair in pairs for run in (pair.a, pair.b)}
    rest = [run for run in right if id(run) not in taken]
    pairs += _paired([run for run in left if id(run) not in taken], lambda _: rest, across)
    places = {id(run): place for place, run in enumerate(left)}
    if not pairs:
        raise DataError(
            "expected runs of the same benchmark, method and ratio on both sides, or one run on each; "
            f"came {'; '.join(map(name, left))} – against {'; '.join(map(name, right))}"
        )
    return sorted(pairs, key=lambda pair: places[id(pair.a)])


def _paired(left: Sequence[Run], others: Callable[[Run], Sequence[Run]], across: bool) -> list[Pair]:
    """Each run of `left` that has a partner among `others` of it. DataError where two have the same one."""
    pairs = [Pair(run, other) for run in left if (other := only(run, others(run), across=across)) is not None]
    twice = [run for run, count in Counter(id(pair.b) for pair in pairs).items() if count > 1]
    if twice:
        double = [pair for pair in pairs if id(pair.b) in twice]
        raise DataError(_several(double[0].b, [pair.a for pair in double]))
    return pairs


def only(run: Run, others: Sequence[Run], *, across: bool = False) -> Run | None:
    """The partner of a run, None where there is none; DataError where there are several."""
    found = partners(run, others, across=across)
    if len(found) > 1:
        raise DataError(_several(run, found))
    return found[0] if found else None


def _several(run: Run, found: Sequence[Run]) -> str:
    folders = ", ".join(str(other.folder) for other in found)
    return f"{name(run)} ({run.folder}): expected one partner, came {len(found)}: {folders}; name the folder of one run"


def _key(run: Run, across: bool) -> tuple[Any, ...]:
    benchmark = run.config["benchmark"]
    asked = benchmark["name"], benchmark["split"], bool(benchmark.get("generated"))
    return asked if across else (*asked, run.method, run.ratio)


def _asked(run: Run) -> tuple[Any, ...]:
    return run.label, run.config["benchmark"]["questions"], run.config["backbone"]["name"]


def _shown(run: Run) -> Any:
    return run.config["sampling"], run.config["protocol"]


def _setup(run: Run) -> Any:
    return run.setup


# ---- may they be compared?


def obstacles(pair: Pair) -> list[str]:
    """Why the two runs cannot be compared: other questions, another protocol, another sampling; empty if they can."""
    found = [_sets(pair), *(_section(pair, key) for key in ("protocol", "sampling"))]
    found += [_rows(pair, *check) for check in _CHECKS]
    return [text for text in found if text]


def _sets(pair: Pair) -> str:
    """A run that was interrupted has the same questions; those without an answer are left out."""
    first, second = ({answer.question_id for answer in run.answers} for run in (pair.a, pair.b))
    kinds = [(run.config["benchmark"]["name"], run.split) for run in (pair.a, pair.b)]
    sizes = [int(run.config["benchmark"]["questions"]) for run in (pair.a, pair.b)]
    if kinds[0] == kinds[1] and sizes[0] == sizes[1] and len(first | second) <= max(sizes[0], len(first)):
        return ""
    one, other = (f"{label} {split} ({size} questions)" for (label, split), size in zip(kinds, sizes, strict=True))
    return f"questions differ: {one} against {other}, {len(first & second)} answered in both"


def _section(pair: Pair, key: str) -> str:
    first, second = pair.a.config[key], pair.b.config[key]
    names = [k for k in {**first, **second} if first.get(k) != second.get(k)]
    changes = ", ".join(f"{k} {first.get(k)} against {second.get(k)}" for k in names)
    return f"{key} differs: {changes}" if names else ""


_CHECKS = (
    ("video_id", "questions differ: other videos"),
    ("gold", "questions differ: other right answers"),
    ("prompt_sha", "protocol differs: other prompts"),
)


def _rows(pair: Pair, field_name: str, what: str) -> str:
    """Failed rows have neither prompt nor the protocol's right answer."""
    answered = [(a, b) for a, b in pair.both if "failed" not in (a.status, b.status)]
    ids = [a.question_id for a, b in answered if getattr(a, field_name) != getattr(b, field_name)]
    return f"{what} in {len(ids)} of {len(answered)} questions, such as {ids[0]}" if ids else ""


def listed(runs: Mapping[str, Sequence[Run]]) -> list[str]:
    """One line for each run without a partner; `runs` by the name of their side."""
    return [f"only in {side}: {name(run)}" for side, members in runs.items() for run in members]
