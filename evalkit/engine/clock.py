"""Seconds of each stage, and peak memory."""

from __future__ import annotations

import resource
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from evalkit.ledger import Seconds


class Clock:
    """Wall-clock seconds by stage; on CUDA a stage ends when its kernels have."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.spent: dict[str, float] = defaultdict(float)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the block's seconds to stage `name`."""
        self._finish()
        start = time.perf_counter()
        try:
            yield
        finally:
            self._finish()
            self.spent[name] += time.perf_counter() - start

    def _finish(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def part(self, share: float) -> Clock:
        """A clock with `share` of this one's seconds: what falls to one of several users of the same work."""
        clock = Clock(self.device)
        clock.spent.update({name: value * share for name, value in self.spent.items()})
        return clock

    def seconds(self, *others: Clock) -> Seconds:
        """This clock's stages, with those of `others` added."""
        total: dict[str, float] = defaultdict(float)
        for clock in (self, *others):
            for name, value in clock.spent.items():
                total[name] += value
        return Seconds(**{name: round(value, 6) for name, value in total.items()})


def peak_bytes(device: torch.device) -> int:
    """CUDA: the allocator's peak since the last reset. CPU: the process's peak resident set."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
