"""`python -m evalkit report`: what it writes, and what it says where it cannot."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from evalkit.__main__ import main
from tests.support.run_folders import row, write_run

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A grid of two cells."""
    folder = tmp_path / "results"
    rows = [row(f"q{n}", n != 1, f"v{n // 2}") for n in range(4)]
    write_run(folder / "dense", rows, ratio=1.0)
    write_run(folder / "small", [*rows[:3], row("q3", None, "v1")], identity="2" * 16)
    return folder


def written(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_everything_is_written_and_the_same_twice(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("one", "two"):
        assert main(["report", str(results), "--out", str(tmp_path / name)]) == 0
    first, second = written(tmp_path / "one"), written(tmp_path / "two")
    assert first == second
    tables = {f"{name}.{kind}" for name in ("accuracy", "budget") for kind in ("csv", "md")}
    paper = {f"paper/{name}.{kind}" for name in ("accuracy", "budget", "compression") for kind in ("csv", "md", "tex")}
    plot = "plots/generated-videos-mlvu-format-dev"
    plots = {f"{plot}-{cost}.{kind}" for cost in ("kv", "llm", "tflops") for kind in ("png", "svg")}
    assert set(first) == {"report.html", "differences.csv", *tables, *paper, *plots}  # no plot of shared seconds
    assert str(tmp_path / "one" / "report.html") in capsys.readouterr().out


@pytest.mark.slow
def test_by_default_it_lies_with_the_runs(results: Path) -> None:
    assert main(["report", str(results / "dense"), "--thumbnails", "0"]) == 0
    assert (results / "dense" / "report.html").is_file()
    assert main(["report", str(results)]) == 0  # what was written is no run


def test_wrong_input(results: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert main(["report", str(tmp_path / "nothing")]) == 2
    assert "expected run folders" in caplog.text
    (tmp_path / "file").write_text("")
    assert main(["report", str(results), "--out", str(tmp_path / "file")]) == 2
    assert "name another folder by --out" in caplog.text
    for wrong in ("-1", "nan", "much"):
        with pytest.raises(SystemExit) as stopped:
            main(["report", str(results), f"--thumbnails={wrong}"])
        assert stopped.value.code == 2
