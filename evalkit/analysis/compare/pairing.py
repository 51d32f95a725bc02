"""Which runs of two folders belong together, and whether they may be compared."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from evalkit.analysis.grid.paired import Paired, pair
from evalkit.errors import DataError
from evalkit.runs import load, setups

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from evalkit.runs.load import Run
    from evalkit.types import Answer


@dataclass(frozen=True)
class Pair:
    """Run `ours` beside run `theirs`, question by question. Differences are ours minus theirs."""

    ours: Run = field(repr=False)
    theirs: Run = field(repr=False)

    @cached_property
    def both(self) -> tuple[tuple[Answer, Answer], ...]:
        """(ours, theirs) of the questions that stand in both runs, failed ones included, ordered by id."""
        mine, others = _by_id(self.ours), _by_id(self.theirs)
        return tuple((mine[key], others[key]) for key in mine if key in others)

    @cached_property
    def paired(self) -> Paired[str]:
        """The questions that have a score in both: a failed question is neither right nor wrong."""
        return pair(_by_id(self.ours), _by_id(self.theirs))

    @property
    def settings(self) -> dict[str, tuple[str, str]]:
        """Setting -> its value in theirs and in ours, where their setups differ."""
        return setups.differing(self.theirs.setup, self.ours.setup)


def _by_id(run: Run) -> dict[str, Answer]:
    return {answer.question_id: answer for answer in run.answers}


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


def of_point(runs: Sequence[Run], point: str) -> list[Run]:
    """The runs of one operating point, written METHOD@RATIO. DataError where there are none."""
    found = [run for run in runs if f"{run.method}@{run.ratio:g}" == point]
    if not found:
        known = ", ".join(dict.fromkeys(f"{run.method}@{run.ratio:g}" for run in runs))
        raise DataError(f"expected METHOD@RATIO of a run that is there, came {point!r}; there are {known}")
    return found


def partners(run: Run, others: Sequence[Run], *, across: bool = False) -> list[Run]:
    """Runs of the same benchmark, method and ratio, whatever their identity; `across`: of the same benchmark alone.

    Of several, those with the same question set and backbone, then those with the same sampling and protocol, then
    those with the same setup.
    """
    found = [other for other in others if _key(other, across) == _key(run, across)]
    for narrower in (_questions, _prompts, _setup):
        if len(found) > 1:
            found = [other for other in found if narrower(other) == narrower(run)] or found
    return found


def partnered(left: Sequence[Run], right: Sequence[Run], *, across: bool = False) -> list[Pair]:
    """Every run of `left` with its partner; two single runs belong together whatever they are. `across` as above.

    Runs of one setup are paired first. What is left is paired across setups, for the caller to say which settings
    differ. Raises DataError where a run has several partners, or where nothing belongs together.
    """
    if len(left) == len(right) == 1:
        return [Pair(ours=right[0], theirs=left[0])]
    same = {id(run): [other for other in right if other.setup == run.setup] for run in left}
    pairs = _partners_among(left, lambda run: same[id(run)], across)
    taken = {id(run) for one in pairs for run in (one.theirs, one.ours)}
    rest = [run for run in right if id(run) not in taken]
    pairs += _partners_among([run for run in left if id(run) not in taken], lambda _: rest, across)
    places = {id(run): place for place, run in enumerate(left)}
    if not pairs:
        raise DataError(
            "expected runs of the same benchmark, method and ratio on both sides, or one run on each; "
            f"came {'; '.join(map(name, left))} – against {'; '.join(map(name, right))}"
        )
    return sorted(pairs, key=lambda one: places[id(one.theirs)])


def _partners_among(left: Sequence[Run], others: Callable[[Run], Sequence[Run]], across: bool) -> list[Pair]:
    """Each run of `left` that has a partner among `others` of it. DataError where two have the same one."""
    found = [(run, only(run, others(run), across=across)) for run in left]
    pairs = [Pair(ours=other, theirs=run) for run, other in found if other is not None]
    twice = [run for run, count in Counter(id(one.ours) for one in pairs).items() if count > 1]
    if twice:
        double = [one for one in pairs if id(one.ours) in twice]
        raise DataError(_several(double[0].ours, [one.theirs for one in double]))
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
    questions = benchmark["name"], benchmark["split"], bool(benchmark.get("generated"))
    return questions if across else (*questions, run.method, run.ratio)


def _questions(run: Run) -> tuple[Any, ...]:
    return run.label, run.config["benchmark"]["questions"], run.config["backbone"]["name"]


def _prompts(run: Run) -> Any:
    return run.config["sampling"], run.config["protocol"]


def _setup(run: Run) -> Any:
    return run.setup


# ---- may they be compared?


def obstacles(both: Pair) -> list[str]:
    """Why the two runs cannot be compared: other questions, another protocol, another sampling; empty if they can."""
    found = [_sets(both), *(_section(both, key) for key in ("protocol", "sampling"))]
    found += [_rows(both, *check) for check in _CHECKS]
    return [text for text in found if text]


def _sets(both: Pair) -> str:
    """A run that was interrupted has the same questions; those without an answer are left out."""
    first, second = ({answer.question_id for answer in run.answers} for run in (both.theirs, both.ours))
    kinds = [(run.config["benchmark"]["name"], run.split) for run in (both.theirs, both.ours)]
    sizes = [int(run.config["benchmark"]["questions"]) for run in (both.theirs, both.ours)]
    if kinds[0] == kinds[1] and sizes[0] == sizes[1] and len(first | second) <= max(sizes[0], len(first)):
        return ""
    one, other = (f"{label} {split} ({size} questions)" for (label, split), size in zip(kinds, sizes, strict=True))
    return f"questions differ: {one} against {other}, {len(first & second)} answered in both"


def _section(both: Pair, key: str) -> str:
    first, second = both.theirs.config[key], both.ours.config[key]
    names = [k for k in {**first, **second} if first.get(k) != second.get(k)]
    changes = ", ".join(f"{k} {first.get(k)} against {second.get(k)}" for k in names)
    return f"{key} differs: {changes}" if names else ""


_CHECKS = (
    ("video_id", "questions differ: other videos"),
    ("gold", "questions differ: other right answers"),
    ("prompt_sha", "protocol differs: other prompts"),
)


def _rows(both: Pair, field_name: str, what: str) -> str:
    """Failed rows have neither prompt nor the protocol's right answer."""
    answered = [(ours, theirs) for ours, theirs in both.both if "failed" not in (ours.status, theirs.status)]
    ids = [ours.question_id for ours, theirs in answered if getattr(ours, field_name) != getattr(theirs, field_name)]
    return f"{what} in {len(ids)} of {len(answered)} questions, such as {ids[0]}" if ids else ""


def listed(runs: Mapping[str, Sequence[Run]]) -> list[str]:
    """One line for each run without a partner; `runs` by the name of their side."""
    return [f"only in {side}: {name(run)}" for side, members in runs.items() for run in members]
