"""Readers that crash, hang or give wrong frames, for the process that decodes: it finds them by entry points."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

from evalkit.data.readers import pyav
from evalkit.data.readers.timeline import Timeline
from tests.support.golden import ROOT

NAMES = ("crash", "crash_bad", "crash_once", "hang", "swap")


def crash(timeline: Timeline, wanted: Sequence[int]) -> Generator[tuple[int, np.ndarray]]:
    """A decoder with a defect: it gives one frame and ends its process."""
    yield next(pyav.read(timeline, wanted))
    os.kill(os.getpid(), signal.SIGSEGV)


def crash_bad(timeline: Timeline, wanted: Sequence[int]) -> Generator[tuple[int, np.ndarray]]:
    """The same for files that are called so."""
    yield from (crash if timeline.path.stem == "bad" else pyav.read)(timeline, wanted)


def crash_once(timeline: Timeline, wanted: Sequence[int]) -> Generator[tuple[int, np.ndarray]]:
    """The same, the first time that a file is read."""
    mark = timeline.path.with_suffix(".read")
    if mark.exists():
        yield from pyav.read(timeline, wanted)
        return
    mark.touch()
    yield from crash(timeline, wanted)


def hang(timeline: Timeline, wanted: Sequence[int]) -> Generator[tuple[int, np.ndarray]]:
    """Waits for a pipe that says nothing, and tells who reads the named pipe beside the file, where there is one."""
    yield next(pyav.read(timeline, wanted))
    with suppress(FileNotFoundError):
        os.close(os.open(timeline.path.with_suffix(".hangs"), os.O_WRONLY))  # which waits for the reader
    os.read(os.pipe()[0], 1)


def swap(timeline: Timeline, wanted: Sequence[int]) -> Generator[tuple[int, np.ndarray]]:
    """Gives the first two frames in each other's place."""
    (one, first), (two, second), *others = pyav.read(timeline, wanted)
    yield from [(one, second), (two, first), *others]


@contextmanager
def installed(folder: Path) -> Iterator[None]:
    """As if a package had brought them, for processes that are started in this block."""
    import pytest

    info = folder / "odd_readers-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: odd-readers\nVersion: 1.0\n")
    lines = [f"{name} = {__name__}:{name}" for name in NAMES]
    (info / "entry_points.txt").write_text("\n".join(["[evalkit.readers]", *lines]) + "\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT))
        patch.syspath_prepend(str(folder))
        yield
