"""One line of answers.jsonl, checked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from evalkit.errors import DataError
from evalkit.runs.fields import LARGEST, need, need_number, numbers, optional, optional_number, typed
from evalkit.runs.parse_ledger import ledger
from evalkit.types import Answer, KeptOverTime, Reply

if TYPE_CHECKING:
    from collections.abc import Mapping

STATUSES = ("ok", "unparsed", "failed")
NOTHING = Reply(letter=None, correct=None)


def read(row: dict[str, Any], where: str, kept: KeptOverTime | None = None) -> Answer:
    """The answer in `row`; `where` names file and line in the DataError that anything malformed raises.

    `kept`: what is known to be kept, in a row that does not say it.
    """
    reply = Reply(
        letter=need(row, "letter", (str, type(None)), where), correct=need(row, "correct", (bool, type(None)), where)
    )
    status, gold = need(row, "status", str, where), need(row, "gold", str, where)
    _expect_scored(status, reply, gold, where)
    spent = need(row, "ledger", (dict, type(None)), where)
    texts = {key: need(row, key, str, where) for key in _TEXTS}
    return Answer(
        groups=_groups(need(row, "groups", dict, where), where),
        ratio=float(need_number(row, "ratio", where)),
        letter=reply.letter,
        gold=gold,
        correct=reply.correct,
        status=status,
        error=need(row, "error", (str, type(None)), where),
        ledger=None if spent is None else ledger(spent, f"{where}: ledger"),
        prompt=optional(row, "prompt", str, where) or "",
        options=tuple(optional(row, "options", list, where) or ()),
        duration_s=optional_number(row, "duration_s", where),
        kept=kept or _kept(optional(row, "kept", dict, where), f"{where}: kept"),
        repeated=optional(row, "repeated", bool, where),
        evidence_s=_spans(optional(row, "evidence_s", list, where), where),
        short=optional(row, "short", str, where),
        margin=optional_number(row, "margin", where, least=-LARGEST),
        video_file=optional(row, "video_file", str, where),
        stand_ins=optional_number(row, "stand_ins", where, (int,)),
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


_TEXTS = ("benchmark", "question_id", "video_id", "method", "text", "prompt_sha")


def _expect_scored(status: str, reply: Reply, gold: str, where: str) -> None:
    came = f"{status = }, letter = {reply.letter!r}, correct = {reply.correct!r}. Repair or remove the line."
    if status not in STATUSES or (status == "failed" and reply != NOTHING) or (status == "ok") != bool(reply.letter):
        raise DataError(
            f"{where}: expected status ok with a letter, unparsed without one, or failed without letter and correct; "
            f"came {came}"
        )
    if wrong := reply.contradiction(gold):
        raise DataError(f"{where}: {wrong}. Repair or remove the line.")


def _groups(groups: dict[str, Any], where: str) -> dict[str, tuple[str, ...]]:
    for kind in groups:
        for label in need(groups, kind, list, f"{where}: groups"):
            typed(label, str, f"{where}: groups", kind)
    return {kind: tuple(dict.fromkeys(labels)) for kind, labels in groups.items()}


def _kept(row: dict[str, Any] | None, where: str) -> KeptOverTime | None:
    if row is None:
        return None
    seconds, tokens = (_floats(need(row, key, list, where), where, key) for key in ("seconds", "tokens"))
    index = optional(row, "cells", list, where)
    cells = None if index is None else _whole_numbers(index, where, "cells")
    ends = optional(row, "last_seconds", list, where)
    last = None if ends is None else _floats(ends, where, "last_seconds")
    sources = optional(row, "merged", list, where)
    merged = None if sources is None else _whole_numbers(sources, where, "merged")
    lengths = [len(own) for own in (seconds, tokens, cells, last, merged) if own is not None]
    if len(set(lengths)) > 1:
        raise DataError(
            f"{where}: expected one of seconds, tokens, cells, last_seconds, merged per cell, came {lengths}. "
            "Repair the line."
        )
    return KeptOverTime(seconds=seconds, tokens=tokens, cells=cells, last_seconds=last, merged=merged)


def _floats(values: list[Any], where: str, what: str) -> tuple[float, ...]:
    return tuple(map(float, numbers(values, where, what)))


def _whole_numbers(values: list[Any], where: str, what: str) -> tuple[int, ...]:
    return tuple(numbers(values, where, what, (int,)))


def _spans(values: list[Any] | None, where: str) -> tuple[tuple[float, float], ...] | None:
    """Spans in seconds, each [from, to]; None where an older version has not written them."""
    if values is None:
        return None
    spans = [_floats(typed(span, list, where, "evidence_s"), where, "evidence_s") for span in values]
    if any(len(span) != 2 for span in spans):
        raise DataError(f"{where}: expected spans [from, to] in evidence_s, came {values!r}. Repair the line.")
    return tuple((span[0], span[1]) for span in spans)
