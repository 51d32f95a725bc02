"""What of this machine a process may use: CPU cores and memory, within the limits of its container."""

from __future__ import annotations

import math
import os
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")  # of this process, where a container has mounted it (version 2)
MEMINFO = Path("/proc/meminfo")
GPU_DRIVERS = (Path("/dev/nvidiactl"), Path("/dev/kfd"))  # there once a driver of NVIDIA or AMD is loaded


def cores() -> int:
    """CPU cores that this process may run on, at least one."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux alone has it
    allowed = len(affinity(0)) if affinity else os.cpu_count() or 1
    quota, _, period = _read(CGROUP / "cpu.max").partition(" ")
    shared = math.ceil(int(quota) / int(period)) if quota.isdigit() and period.isdigit() else allowed
    return max(1, min(allowed, shared))


def free_bytes() -> float:
    """Bytes of memory that can be taken without swapping; infinite where the system does not say."""
    lines = (line.split() for line in _read(MEMINFO).splitlines())
    system = next((int(words[1]) * 1024 for words in lines if words[0] == "MemAvailable:"), math.inf)
    limit, used = _read(CGROUP / "memory.max"), _read(CGROUP / "memory.current")
    inside = int(limit) - int(used) if limit.isdigit() and used.isdigit() else math.inf
    return max(0, min(system, inside))


def has_gpu() -> bool:
    """Whether a driver says that there is a GPU; what torch can do with it is not asked."""
    return any(file.exists() for file in GPU_DRIVERS)


def _read(file: Path) -> str:
    """The text of one of the kernel's files, "" where there is none."""
    try:
        return file.read_text(encoding="utf-8").strip()
    except OSError:
        return ""
