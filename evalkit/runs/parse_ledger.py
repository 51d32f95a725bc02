"""What a stored line says was spent, checked."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

from evalkit.errors import DataError
from evalkit.ledger import Flops, Ledger, Seconds
from evalkit.runs.fields import need, need_number, numbers, optional, optional_number

if TYPE_CHECKING:
    from collections.abc import Mapping


def ledger(row: Mapping[str, Any], where: str) -> Ledger:
    """DataError where a number is missing, negative or not finite.

    Fields that this version does not know are ignored, so that answers of newer versions stay readable.
    """
    spent, operations = need(row, "seconds", dict, where), optional(row, "flops", dict, where)
    counts = {name: need_number(row, name, where) for name in _COUNTS}
    layers = _per_layer(need(row, "kv_tokens_per_layer", list, where), where, "kv_tokens_per_layer")
    if not layers:
        raise DataError(f"{where}: expected kv_tokens_per_layer of at least one layer, came []. Repair or remove it.")
    between = optional(row, "kv_separators_per_layer", list, where) or []
    return Ledger(
        shared_prefix=need(row, "shared_prefix", bool, where),
        seconds=seconds(spent, where),
        seconds_shared=optional(row, "seconds_shared", bool, where) is not False,
        flops=None if operations is None else _flops(operations, f"{where}: flops"),
        own_seconds=optional_number(row, "own_seconds", where),
        own_flops=optional_number(row, "own_flops", where, (int,)),
        tokens_represented=optional_number(row, "tokens_represented", where, (int,)),
        kv_tokens_per_layer=layers,
        kv_separators_per_layer=_per_layer(between, where, "kv_separators_per_layer"),
        **counts,
    )


_OTHERS = (
    "shared_prefix",
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
_COUNTS = tuple(field.name for field in fields(Ledger) if field.name not in _OTHERS)
_FLOPS = tuple(field.name for field in fields(Flops))
_SECONDS = tuple(field.name for field in fields(Seconds))


def seconds(row: Mapping[str, Any], where: str) -> Seconds:
    """Seconds of every stage; DataError where one is missing, negative or not finite."""
    return Seconds(**{name: float(need_number(row, name, where)) for name in _SECONDS})


def _flops(row: Mapping[str, Any], where: str) -> Flops:
    return Flops(**{name: need_number(row, name, where, (int,)) for name in _FLOPS})


def _per_layer(values: list[Any], where: str, what: str) -> tuple[int, ...]:
    return tuple(map(int, numbers(values, where, what)))
