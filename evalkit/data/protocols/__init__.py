"""Protocols by name: how a benchmark's question is asked, how a reply is read, how the average is taken."""

from __future__ import annotations

from evalkit.data.protocols.base import Average, PromptContext, Protocol
from evalkit.errors import ConfigError
from evalkit.plugins import Registry

__all__ = ["REGISTRY", "Average", "PromptContext", "Protocol", "get"]

REGISTRY: Registry[Protocol] = Registry(
    "protocols",
    {name: f"evalkit.data.protocols.{name}:PROTOCOL" for name in ("lmms_eval", "official", "retake", "xcomp")},
    check=lambda value: isinstance(value, Protocol),
    named=True,
    expected="an evalkit.data.protocols.Protocol",
)
_SUBTITLES = "_subtitles"


def get(name: str) -> Protocol:
    """The protocol called `name`, or `<name>_subtitles` for one with subtitles; ConfigError if there is none.

    Cheap: lmms-eval's code is imported when first used.
    """
    base = name if name in REGISTRY else str(name).removesuffix(_SUBTITLES)
    if base not in REGISTRY:
        raise ConfigError(
            f"protocol: expected one of {REGISTRY.listed()}, or one of them with {_SUBTITLES} for a benchmark with "
            f"subtitles; got {name!r}"
        )
    return REGISTRY[base] if base == name else REGISTRY[base].with_subtitles()
