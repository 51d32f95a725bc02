"""Logging in a process of its own, for a client may hang: in a call, or as its process ends (W&B without a network)."""

from __future__ import annotations

import logging
import multiprocessing
import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from multiprocessing.connection import Connection

    from evalkit.trackers.tracked import Tracked, Tracker

START_SECONDS = 300.0  # the process has imported its libraries by then, even on a busy machine
SECONDS = 120.0  # for one run: more than any client waits for a first answer before it says why there is none
END_SECONDS = 30.0  # to end by itself: W&B may write out its files only then


def log_all(runs: Sequence[Tracked], tracker: Tracker, seconds: float = SECONDS) -> tuple[int, str]:
    """Log one run after the other. Returns how many were logged, and where; if not all were, the reason."""
    context = multiprocessing.get_context("spawn")  # a fork would inherit CUDA and the locks of other threads
    pipe, other = context.Pipe(duplex=False)
    process = context.Process(target=_serve, args=(other, runs, tracker), daemon=True)
    try:
        process.start()
        other.close()  # or the end of the process would not end the pipe
        return _listen(pipe, len(runs), seconds)
    except OSError as error:
        return 0, f"no process could be started: {error}"
    finally:
        pipe.close()
        if process.pid is not None:
            process.join(END_SECONDS)
            process.kill()


def _listen(pipe: Connection, count: int, seconds: float) -> tuple[int, str]:
    done, (well, text) = 0, _next(pipe, START_SECONDS)
    while well and done < count:
        well, text = _next(pipe, seconds)
        done += well
    return done, text


def _next(pipe: Connection, seconds: float) -> tuple[bool, str]:
    try:
        return pipe.recv() if pipe.poll(seconds) else (False, f"nothing heard for {seconds:g} s")
    except EOFError:
        return False, "its process died; see stderr for why"


def _serve(pipe: Connection, runs: Sequence[Tracked], tracker: Tracker) -> None:
    """The life of the process: a word when it is ready, and one for every run until one fails."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who starts it ends it
    logging.disable(logging.CRITICAL)  # what matters is sent
    pipe.send((True, ""))
    for run in runs:
        try:
            pipe.send((True, tracker.log(run)))
        except Exception as error:  # noqa: BLE001 – clients raise what they like
            pipe.send((False, f"{type(error).__name__}: {error}"))
            return
