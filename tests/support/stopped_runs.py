"""Runs that end at a named moment, each a fork of one process that has the libraries loaded: they cost a second each.

That one is forked itself, from the process that has loaded libraries for workers. It has read a configuration and
checked a backbone once, for which Hydra and transformers build tables of their own. It computes nothing itself, so that
what it forks has all of torch's threads before it. Their workers are forked from a copy of it, which serves all runs.
"""

from __future__ import annotations

import gc
import json
import multiprocessing.util
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, redirect_stdout, suppress
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

from evalkit.child_process import TERMINAL
from evalkit.engine.executor import forking
from tests.support.golden import ROOT
from tests.support.run_eval import put_back


class Ended(NamedTuple):
    """How a run ended."""

    code: int  # below 0: by a signal
    said: str  # on stderr
    passed: Mapping[str, int]  # how often it came to each point, where it ended by itself


class Runs:
    """Starts them, for the length of a test."""

    def __init__(self, folder: Path, settings: Sequence[str]) -> None:
        """`settings`: those that runs will have in common."""
        self._folder = folder
        forking.start()
        context = multiprocessing.get_context("forkserver")
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=_serve, args=(other, list(settings)))
        self._process.start()
        other.close()

    def run(self, settings: Sequence[str], at: tuple[str, int] = ("", 0), sent: int = 0, defect: str = "") -> Ended:
        """One run. The `n`-th time that it comes to a point, `at` = (point, n), it sends itself a signal."""
        request = {"settings": list(settings), "at": at, "sent": int(sent), "defect": defect}
        self._pipe.send({**request, "folder": str(self._folder)})
        status = self._pipe.recv()
        passed, said = self._folder / "passed", (self._folder / "stderr").read_text()
        counts = json.loads(passed.read_text()) if passed.exists() else {}
        return Ended(os.waitstatus_to_exitcode(status), said, counts)

    def close(self) -> None:
        """End the process."""
        self._pipe.close()
        self._process.join()


# ---- in the forked process


class Moments:
    """Counts how often the run comes to each point, and stops it at one."""

    def __init__(self, at: tuple[str, int], sent: int) -> None:
        self.passed: Counter[str] = Counter()
        self._at, self._sent = tuple(at), sent

    def reached(self, point: str) -> bool:
        """Whether this is the moment."""
        self.passed[point] += 1
        return (point, self.passed[point]) == self._at

    def at(self, point: str, owner: object, name: str) -> Any:
        """A patch of a function: the moment is before its call."""
        right: Callable[..., Any] = getattr(owner, name)

        def watched(*args: Any, **named: Any) -> Any:
            if self.reached(point):
                os.kill(os.getpid(), self._sent)
            return right(*args, **named)

        return mock.patch.object(owner, name, watched)

    def half_written(self, owner: Any) -> Any:
        """A patch of what writes a line: the moment is when half of it is in the file."""
        right = owner._put

        def watched(out: int, line: bytes) -> None:
            if self.reached("half a line"):
                os.write(out, line[:40])
                os.kill(os.getpid(), self._sent)
            right(out, line)

        return mock.patch.object(owner, "_put", watched)


@contextmanager
def _watched(moments: Moments) -> Iterator[None]:
    from evalkit.analysis.tables import run_tables
    from evalkit.config import build
    from evalkit.data.decoding.process import DecodeInChild
    from evalkit.model.video_llm import VideoLLM
    from evalkit.runs import folder, load

    with ExitStack() as stack:
        stack.enter_context(moments.half_written(folder))
        for patch in (
            moments.at("start-up", build, "grid"),
            moments.at("decode", DecodeInChild, "receive"),
            moments.at("prefill", VideoLLM, "prefill_text"),
            moments.at("write", folder, "_put"),
            moments.at("flush", os, "fsync"),
            moments.at("rename", Path, "replace"),
            moments.at("tables", run_tables, "write"),
            moments.at("reading back", load, "load"),
        ):
            stack.enter_context(patch)
        yield


@contextmanager
def _defect(name: str) -> Iterator[None]:
    """A protection that is off."""
    from evalkit.runs import folder

    if name == "answers are kept back":  # and written when the run ends
        right, kept = folder._put, list[Any]()

        def late(out: int, line: bytes) -> None:
            kept.append(line)

        with mock.patch.object(folder, "_put", late), mock.patch.object(folder.RunFolder, "_expect_own"):
            yield
        del right
    elif name == "torn lines stay":
        mend = folder.RunFolder._mend

        def left(self: Any, file: str) -> bytes:
            path = self.path / file
            before = path.read_bytes() if path.exists() else None
            whole: bytes = mend(self, file)
            if before is not None:
                path.write_bytes(before)
            return whole

        with mock.patch.object(folder.RunFolder, "_mend", left):
            yield
    else:
        yield


def _no_measuring() -> Any:
    """A patch: how fast this machine multiplies, by which a run says how long it will take, matters to no answer."""
    from evalkit.commands import dry_run

    return mock.patch.object(dry_run, "matrix_speed", return_value=1.0)


def _child(request: Mapping[str, Any]) -> None:
    folder = Path(request["folder"])
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(os.open(folder / "stderr", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
    (folder / "passed").unlink(missing_ok=True)
    from evalkit.commands import run_eval

    moments = Moments(request["at"], request["sent"])
    code = 1
    # both would look for a child of their own: that process is the parent's
    owners = (forkserver, forkserver._forkserver)
    served = [mock.patch.object(owner, "ensure_running") for owner in owners]
    try:
        with served[0], served[1], _no_measuring(), _defect(request["defect"]), _watched(moments):
            code = run_eval.main(request["settings"])
    except SystemExit as end:
        code = int(end.code or 0)
    finally:
        (folder / "passed").write_text(json.dumps(moments.passed))
        sys.stderr.flush()
        os._exit(code)


def _prepared(settings: Sequence[str]) -> None:
    """What each run would load and build again, and what workers would."""
    import hydra  # noqa: F401 – and with those below all that a run imports
    import plotext  # noqa: F401
    import torch

    import evalkit.analysis.summary
    import evalkit.commands.run  # noqa: F401
    from evalkit.commands import run_eval

    torch.set_num_threads(1)
    sys.argv = [str(ROOT / "run_eval.py")]
    with _no_measuring(), put_back():
        assert run_eval.main([*settings, "dry_run=true"]) == 0
    gc.collect()
    gc.freeze()  # nothing of it is garbage in a run: what is looked through is copied
    with mock.patch.object(multiprocessing.util, "spawnv_passfds", _forked):
        forking.start()


def _forked(_: object, words: Sequence[str], kept: Sequence[int]) -> int:
    """As `multiprocessing.util.spawnv_passfds`, for `python -c CODE`: a fork, which has all modules, runs the code."""
    process = os.fork()
    if process:
        return process
    try:
        for descriptor in [int(path.name) for path in Path("/proc/self/fd").iterdir()]:
            if descriptor > 2 and descriptor not in kept:
                with suppress(OSError):  # the one that read the folder
                    os.close(descriptor)
        exec(words[-1], {})  # noqa: S102 – of multiprocessing
    finally:
        os._exit(0)


def _serve(pipe: Connection, settings: Sequence[str]) -> None:
    """Fork until the pipe ends."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, TERMINAL)
    os.chdir(ROOT)
    with redirect_stdout(sys.stderr):
        _prepared(settings)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with suppress(EOFError):
        while True:
            request = pipe.recv()
            process = os.fork()
            if not process:
                _child(request)
            pipe.send(os.waitpid(process, 0)[1])
    os._exit(0)  # at once
