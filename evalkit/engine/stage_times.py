"""Seconds of each stage, and peak memory."""

from __future__ import annotations

import gc
import resource
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from evalkit.ledger import Seconds


class Meter:
    """Time and peak memory of a device. Tests give the engine one that counts work in place of seconds."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def now(self) -> float:
        """Wall-clock seconds from an arbitrary start; on CUDA when all kernels have ended."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def reset_peak(self) -> None:
        """Peak memory counts from now on; without effect on a CPU."""
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)

    def peak_bytes(self) -> int:
        """CUDA: the allocator's peak since the last reset. CPU: the process's peak resident set."""
        if self.device.type == "cuda":
            return int(torch.cuda.max_memory_allocated(self.device))
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

    def release(self) -> None:
        """Give back what earlier work left behind, so that what comes next starts as if it were the first."""
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()


class Clock:
    """Seconds by stage, as a meter counts them."""

    def __init__(self, meter: Meter) -> None:
        self.meter = meter
        self.spent: dict[str, float] = defaultdict(float)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the block's seconds to stage `name`."""
        start = self.meter.now()
        try:
            yield
        finally:
            self.spent[name] += self.meter.now() - start

    def part(self, share: float) -> Clock:
        """A clock with `share` of this one's seconds: what falls to one of several users of the same work."""
        clock = Clock(self.meter)
        clock.spent.update({name: value * share for name, value in self.spent.items()})
        return clock

    def seconds(self, *others: Clock) -> Seconds:
        """This clock's stages, with those of `others` added."""
        total: dict[str, float] = defaultdict(float)
        for clock in (self, *others):
            for name, value in clock.spent.items():
                total[name] += value
        return Seconds(**{name: round(value, 6) for name, value in total.items()})
