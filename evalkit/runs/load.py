"""Reading run folders: what was run (config.yaml) and what was answered (answers.jsonl)."""

from __future__ import annotations

import json
import logging
import math
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, get_args

from evalkit.errors import DataError
from evalkit.method import Role
from evalkit.runs import checked_lines, parse_timing, plain_yaml, setups
from evalkit.runs.checked_lines import LineReader
from evalkit.runs.fields import need, need_number, optional, typed
from evalkit.runs.folder import ANSWERS, CONFIG, ENVIRONMENT, TIMING
from evalkit.runs.parse_answer import expect_run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from evalkit.ledger import Timing
    from evalkit.runs.checked_lines import CheckedLine
    from evalkit.runs.setups import Setup
    from evalkit.types import Answer

    Decode = Callable[[bytes], Any]

log = logging.getLogger(__name__)

ROLES = get_args(Role)  # in the order of tables


@dataclass(frozen=True, kw_only=True)
class Run:
    """One benchmark answered with one method at one ratio. `answers` hold each question once, ordered by id."""

    folder: Path
    config: Mapping[str, Any] = field(repr=False)
    answers: tuple[Answer, ...] = field(repr=False)
    timings: tuple[Timing, ...] = field(default=(), repr=False)  # of timing.jsonl: alone and warm, on a few videos

    @property
    def identity(self) -> str:
        """Hash of everything that can change an answer."""
        return str(self.config["identity"])

    @property
    def label(self) -> str:
        """What tables call the benchmark."""
        return str(self.config["benchmark"]["label"])

    @property
    def split(self) -> str:
        """The benchmark's split, e.g. test or dev."""
        return str(self.config["benchmark"]["split"])

    @property
    def method(self) -> str:
        """The method's configured name."""
        return str(self.config["method"]["name"])

    @property
    def role(self) -> str:
        """What the method is: method, control or reference."""
        return str(self.config["method"].get("role", "method"))

    @property
    def vacuous(self) -> bool:
        """Whether the method acts too late to change a reply's first token (Method.vacuous)."""
        return bool(self.config["method"].get("vacuous", False))

    @property
    def ratio(self) -> float:
        """Nominal ratio, in (0, 1]."""
        return float(self.config["ratio"])

    @cached_property
    def environment(self) -> dict[str, Any]:
        """What environment.json says of the machine; {} where it is not there or cannot be read."""
        try:
            found = json.loads((self.folder / ENVIRONMENT).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    @cached_property
    def setup(self) -> Setup:
        """Every setting but method and ratio that can change an answer: only runs of one setup are compared."""
        return setups.of(self.config)

    @property
    def place(self) -> float:
        """The method's place in its configuration, from 0; of runs that do not record it references are the first."""
        place = self._grid.get("place")
        return float(place) if place is not None else -1.0 if self.role == "reference" else math.inf

    @property
    def reference(self) -> str | None:
        """The method that the others are compared with, by configuration; None in run folders that do not record it."""
        return self._grid.get("reference")

    @property
    def _grid(self) -> Mapping[str, Any]:
        return self.config.get("grid") or {}


def load(folder: Path) -> list[Run]:
    """All runs below `folder`, at any depth, in the order of `ordered`.

    Of several lines for a question the last one counts. A last line without line end that cannot be read is left out
    with a warning: the process was killed while writing it.

    Raises DataError when there is no run, a file is malformed, or two folders hold the same run.
    """
    runs = [_run(file.parent) for file in sorted(folder.rglob(ANSWERS))]
    if not runs:
        raise DataError(
            f"{folder}: expected run folders with config.yaml and answers.jsonl in it, found none. "
            "Name the results_dir of a run, or run an evaluation first."
        )
    _refuse_twins(runs)
    return ordered(runs)


def ordered(runs: Sequence[Run]) -> list[Run]:
    """By benchmark, setup, method and falling ratio.

    Methods stand as in the configuration; those that record no place in it, or the same one, by role (reference,
    method, control) and name.
    """
    places: dict[str, float] = {}
    for run in runs:
        places[run.method] = min(run.place, places.get(run.method, math.inf))

    def key(run: Run) -> tuple[Any, ...]:
        role = ROLES.index(run.role)
        return run.label, run.split, run.setup, places[run.method], role, run.method, -run.ratio, run.identity

    return sorted(runs, key=key)


def refer(runs: Sequence[Run], reference: str) -> list[Run]:
    """The same runs, compared with `reference` whatever they record. DataError where no run is of that method."""
    known = list(dict.fromkeys(run.method for run in runs))
    if reference not in known:
        raise DataError(f"reference: expected a method among {', '.join(known)}, got {reference!r}")
    return [replace(run, config={**run.config, "grid": {**run._grid, "reference": reference}}) for run in runs]


def _refuse_twins(runs: list[Run]) -> None:
    first: dict[tuple[str, ...], Path] = {}
    for run in runs:
        # the same weights, once the backbone's and once a method's own, are one run that stands in two tables
        other = first.setdefault((run.identity, run.method, run.setup.tuned_weights), run.folder)
        if other != run.folder:
            raise DataError(
                f"{run.folder}: holds the same run as {other} (identity {run.identity}); "
                "its questions would count twice. Keep one of the two folders."
            )


def _run(folder: Path) -> Run:
    config = _config(folder / CONFIG)
    last: dict[str, Answer] = {}
    for where, line in _checked(folder / ANSWERS):
        _check_belongs(line.answer, config, where)
        expect_run(line.run, config["identity"], where)
        last[line.answer.question_id] = line.answer
    asked = config["benchmark"]["questions"]
    if len(last) > asked:
        raise DataError(
            f"{folder / ANSWERS}: expected answers to at most the {asked} questions of config.yaml, came {len(last)}. "
            "Restore the file or config.yaml."
        )
    return Run(
        folder=folder,
        config=config,
        answers=tuple(last[key] for key in sorted(last)),
        timings=_timings(folder / TIMING, config),
    )


def _config(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise DataError(f"{path}: not there, but answers.jsonl beside it is. Restore it or remove the folder.")
    where = str(path)
    config = typed(plain_yaml.read(path), dict, where, "the file")
    need(config, "identity", str, where)
    need_number(config, "ratio", where)
    for section, keys in _SECTIONS.items():
        for key in keys:
            need(need(config, section, dict, where), key, str, f"{where}: {section}")
    benchmark = config["benchmark"]
    need_number(benchmark, "questions", f"{where}: benchmark", (int,))
    for note in optional(benchmark, "notes", list, f"{where}: benchmark") or ():
        typed(note, str, f"{where}: benchmark", "a note")
    role = config["method"].get("role", "method")
    if role not in ROLES:
        raise DataError(f"{where}: method: expected role to be one of {', '.join(ROLES)}, came {role!r}. Restore it.")
    optional(config, "adapter", dict, where)
    grid = optional(config, "grid", dict, where) or {}
    optional(grid, "place", int, f"{where}: grid")
    optional(grid, "reference", str, f"{where}: grid")
    return dict(config)


_SECTIONS = {
    "benchmark": ("name", "label", "split"),
    "backbone": ("name",),
    "sampling": ("preset",),
    "method": ("name",),
    "protocol": ("name",),
}


def _checked(path: Path) -> Iterator[tuple[str, CheckedLine]]:
    """Every line's place and what it says; lines that this process has checked already are not read again."""
    data = path.read_bytes()
    known = checked_lines.take(path, data)
    if known is not None:
        return ((f"{path}, line {number}", line) for number, line in enumerate(known, start=1))
    reader = LineReader()
    return ((where, reader.check(row, where)) for where, row in _rows(path, data, reader.decode))


def _rows(path: Path, data: bytes, decode: Decode = json.loads) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every line's place ("file, line 3") and its object."""
    *lines, torn = data.split(b"\n")
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield f"{path}, line {number}", _parse(line, f"{path}, line {number}", decode)
    if torn.strip():
        try:
            row = _parse(torn, f"{path}, line {len(lines) + 1}", decode)
        except DataError as error:
            log.warning("%s It is the last line and was cut off while being written: left out.", error)
        else:
            yield f"{path}, line {len(lines) + 1}", row


def _parse(line: bytes, where: str, decode: Decode) -> dict[str, Any]:
    try:
        row = decode(line)
    except (ValueError, RecursionError) as error:  # ValueError: also a number of more digits than Python converts
        raise DataError(f"{where}: expected one JSON object, but {error}. Repair or remove the line.") from error
    return dict(typed(row, dict, where, "the line"))


def _timings(path: Path, config: Mapping[str, Any]) -> tuple[Timing, ...]:
    rows = list(_rows(path, path.read_bytes())) if path.is_file() else []
    found = parse_timing.read(rows)
    for one in found:
        _check_belongs(one, config, str(path))
    return found


def _check_belongs(answer: Answer | Timing, config: Mapping[str, Any], where: str) -> None:
    expected = (config["benchmark"]["name"], config["method"]["name"], config["ratio"])
    came = (answer.benchmark, answer.method, answer.ratio)
    if came != expected:
        raise DataError(
            f"{where}: expected lines of the run in config.yaml (benchmark, method, ratio = {expected}), "
            f"came {came}. Answers of different runs were mixed: remove the line or restore the folder."
        )
