"""Worker processes on this machine: how many fit, and which device and how many threads each gets."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch

from evalkit import machine
from evalkit.engine.encoded_video import Pending
from evalkit.engine.executor import forking
from evalkit.engine.executor.base import Executor, Given, InProcess, adapters_of
from evalkit.engine.executor.description import description, unsendable
from evalkit.engine.executor.pool import DEADLINE, Pool
from evalkit.engine.executor.process import Processes
from evalkit.engine.setup import EngineSetup
from evalkit.errors import ConfigError
from evalkit.model.checkpoint import weight_files

if TYPE_CHECKING:
    from evalkit.engine.backbone import Backbone

log = logging.getLogger(__name__)

PROCESS_BYTES = 1.5 * (1 << 30)  # a worker on the CPU without its weights: libraries, and the frames of a video


@dataclass(frozen=True)
class LocalExecutor(Executor):
    """Videos side by side in worker processes, each with an engine of its own."""

    workers: int | None = None  # None: as many as fit; 1: this process alone
    deadline: float = DEADLINE  # seconds without an answer, after which a worker is killed
    meanwhile: Callable[[], object] | None = field(default=None, compare=False)  # for a process that waits, as in Pool

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
        forked = forking.possible() and all(device == "cpu" for device, _ in places)
        with Pool(Processes(described, forked=forked), len(described), self.deadline, self.meanwhile) as pool:
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
