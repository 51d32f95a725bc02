"""Protocols by name: how a benchmark's question is asked, how a reply is read, how the average is taken."""

from __future__ import annotations

from evalkit.data.protocols.base import Average, PromptContext, Protocol
from evalkit.data.protocols.lmms_eval import LmmsEval
from evalkit.errors import ConfigError

__all__ = ["NAMES", "Average", "PromptContext", "Protocol", "get"]

NAMES = ("lmms_eval", "official", "retake", "xcomp")
_SUBTITLES = "_subtitles"
_VERSION = "1"  # of the three tables: raised when any of their prompts, readers or averages changes


def get(name: str) -> Protocol:
    """The protocol called `name`, or `<name>_subtitles` for Video-MME with subtitles; ConfigError if there is none.

    Cheap: lmms-eval's code is imported when first used.
    """
    base, subtitles = name.removesuffix(_SUBTITLES), name.endswith(_SUBTITLES)
    if base == "lmms_eval":
        return LmmsEval(name=name, subtitles=subtitles)
    if base not in NAMES:
        raise ConfigError(
            f"no protocol is called {name!r}; known are {', '.join(NAMES)}, "
            f"and each with {_SUBTITLES} for Video-MME with subtitles"
        )
    from evalkit.data.protocols import official, retake, xcomp
    from evalkit.data.protocols.table_protocol import Published

    tasks = {"official": official.TASKS, "retake": retake.TASKS, "xcomp": xcomp.TASKS}[base]
    return Published(name=name, version=_VERSION, tasks=tasks, subtitles=subtitles)
