"""One line of answers.jsonl, checked."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

from evalkit.errors import DataError
from evalkit.ledger import Flops, Ledger, Seconds
from evalkit.types import Answer, KeptOverTime

if TYPE_CHECKING:
    from collections.abc import Mapping

STATUSES = ("ok", "unparsed", "failed")


def read(row: dict[str, Any], where: str, kept: KeptOverTime | None = None) -> Answer:
    """The answer in `row`; `where` names file and line in the DataError that anything malformed raises.

    `kept`: what is known to be kept, in a row that does not say it.
    """
    status = need(row, "status", str, where)
    correct = need(row, "correct", (bool, type(None)), where)
    if status not in STATUSES or (status == "failed" and correct is not None):
        raise DataError(
            f"{where}: expected status ok or unparsed with correct true, false or null (left out by the protocol), "
            f"or failed with null; came {status = }, {correct = }. Repair or remove the line."
        )
    ledger = need(row, "ledger", (dict, type(None)), where)
    texts = {key: need(row, key, str, where) for key in _TEXTS}
    return Answer(
        groups=_groups(need(row, "groups", dict, where), where),
        ratio=float(need(row, "ratio", (int, float), where)),
        letter=need(row, "letter", (str, type(None)), where),
        correct=correct,
        status=status,
        error=need(row, "error", (str, type(None)), where),
        ledger=None if ledger is None else _ledger(ledger, f"{where}: ledger"),
        prompt=optional(row, "prompt", str, where) or "",
        options=tuple(optional(row, "options", list, where) or ()),
        duration_s=optional(row, "duration_s", (int, float), where),
        kept=kept or _kept(optional(row, "kept", dict, where), f"{where}: kept"),
        repeated=optional(row, "repeated", bool, where),
        evidence_s=_spans(optional(row, "evidence_s", list, where), where),
        short=optional(row, "short", str, where),
        margin=optional(row, "margin", (int, float), where),
        video_file=optional(row, "video_file", str, where),
        stand_ins=optional(row, "stand_ins", int, where),
        **texts,
    )


def expect_run(row: Mapping[str, Any], identity: Any, where: str) -> None:
    """DataError where the line says that another run wrote it; those of older versions do not say."""
    came = row.get("identity", identity)
    if came != identity:
        raise DataError(
            f"{where}: expected a line of the run {identity}, came one of {came}. Answers of different runs were "
            "mixed: remove the line or restore the folder."
        )


_TEXTS = ("benchmark", "question_id", "video_id", "method", "text", "gold", "prompt_sha")


def _groups(groups: dict[str, Any], where: str) -> dict[str, tuple[str, ...]]:
    for kind in groups:
        for label in need(groups, kind, list, f"{where}: groups"):
            typed(label, str, f"{where}: groups", kind)
    return {kind: tuple(dict.fromkeys(labels)) for kind, labels in groups.items()}


def _kept(row: dict[str, Any] | None, where: str) -> KeptOverTime | None:
    if row is None:
        return None
    seconds, tokens = (_numbers(need(row, key, list, where), where, key) for key in ("seconds", "tokens"))
    index = optional(row, "cells", list, where)
    cells = None if index is None else _whole_numbers(index, where, "cells")
    ends = optional(row, "last_seconds", list, where)
    last = None if ends is None else _numbers(ends, where, "last_seconds")
    sources = optional(row, "merged", list, where)
    merged = None if sources is None else _whole_numbers(sources, where, "merged")
    lengths = [len(own) for own in (seconds, tokens, cells, last, merged) if own is not None]
    if len(set(lengths)) > 1:
        raise DataError(
            f"{where}: expected one of seconds, tokens, cells, last_seconds, merged per cell, came {lengths}. "
            "Repair the line."
        )
    return KeptOverTime(seconds=seconds, tokens=tokens, cells=cells, last_seconds=last, merged=merged)


def _numbers(values: list[Any], where: str, what: str) -> tuple[float, ...]:
    return tuple(map(float, _all_typed(values, (int, float), where, what)))


def _whole_numbers(values: list[Any], where: str, what: str) -> tuple[int, ...]:
    return tuple(map(int, _all_typed(values, (int,), where, what)))


def _all_typed(values: list[Any], kinds: tuple[type, ...], where: str, what: str) -> list[Any]:
    if not set(map(type, values)) <= set(kinds):  # else nothing needs a closer look, which takes ten times as long
        for value in values:
            typed(value, kinds, where, what)
    return values


def _spans(values: list[Any] | None, where: str) -> tuple[tuple[float, float], ...] | None:
    """Spans in seconds, each [from, to]; None where an older version has not written them."""
    if values is None:
        return None
    spans = [_numbers(typed(span, list, where, "evidence_s"), where, "evidence_s") for span in values]
    if any(len(span) != 2 for span in spans):
        raise DataError(f"{where}: expected spans [from, to] in evidence_s, came {values!r}. Repair the line.")
    return tuple((span[0], span[1]) for span in spans)


def _ledger(row: dict[str, Any], where: str) -> Ledger:
    """Fields that this version does not know are ignored, so that answers of newer versions stay readable."""
    number = (int, float)
    spent, flops = need(row, "seconds", dict, where), optional(row, "flops", dict, where)
    layers = need(row, "kv_tokens_per_layer", list, where)
    between = optional(row, "kv_separators_per_layer", list, where) or []
    counts = {name: need(row, name, number, where) for name in _COUNTS}
    return Ledger(
        seconds=seconds(spent, where),
        seconds_shared=optional(row, "seconds_shared", bool, where) is not False,
        flops=None if flops is None else Flops(**{name: need(flops, name, int, where) for name in _FLOPS}),
        own_seconds=optional(row, "own_seconds", number, where),
        own_flops=optional(row, "own_flops", int, where),
        tokens_represented=optional(row, "tokens_represented", int, where),
        kv_tokens_per_layer=tuple(map(int, _all_typed(layers, number, where, "kv_tokens_per_layer"))),
        kv_separators_per_layer=tuple(map(int, _all_typed(between, number, where, "kv_separators_per_layer"))),
        **counts,
    )


_NESTED = (
    "seconds",
    "seconds_shared",
    "flops",
    "own_seconds",
    "own_flops",
    "tokens_represented",
    "kv_tokens_per_layer",
    "kv_separators_per_layer",
)
# once: a reader asks for every line
_COUNTS = tuple(field.name for field in fields(Ledger) if field.name not in _NESTED)
_FLOPS = tuple(field.name for field in fields(Flops))
_SECONDS = tuple(field.name for field in fields(Seconds))


def seconds(row: Mapping[str, Any], where: str) -> Seconds:
    """Seconds of every stage; DataError where one is missing."""
    return Seconds(**{name: float(need(row, name, (int, float), where)) for name in _SECONDS})


def need(row: Mapping[str, Any], key: str, kind: type | tuple[type, ...], where: str) -> Any:
    """`row[key]`, which must be there and of `kind`; DataError otherwise."""
    if key not in row:
        raise DataError(f"{where}: {key} is missing. Repair or remove it, or answer again in a fresh results_dir.")
    return typed(row[key], kind, where, key)


def optional(row: Mapping[str, Any], key: str, kind: type | tuple[type, ...], where: str) -> Any:
    """`row[key]`, None where an older version has not written it; of `kind` otherwise."""
    value = row.get(key)
    return None if value is None else typed(value, kind, where, key)


def typed(value: Any, kind: type | tuple[type, ...], where: str, what: str) -> Any:
    """`value`, which must be of `kind`; DataError otherwise."""
    if not isinstance(value, kind):
        kinds = kind if isinstance(kind, tuple) else (kind,)
        expected = " or ".join("null" if k is type(None) else k.__name__ for k in kinds)
        raise DataError(f"{where}: expected {what} to be {expected}, came {value!r}. Repair or remove it.")
    return value
