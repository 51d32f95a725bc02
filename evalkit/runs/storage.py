"""What the machine's storage refuses, as one line: a place that cannot be written, or work that it stopped midway."""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from evalkit.errors import ConfigError, StorageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# A disk or quota that is full, files or a device that are not to be had: they pass, no setting is wrong.
PASSING = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EMFILE, errno.ENFILE, errno.EIO, errno.ESTALE})
_CURES = {
    errno.ENOSPC: "free space",
    errno.EDQUOT: "free space",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENFILE: "close other programs",
}


@contextmanager
def opening(path: Path) -> Iterator[None]:
    """Around the opening of `path` and what lies in it: StorageError for what passes, ConfigError for a wrong place."""
    try:
        yield
    except OSError as error:
        if error.errno in PASSING:
            raise stopped(error, path) from error
        raise ConfigError(
            f"results_dir: {_place(error, path)} cannot be written ({error.strerror or error}); "
            "name a folder that can by results_dir=DIR"
        ) from error


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Around work that has begun, which writes `path`: StorageError for whatever the machine refuses."""
    try:
        yield
    except OSError as error:
        raise stopped(error, path) from error


def stopped(error: OSError, path: object) -> StorageError:
    """What is raised for `error`, which came of `path` where it names no file itself."""
    cure = _CURES.get(error.errno or 0, "see to it")
    return StorageError(
        f"{_place(error, path)}: {error.strerror or error}; {cure}, then the same command goes on from what is stored"
    )


def _place(error: OSError, path: object) -> str:
    return os.fsdecode(error.filename) if isinstance(error.filename, str | bytes | os.PathLike) else str(path)
