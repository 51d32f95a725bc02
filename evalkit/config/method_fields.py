"""Fields of a method's class, as a configuration gives them: the names and types that its dataclass declares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from hydra.utils import get_object

from evalkit.errors import ConfigError

_PLAIN: Mapping[Any, tuple[str, type | tuple[type, ...]]] = {
    bool: ("true or false", bool),
    int: ("an integer", int),
    float: ("a number", (int, float)),
    str: ("a text", str),
    NoneType: ("null", NoneType),
}


def check(method: str, given: Mapping[str, Any]) -> None:
    """ConfigError where `given`, what Hydra makes the method of, names a field that the class has not, or gives one
    another type. What cannot be looked up, and types other than plain ones, are left to the class.
    """
    try:
        kind = get_object(str(given.get("_target_")))
        hints = get_type_hints(kind)
    except Exception:  # noqa: BLE001 – whatever importing another's module raises; making the method tells it
        return
    if not (isinstance(kind, type) and is_dataclass(kind)):
        return
    known = [field.name for field in fields(kind) if field.init]
    for name, value in given.items():
        if name.startswith("_"):
            continue
        if name not in known:
            close = get_close_matches(name, known, n=1)
            meant = f" (did you mean {close[0]}?)" if close else ""
            raise ConfigError(f"method {method}: there is no field {name}{meant}; expected one of {', '.join(known)}")
        if not _fits(value, hints[name]):
            raise ConfigError(f"method {method}: {name}: expected {_words(hints[name])}, got {value!r}")


def _fits(value: Any, hint: Any) -> bool:
    if get_origin(hint) in (Union, UnionType):
        return any(_fits(value, one) for one in get_args(hint))
    if get_origin(hint) is Literal:
        return any(value == one and type(value) is type(one) for one in get_args(hint))
    if hint not in _PLAIN:
        return True
    return isinstance(value, _PLAIN[hint][1]) and (hint is bool or not isinstance(value, bool))


def _words(hint: Any) -> str:
    if get_origin(hint) in (Union, UnionType):
        return " or ".join(map(_words, get_args(hint)))
    if get_origin(hint) is Literal:
        return f"one of {', '.join(map(str, get_args(hint)))}"
    return _PLAIN[hint][0]
