"""What the runs were made with: environment, settings, methods and identities, and where runs differ."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from evalkit.analysis.compare import pairing
from evalkit.analysis.report.html_table import Field, Head, Line, Table
from evalkit.analysis.tables.formatting import grouped_number

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evalkit.analysis.grid.grouping import NamedRun
    from evalkit.runs.load import Run

_OF_A_RUN = (
    "identity",
    "identity_parts",
    "benchmark",
    "method",
    "adapter",
    "ratio",
    "grid",
)  # settings that stand in the table of runs
_NAMED = 4  # runs that are named where some differ from the others
_NOTE = "identity: hash of everything that can change an answer. answers: lines in the run's folder, of its questions."


@dataclass(frozen=True)
class Value:
    """What a setting was; `runs` says for which, "" for all of them."""

    text: str
    runs: str


@dataclass(frozen=True)
class Provenance:
    """Names with their values, one where all runs agree."""

    environment: Mapping[str, Sequence[Value]]
    settings: Mapping[str, Sequence[Value]]
    methods: Mapping[str, Sequence[Value]]
    runs: Table


def provenance(own: Sequence[NamedRun]) -> Provenance:
    """Read from the runs' config.yaml and environment.json; what a folder does not have is "not recorded"."""
    return Provenance(
        environment=_values(own, [_flat(entry.run.environment) for entry in own]),
        settings=_values(own, [_settings(entry.run) for entry in own]),
        methods=_methods(own),
        runs=_table(own),
    )


def _settings(run: Run) -> dict[str, str]:
    return _flat({key: value for key, value in run.config.items() if key not in _OF_A_RUN})


def _flat(values: Mapping[str, Any], above: str = "") -> dict[str, str]:
    """Nested names joined by dots."""
    found: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{above}{key}.")
        else:
            found[f"{above}{key}"] = _plain(value)
    return found


def _plain(value: object) -> str:
    """Of a place on a machine only the last name: where things lay changes no answer."""
    if isinstance(value, str):
        return f"…/{PurePath(value).name}" if PurePath(value).is_absolute() else value
    return json.dumps(value, ensure_ascii=False)


def _values(own: Sequence[NamedRun], found: Sequence[Mapping[str, str]]) -> dict[str, Sequence[Value]]:
    names = dict.fromkeys(name for values in found for name in values)
    return {name: _shared(own, [values.get(name, "not recorded") for values in found]) for name in names}


def _shared(own: Sequence[NamedRun], texts: Sequence[str]) -> list[Value]:
    """Each distinct value with the runs that have it."""
    by_text: dict[str, list[NamedRun]] = {}
    for entry, text in zip(own, texts, strict=True):
        by_text.setdefault(text, []).append(entry)
    if len(by_text) == 1:
        return [Value(text, "") for text in by_text]
    return [Value(text, _names(members, len(own))) for text, members in by_text.items()]


def _names(members: Sequence[NamedRun], total: int) -> str:
    shown = [f"{entry.method} {entry.run.ratio:g} on {entry.run.label}" for entry in members[:_NAMED]]
    more = [f"{len(members) - _NAMED} more"] if len(members) > _NAMED else []
    return f"{len(members)} of {total} runs: {', '.join([*shown, *more])}"


def _methods(own: Sequence[NamedRun]) -> dict[str, Sequence[Value]]:
    """Each method's class and fields."""
    members: dict[str, list[NamedRun]] = {}
    for entry in own:
        members.setdefault(entry.method, []).append(entry)
    return {name: _shared(group, [_fields(entry.run) for entry in group]) for name, group in members.items()}


def _fields(run: Run) -> str:
    fields = {key: value for key, value in run.config["method"].items() if key not in ("name", "class", "role")}
    adapter = {"adapter": run.setup.tuned} if run.setup.tuned else {}
    parts = [
        str(run.config["method"].get("class", "")),
        *(f"{key} = {value}" for key, value in _flat(fields | adapter).items()),
    ]
    return ", ".join(part for part in parts if part) or "no fields"


def _table(own: Sequence[NamedRun]) -> Table:
    several = len({entry.setup for entry in own}) > 1
    titles = ("benchmark", *(("setup",) if several else ()), "role", "subset", "identity")
    heads = tuple(Head(text, kind="text") for text in titles)
    lines = tuple(
        Line(
            entry.method,
            f"{entry.run.ratio:g}",
            _run(entry.run, " · ".join(entry.setup) if several else None),
            opens=place > 0 and entry.method != own[place - 1].method,
        )
        for place, entry in enumerate(own)
    )
    return Table("Runs", "method, ratio", ((*heads, Head("answers"), Head("failed")),), lines, _NOTE)


def _run(run: Run, setup: str | None) -> tuple[Field, ...]:
    failed = pairing.failed(run)
    asked = run.config["benchmark"]["questions"]
    return (
        Field(f"{run.label}, {run.split}", "text"),
        *([] if setup is None else [Field(setup, "text")]),
        Field(run.role, "text"),
        Field(str(run.config.get("subset", "–")), "text"),
        Field(run.identity, "text code"),
        Field(
            f"{grouped_number(len(run.answers), 0)} of {grouped_number(asked, 0)}",
            "off" if len(run.answers) < asked else "",
        ),
        Field(grouped_number(failed, 0), "off" if failed else ""),
    )
