"""Disks that are full, files that are not to be had, places that cannot be written: one line, and nothing lost."""

from __future__ import annotations

import errno
import os
import resource
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from evalkit.commands import run as commands
from evalkit.errors import ConfigError, StorageError
from evalkit.runs import storage
from evalkit.runs.folder import ANSWERS, RunFolder
from tests.support.run_eval import run_eval
from tests.support.stub_engine import POINTS, answered, question

if TYPE_CHECKING:
    from collections.abc import Iterator

CONFIG = {"identity": "abc", "ratio": 1.0}
FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/somewhere/accuracy.csv")


def run(path: Path) -> RunFolder:
    return RunFolder(path, CONFIG, "cpu")


def give(folder: RunFolder, *numbers: int) -> None:
    for number in numbers:
        folder.append(answered(POINTS[0], question("v", number)))


@contextmanager
def at_most(what: int, amount: int) -> Iterator[None]:
    """A limit of this process, which the kernel then enforces."""
    soft, hard = resource.getrlimit(what)
    resource.setrlimit(what, (amount, hard))
    try:
        yield
    finally:
        resource.setrlimit(what, (soft, hard))


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_no_room_stops_with_a_line_and_loses_nothing(tmp_path: Path) -> None:
    folder = run(tmp_path)
    give(folder, 0, 1)
    size = (tmp_path / ANSWERS).stat().st_size
    with at_most(resource.RLIMIT_FSIZE, size + 20), pytest.raises(StorageError, match=rf"{ANSWERS}: File too large; "):
        give(folder, 2)
    assert folder.answered() == {"v:0", "v:1"}
    with at_most(resource.RLIMIT_FSIZE, 0), pytest.raises(StorageError):
        folder.close()
    assert (tmp_path / ANSWERS).stat().st_size > size  # a torn line
    again = run(tmp_path)  # not locked
    assert again.answered() == {"v:0", "v:1"}
    give(again, 2)
    assert again.close()["questions"] == 3


def test_a_line_that_was_written_in_part_is_nobody_elses(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = run(tmp_path)
    give(folder, 0)
    size = (tmp_path / ANSWERS).stat().st_size
    with at_most(resource.RLIMIT_FSIZE, size + 20), pytest.raises(StorageError, match="File too large"):
        give(folder, 1)
    folder.close()
    assert caplog.records == []  # no warning of another program


def test_no_room_for_a_new_folder(tmp_path: Path) -> None:
    with at_most(resource.RLIMIT_FSIZE, 0), pytest.raises(StorageError, match=r"File too large; "):
        run(tmp_path / "a")
    run(tmp_path / "a").close()


def test_too_many_open_files(tmp_path: Path) -> None:
    with (tmp_path / "lowest").open("w") as file:
        lowest = file.fileno()
    refused = pytest.raises(StorageError, match=r"\.lock: Too many open files; raise the limit")
    with refused, at_most(resource.RLIMIT_NOFILE, lowest):
        run(tmp_path / "a")
    run(tmp_path / "a").close()


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts open files in /proc")
def test_a_run_holds_one_file_open(tmp_path: Path) -> None:
    """Its lock: 22 runs hold 22."""
    before = open_files()
    runs = [run(tmp_path / str(n)) for n in range(22)]
    for folder in runs:
        give(folder, 0, 1)
    assert open_files() == before + 22
    with at_most(resource.RLIMIT_NOFILE, 3), pytest.raises(StorageError, match=rf"{ANSWERS}: Too many open files; "):
        give(runs[0], 2)
    give(runs[0], 2)
    for folder in runs:
        folder.close()
    assert open_files() == before
    assert len((tmp_path / "0" / ANSWERS).read_text().splitlines()) == 3


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_a_file_where_a_folder_should_be(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"results_dir: .*/file.* cannot be written"):
        run(tmp_path / place)


def test_a_folder_where_a_file_should_be(tmp_path: Path) -> None:
    (tmp_path / ANSWERS).mkdir()
    with pytest.raises(ConfigError, match=rf"results_dir: .*/{ANSWERS} cannot be written \(Is a directory\)"):
        run(tmp_path)


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES])
def test_what_does_not_pass_is_a_wrong_setting(tmp_path: Path, number: int) -> None:
    with pytest.raises(ConfigError, match="results_dir=DIR"), storage.opening(tmp_path):
        raise OSError(number, os.strerror(number), str(tmp_path))


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (StorageError("here: full"), 4, "StorageError: here: full"),
        (FULL, 4, "StorageError: /somewhere/accuracy.csv: No space left on device; free space, then the same command"),
        (ConfigError("results_dir: wrong"), 2, "ConfigError: results_dir: wrong"),
    ],
)
def test_exit_codes(
    error: Exception, code: int, line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(_: object) -> None:
        raise error

    monkeypatch.setattr(commands, "run", fails)
    assert run_eval() == code
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert said.splitlines()[-1].startswith(line)


def test_without_its_guard_a_full_disk_is_a_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The negative control of what is written, and of what is opened."""
    folder = run(tmp_path / "a")
    monkeypatch.setattr(storage, "writing", nullcontext)
    monkeypatch.setattr(storage, "opening", nullcontext)
    with at_most(resource.RLIMIT_FSIZE, 20):
        with pytest.raises(OSError, match="File too large"):
            give(folder, 0)
        with pytest.raises(OSError, match="File too large"):
            run(tmp_path / "b")
    folder.close()


def test_a_defect_is_no_machine_that_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_: object) -> None:
        raise FileNotFoundError(errno.ENOENT, "a defect")

    monkeypatch.setattr(commands, "run", fails)
    with pytest.raises(FileNotFoundError):
        run_eval()
