"""run_eval.py in the process of the tests, which has its libraries loaded: a process of its own takes seconds to."""

from __future__ import annotations

import logging
import os
import runpy
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import torch

from evalkit.commands.run_eval import SIGNALS

SCRIPT = Path(__file__).parents[2] / "run_eval.py"


def run_eval(*settings: str) -> int:
    """Its exit code."""
    with put_back(), mock.patch.object(sys, "argv", [str(SCRIPT), *settings]), mock.patch.dict(os.environ):
        try:
            runpy.run_path(str(SCRIPT), run_name="__main__")
        except SystemExit as end:
            return int(end.code or 0)
    raise AssertionError("expected run_eval.py to exit")


@contextmanager
def put_back() -> Iterator[None]:
    """What a run changes of its process, as it was before; logging begins as in a new process, on stderr."""
    root, threads = logging.getLogger(), torch.get_num_threads()
    signals = {number: signal.getsignal(number) for number in SIGNALS}
    level, handlers = root.level, root.handlers[:]
    root.handlers.clear()
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        torch.set_num_threads(threads)
        for number, handler in signals.items():
            signal.signal(number, handler)
