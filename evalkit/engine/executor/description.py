"""How a worker builds its engine: the setup of a run as values that can be sent to another process."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields, replace
from multiprocessing.reduction import ForkingPickler
from typing import TYPE_CHECKING, Any

from evalkit.data import protocols
from evalkit.engine.setup import EngineSetup

if TYPE_CHECKING:
    from evalkit.data.protocols import Protocol
    from evalkit.engine.answer import Engine


@dataclass(frozen=True)
class EngineDescription:
    """How a worker builds its engine: the fields of an EngineSetup as values that can be sent."""

    setup: Mapping[str, Any]
    protocol: str | Protocol  # its name where one can be found by it, as its parts may not be sent
    adapters: Collection[str | None]  # of the operating points that are to answer

    def __call__(self) -> Engine:
        """The engine, its models loaded."""
        protocol = protocols.get(self.protocol) if isinstance(self.protocol, str) else self.protocol
        setup = EngineSetup(protocol=protocol, **self.setup)
        setup.source.start()
        setup.engine.frame_encoders(self.adapters)
        return setup.engine


def description(
    setup: EngineSetup, device: str, threads: int | None, adapters: Collection[str | None]
) -> EngineDescription:
    """Of the engine of `setup` on another device, with so many threads; nothing that is loaded already is in it."""
    kept = {field.name: getattr(setup, field.name) for field in fields(setup) if field.name != "protocol"}
    kept["backbone"] = replace(setup.backbone, device=device, threads=threads)
    own, name = setup.protocol, setup.protocol.name
    known = name.removesuffix("_subtitles") in protocols.REGISTRY and protocols.get(name) == own
    return EngineDescription(kept, name if known else own, adapters)


def unsendable(value: object) -> str:
    """Why a value cannot be sent to another process, "" where it can."""
    reason = "methods and protocols must be in a module that a worker process can import"
    try:
        sent = bytes(ForkingPickler.dumps(value))
    except Exception as error:  # noqa: BLE001 – pickle raises many kinds
        return f"{reason} ({error})"
    typed_in = getattr(sys.modules["__main__"], "__file__", None) is None  # a notebook, whose cells no process imports
    return f"{reason}, not in the session that starts it" if typed_in and b"__main__" in sent else ""
