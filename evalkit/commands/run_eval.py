"""`evalkit run key=value …`, which is run_eval.py: Hydra composes conf/config.yaml, evalkit.commands.run runs it.

Exit codes: 0 everything answered, 1 crashed, 2 wrong settings or data, 3 some rows failed (recorded, the rest stands),
4 stopped by the machine (a full disk, too many open files: the same command goes on) or as every video fails alike,
130, 143 and 129 stopped by SIGINT (Ctrl-C), SIGTERM and SIGHUP (a terminal that was closed).
Light: what a run needs is imported when there is one, so that --help answers at once, and signals find `main` ready.
"""

from __future__ import annotations

import atexit
import gc
import logging
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from evalkit.commands import output
from evalkit.errors import EvalkitError, StorageError, SystematicError
from evalkit.runs import storage

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from evalkit.commands.jobs import Jobs

log = logging.getLogger("evalkit")

STARTING = "loading libraries"  # takes seconds; the first line of every job


SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@atexit.register
def _keep_garbage() -> None:
    """The memory of the process goes with it: looking for garbage among all that torch made takes two seconds more."""
    gc.disable()
    gc.freeze()


class SignalError(KeyboardInterrupt):
    """A signal that is to end a run as Ctrl-C does."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def main(arguments: Sequence[str]) -> int:
    """Run the jobs that these words of a command line ask for; the exit code."""
    for number in SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:  # as nohup has it
            signal.signal(number, _stop)
    try:
        return output.told(lambda: _run(arguments))
    except KeyboardInterrupt as stop:
        for number in SIGNALS:  # it ends already
            signal.signal(number, signal.SIG_IGN)
        log.error("stopped: answers given so far are stored, the same command goes on from there")
        return 128 + (stop.number if isinstance(stop, SignalError) else signal.SIGINT)


def _stop(number: int, _: object) -> None:
    raise SignalError(number)


def _run(arguments: Sequence[str]) -> int:
    import hydra

    from evalkit.commands import run_help
    from evalkit.commands.jobs import collected
    from evalkit.config import checks, workers_ahead
    from evalkit.config.choices import CONF, register
    from evalkit.config.compose import explained
    from evalkit.engine.executor import forking

    with collected(arguments) as jobs:

        @hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
        def job(cfg: DictConfig) -> None:
            log.info(STARTING)
            try:
                with explained("config"), _machine():
                    checks.light(cfg)  # what is wrong is told before seconds are spent
                    if workers_ahead.expected(cfg):
                        forking.start()  # it loads its libraries beside this process
                    with _loading("evalkit.commands.run"):
                        from evalkit.commands.run import run
                    jobs.ended(run(cfg))
            except EvalkitError as error:  # here, as Hydra writes lines of its own about what leaves a job
                code = _stopped(error)
                if not jobs.elsewhere:
                    sys.exit(code)
                jobs.refused(code)

        os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # Hydra raises what it would print otherwise, to exit with 1
        register()
        sys.argv[1:] = arguments
        try:
            with explained("config"), _machine():
                if run_help.OPTIONS & set(arguments):
                    print(run_help.text("config", arguments))
                else:
                    job()
        except EvalkitError as error:
            return _stopped(error)
        finally:  # jobs of a sweep that had ended before one was refused are shown too
            failed = _finish(jobs)
        return next(iter(jobs.codes()), 3 if failed else 0)


@contextmanager
def _loading(module: str) -> Iterator[None]:
    """Around the first import of `module`. Libraries make half a million objects, which stay: looking for garbage among
    them time and again takes two seconds. Later on it is looked for among what came after them.
    """
    if module in sys.modules or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def _finish(jobs: Jobs) -> bool:
    """Show what came of all jobs; whether rows failed."""
    if isinstance(sys.exception(), KeyboardInterrupt) or not jobs.any():
        return False
    from evalkit.commands.run import finish

    outcomes = jobs.outcomes()
    finish(outcomes)
    return any(outcome.failed for outcome in outcomes)


@contextmanager
def _machine() -> Iterator[None]:
    """What the machine has no room for, wherever it is noticed, as a StorageError."""
    try:
        yield
    except OSError as error:
        if error.errno not in storage.PASSING:
            raise
        raise storage.stopped(error, "this machine") from error


def _stopped(error: EvalkitError) -> int:
    """One line about wrong settings or data, or a machine that stopped the work, and the exit code."""
    log.error("%s: %s", type(error).__name__, error)
    return 4 if isinstance(error, StorageError | SystematicError) else 2
