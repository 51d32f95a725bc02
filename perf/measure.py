"""What the measurements share: peak memory of a call, times in turn, CPU seconds, and a section of RESULTS.md."""

from __future__ import annotations

import datetime
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

import pandas as pd
import psutil
import torch
from torch.profiler import ProfilerActivity, profile

Mark = tuple[float, float]  # CPU and wall seconds

TWO = 1.8  # times as fast as one worker two must be

RESULTS = Path(__file__).parent / "RESULTS.md"
CPUINFO = Path("/proc/cpuinfo")


def peak_bytes(call: Callable[[], object]) -> int:
    """Most bytes that the CPU allocator held above what it held at the start, temporaries of operators included."""
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as run:
            call()
        run.export_chrome_trace(file.name)
        events = json.loads(Path(file.name).read_text())["traceEvents"]
    held = [e["args"] for e in sorted((e for e in events if e.get("name") == "[memory]"), key=lambda e: e["ts"])]
    start = held[0]["Total Allocated"] - held[0]["Bytes"] if held else 0
    return max((e["Total Allocated"] - start for e in held), default=0)


def in_turn(calls: Sequence[Callable[[], object]], runs: int) -> list[float]:
    """Median wall seconds of each call, after one warm-up; they run A B A B …, so that drift falls on all."""
    spent: list[list[float]] = [[] for _ in calls]
    for run in range(runs + 1):
        for times, call in zip(spent, calls, strict=True):
            start = time.perf_counter()
            call()
            if run:
                times.append(time.perf_counter() - start)
    return [statistics.median(times) for times in spent]


def cpu_seconds() -> float:
    """User and system seconds of this process and of all that it has started, those that have ended included."""
    own, total = psutil.Process(), 0.0
    for process in [own, *own.children(recursive=True)]:
        with suppress(psutil.NoSuchProcess):  # it has just ended: counted by the process that started it from now on
            total += sum(process.cpu_times()[:4])  # user and system, its own and those of what it has waited for
    return total


def mark() -> Mark:
    """CPU seconds so far, as `cpu_seconds`, and wall seconds from an arbitrary start."""
    return cpu_seconds(), time.perf_counter()


def against_one(workers: int, one: float, seconds: float) -> dict[str, object]:
    """How much faster so many workers were than one, and whether two held their bar."""
    faster = one / seconds
    verdict = "" if workers != 2 else "held" if faster >= TWO else "missed"
    return {"faster": faster, f"≥ {TWO:g}": verdict}


def table(rows: Sequence[dict[str, object]]) -> str:
    """Rows in Markdown, numbers to three digits."""
    texts = [{key: f"{v:.3g}" if isinstance(v, float) else str(v) for key, v in row.items()} for row in rows]
    return str(pd.DataFrame(texts).to_markdown(index=False, disable_numparse=True, stralign="right"))


def processor() -> str:
    """The CPU's name, family and model as Linux tells them, else its architecture alone."""
    lines = CPUINFO.read_text(encoding="utf-8").split("\n\n")[0].splitlines() if CPUINFO.exists() else []
    told = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    if "model name" not in told:
        return platform.machine()
    return f"{told['model name']} (family {told.get('cpu family', '?')}, model {told.get('model', '?')})"


def record(title: str, rows: Sequence[dict[str, object]], note: str) -> str:
    """Put a section into RESULTS.md in place of the one with the same title; returns it."""
    machine = f"{processor()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    machine += f", transformers {version('transformers')}, {datetime.datetime.now(tz=datetime.UTC).date()}"
    section = f"## {title}\n\n{machine}\n\n{table(rows)}\n\n{note}\n"
    old = RESULTS.read_text(encoding="utf-8") if RESULTS.exists() else "# Benchmarks\n\n"
    head, *others = old.split("\n## ")
    kept = [other for other in others if not other.startswith(f"{title}\n")]
    parts = sorted([*kept, section.removeprefix("## ").rstrip() + "\n"])
    RESULTS.write_text("\n## ".join([head.rstrip() + "\n", *parts]), encoding="utf-8")
    return section
