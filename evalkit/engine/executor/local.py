"""Worker processes on this machine: how many fit, and which device and how many threads each gets."""

from __future__ import annotations

import logging
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from multiprocessing.reduction import ForkingPickler
from typing import TYPE_CHECKING, Any

import torch

from evalkit import machine
from evalkit.data import protocols
from evalkit.engine.encoded_video import Pending
from evalkit.engine.executor.base import Executor, Given, InProcess, adapters_of
from evalkit.engine.executor.pool import Pool
from evalkit.engine.setup import EngineSetup
from evalkit.errors import ConfigError
from evalkit.model.checkpoint import weight_files

if TYPE_CHECKING:
    from evalkit.data.protocols import Protocol
    from evalkit.engine.answer import Engine
    from evalkit.engine.backbone import Backbone

log = logging.getLogger(__name__)

PROCESS_BYTES = 1.5 * (1 << 30)  # a worker on the CPU without its weights: libraries, and the frames of a video


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


@dataclass(frozen=True)
class LocalExecutor(Executor):
    """Videos side by side in worker processes, each with an engine of its own."""

    workers: int | None = None  # None: as many as fit; 1: this process alone

    @contextmanager
    def answers(self, setup: EngineSetup, videos: Sequence[Pending]) -> Iterator[Iterator[Given]]:
        """As Executor. With `workers` given, ConfigError for a method or protocol that cannot be sent to a process;
        else it is answered in this one.
        """
        wanted = min(len(videos), fitting(setup.backbone) if self.workers is None else self.workers)
        places = placement(setup.backbone, wanted)
        beside = replace(setup, processes=max(1, wanted))
        described = [description(beside, device, threads, adapters_of(videos)) for device, threads in places]
        reason = unsendable([described, list(videos[0])]) if wanted > 1 else ""
        if reason and self.workers is not None:
            raise ConfigError(f"executor.workers={self.workers}: {reason}, or give executor.workers=1 (workers=1)")
        if wanted <= 1 or reason:
            if reason:
                log.warning("answering in one process: %s", reason)
            with InProcess().answers(setup, videos) as answers:
                yield answers
            return
        log.info("starting %d workers (%s), each loads the backbone %s", wanted, _said(places), setup.backbone.name)
        with Pool(described) as pool:
            yield pool.answers(videos)


def fitting(backbone: Backbone) -> int:
    """How many workers this machine takes: one per GPU that is visible, else as many as cores and memory allow."""
    if backbone.torch_device.type == "cuda":
        return torch.cuda.device_count() if _any_gpu(backbone) else 1
    by_cores = machine.cores() // (backbone.threads or machine.cores())
    weights = sum(file.stat().st_size for file in weight_files(backbone.checkpoint))
    by_memory = machine.free_bytes() // (PROCESS_BYTES + 2 * weights)  # twice, for those that are widened to float32
    return int(max(1, min(by_cores, by_memory)))


def placement(backbone: Backbone, workers: int) -> list[tuple[str, int | None]]:
    """Device and threads of each worker: the GPUs by turns unless one is named, the cores divided."""
    most = max(1, machine.cores() // max(1, workers))
    threads = min(backbone.threads or most, most)
    if backbone.torch_device.type == "cuda":
        gpus = [f"cuda:{n}" for n in range(torch.cuda.device_count())] if _any_gpu(backbone) else [backbone.device]
        return [(gpus[worker % len(gpus)], threads) for worker in range(workers)]
    return [("cpu", threads)] * workers


def _any_gpu(backbone: Backbone) -> bool:
    return ":" not in backbone.device


def _said(places: Sequence[tuple[str, int | None]]) -> str:
    devices = ", ".join(dict.fromkeys(device for device, _ in places))
    return f"{devices}; {places[0][1]} threads each" if places[0][1] != 1 else f"{devices}; one thread each"


def unsendable(value: object) -> str:
    """Why a value cannot be sent to another process, "" where it can."""
    reason = "methods and protocols must be in a module that a worker process can import"
    try:
        sent = bytes(ForkingPickler.dumps(value))
    except Exception as error:  # noqa: BLE001 – pickle raises many kinds
        return f"{reason} ({error})"
    typed_in = getattr(sys.modules["__main__"], "__file__", None) is None  # a notebook, whose cells no process imports
    return f"{reason}, not in the session that starts it" if typed_in and b"__main__" in sent else ""
