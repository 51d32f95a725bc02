"""Output that nobody reads any more, or that its device refuses: an exit code and at most one line."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from evalkit.commands import output
from tests.support.golden import ROOT
from tests.support.run_folders import row, write_run

FULL = Path("/dev/full")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run", [row(str(n), n > 2, f"v{n}") for n in range(6)])


def compare(folder: Path, to: int) -> tuple[int, str]:
    """Exit code and what went to stderr."""
    command = [sys.executable, "-m", "evalkit", "compare", str(folder), str(folder)]
    done = subprocess.run(command, cwd=ROOT, stdout=to, stderr=subprocess.PIPE, text=True, timeout=120)
    return done.returncode, done.stderr


@pytest.mark.skipif(not FULL.exists(), reason="no device that is always full")
def test_a_device_that_is_full(folder: Path) -> None:
    with FULL.open("w") as full:
        code, told = compare(folder, full.fileno())
    assert code == 4
    assert told.startswith("StorageError: output: No space left on device; free space")
    assert told.count("\n") == 1


def test_a_pipe_that_nobody_reads(folder: Path) -> None:
    read, written = os.pipe()
    os.close(read)
    try:
        assert compare(folder, written) == (141, "")
    finally:
        os.close(written)


def raises(error: OSError) -> int:
    raise error


def test_a_file_without_room_is_named_and_a_defect_is_raised(caplog: pytest.LogCaptureFixture) -> None:
    full = OSError(errno.ENOSPC, "No space left on device", "a file")
    assert output.told(lambda: raises(full)) == 4
    (line,) = caplog.messages
    assert line.startswith("StorageError: a file: No space left on device; free space")
    with pytest.raises(FileNotFoundError):
        output.told(lambda: raises(FileNotFoundError(errno.ENOENT, "No such file or directory", "a file")))
    assert output.told(lambda: 3) == 3
