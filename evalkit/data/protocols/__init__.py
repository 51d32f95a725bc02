"""Protocols by name: how a benchmark's question is asked, how a reply is read, how the average is taken."""

from __future__ import annotations

from evalkit.data.protocols.base import Average, Protocol
from evalkit.data.protocols.lmms_eval import LmmsEval
from evalkit.errors import ConfigError

__all__ = ["Average", "Protocol", "get"]

_KNOWN = {"lmms_eval": LmmsEval}


def get(name: str) -> Protocol:
    """The protocol called `name`; ConfigError if there is none. Cheap: its code is imported when first used."""
    if name not in _KNOWN:
        raise ConfigError(f"no protocol is called {name!r}; known are {', '.join(_KNOWN)}")
    return _KNOWN[name]()
