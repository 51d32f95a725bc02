"""The end of a command whose output nobody reads any more, or for which there is no room."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress

from evalkit.runs import storage

log = logging.getLogger("evalkit")

REFUSED = 4  # the exit code


def told(command: Callable[[], int]) -> int:
    """The command's exit code, once all that it printed has gone out.

    Where who reads it has closed the pipe, as head does, that of a program that the signal ended, without a word; where
    the machine has no room, 4, with one line. Any other error is a defect, or has been made a line where it came from.
    """
    try:
        code = command()
        sys.stdout.flush()
    except BrokenPipeError:
        _leave()
        return 128 + signal.SIGPIPE
    except OSError as error:
        if error.errno not in storage.PASSING:
            raise
        _leave()
        log.error("StorageError: %s", storage.stopped(error, "output"))
        return REFUSED
    return code


def _leave() -> None:
    """What is still to be printed goes nowhere: at the end of the process it would be tried, and told, once more."""
    with suppress(OSError, ValueError):  # no file behind it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
