"""The fields of what is stored, each checked as it is read: DataError says where, what was expected and what came."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from evalkit.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping

Kinds = type | tuple[type, ...]

NUMBER = (int, float)
LARGEST = 1e24  # of any number that is stored; sums and squares of such numbers are still finite


def need(row: Mapping[str, Any], key: str, kind: Kinds, where: str) -> Any:
    """`row[key]`, which must be there and of `kind`; DataError otherwise."""
    return typed(_there(row, key, where), kind, where, key)


def optional(row: Mapping[str, Any], key: str, kind: Kinds, where: str) -> Any:
    """`row[key]`, None where an older version has not written it; of `kind` otherwise."""
    value = row.get(key)
    return None if value is None else typed(value, kind, where, key)


def typed(value: Any, kind: Kinds, where: str, what: str) -> Any:
    """`value`, which must be of `kind`; DataError otherwise."""
    if not isinstance(value, kind):
        raise DataError(f"{where}: expected {what} to be {_words(kind)}, came {_shown(value)}. Repair or remove it.")
    return value


def need_number(row: Mapping[str, Any], key: str, where: str, kinds: tuple[type, ...] = NUMBER) -> Any:
    """`row[key]`, which must be there, of `kinds`, finite and not below 0; DataError otherwise."""
    return number(_there(row, key, where), where, key, kinds)


def optional_number(
    row: Mapping[str, Any], key: str, where: str, kinds: tuple[type, ...] = NUMBER, least: float = 0.0
) -> Any:
    """`row[key]`, None where an older version has not written it; else as `number`."""
    value = row.get(key)
    return None if value is None else number(value, where, key, kinds, least)


def number(value: Any, where: str, what: str, kinds: tuple[type, ...] = NUMBER, least: float = 0.0) -> Any:
    """`value`, which must be of `kinds`, finite and not below `least`; DataError otherwise."""
    if (
        type(value) in kinds and least <= value <= LARGEST
    ):  # true and false are no numbers, though Python has them as int
        return value
    typed(value, kinds, where, what)
    bounds = f"from {least:g} to {LARGEST:g}"
    raise DataError(
        f"{where}: expected {what} to be {_words(kinds)} {bounds}, came {_shown(value)}. Repair or remove it."
    )


def numbers(values: list[Any], where: str, what: str, kinds: tuple[type, ...] = NUMBER) -> list[Any]:
    """`values`, each as `number`."""
    if not _all_are(values, kinds):
        for value in values:
            number(value, where, what, kinds)
    return values


def _all_are(values: list[Any], kinds: tuple[type, ...]) -> bool:
    """One look at all of them, which takes a tenth of the time of one at each."""
    if not set(map(type, values)) <= set(kinds) or min(values, default=0) < 0 or max(values, default=0) > LARGEST:
        return False
    return not math.isnan(sum(values))  # one that is not a number hides from both


def _there(row: Mapping[str, Any], key: str, where: str) -> Any:
    if key not in row:
        raise DataError(f"{where}: {key} is missing. Repair or remove it, or answer again in a fresh results_dir.")
    return row[key]


def _words(kind: Kinds) -> str:
    kinds = kind if isinstance(kind, tuple) else (kind,)
    return " or ".join("null" if one is type(None) else one.__name__ for one in kinds)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}…"
