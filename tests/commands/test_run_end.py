"""What a person sees when a run has ended: one summary, the report, where the tables lie; never a crash of its own."""

from __future__ import annotations

import gc
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from evalkit import analysis
from evalkit.analysis import report, summary
from evalkit.commands import run, run_eval
from evalkit.commands.run import Outcome
from evalkit.errors import DataError
from tests.support import plot_grids
from tests.support.run_eval import put_back

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from omegaconf import DictConfig

RIGHT = {point: counts for point, counts in plot_grids.RIGHT.items() if point[0] in ("uniform", "retake")}
TABLES = ["accuracy.csv", "accuracy.md", "budget.csv", "budget.md", "differences.csv"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Six runs."""
    root = tmp_path_factory.mktemp("runs")
    for (method, ratio), counts in RIGHT.items():
        plot_grids.write(root, method, ratio, plot_grids.rows(method, ratio, counts, ratio_achieved=ratio))
    return sorted(root.iterdir())


def ended(folders: list[Path], results: Path, **settings: Any) -> Outcome:
    return Outcome(results, tuple(folders), 0, run.tables(folders, results), **settings)


def test_one_screen_on_stdout_and_tables_in_files(
    folders: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run.finish([ended(folders, tmp_path)])
    out, err = capsys.readouterr()
    assert out.startswith("Accuracy against KV cache: generated videos (MLVU format)\n")
    assert len(out.splitlines()) <= 28
    assert "|---" not in out
    assert "\x1b" not in out
    assert not err
    assert out.splitlines()[-2:] == [
        f"report: none; python -m evalkit report {tmp_path}",
        f"tables: {tmp_path / 'accuracy.md'}, budget.md, differences.csv",
    ]
    assert sorted(file.name for file in tmp_path.iterdir()) == TABLES


def test_the_tables_are_printed_on_request(
    folders: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run.finish([ended(folders, tmp_path, print_tables=True)])
    out = capsys.readouterr().out
    assert out.index("# Accuracy") < out.index("# Token budget") < out.index("Accuracy against KV cache")


@pytest.mark.slow
def test_the_report_is_written_without_frames(
    folders: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run.finish([ended(folders, tmp_path, report=True)])
    assert f"report: {tmp_path / 'report.html'}" in capsys.readouterr().out
    page = (tmp_path / "report.html").read_bytes()
    report.write(run.tables(folders, tmp_path), tmp_path, thumbnails_mb=0)
    assert (tmp_path / "report.html").read_bytes() == page


def test_a_report_that_fails_costs_one_line(
    folders: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    def full(*_: Any, **__: Any) -> Path:
        raise OSError("no space left")

    monkeypatch.setattr(report, "write", full)
    with caplog.at_level(logging.INFO, logger="evalkit"):
        run.finish([ended(folders, tmp_path, report=True)])
    (line,) = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert "report.html could not be written (OSError: no space left); answers and tables stand" in line
    out = capsys.readouterr().out
    assert "Best at each ratio" in out
    assert "report: none" in out
    assert sorted(file.name for file in tmp_path.iterdir()) == TABLES


@pytest.mark.parametrize("module", ["evalkit.analysis.report", "evalkit.analysis.summary"])
def test_a_library_for_plots_that_cannot_be_loaded_costs_one_line(
    folders: list[Path],
    tmp_path: Path,
    module: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delattr(analysis, module.rsplit(".", 1)[1])
    run._load_plots(drawn=True)  # it does not tell
    run.finish([ended(folders, tmp_path, report=True)])
    (line,) = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert "ModuleNotFoundError" in line or "ImportError" in line


def test_a_summary_that_fails_costs_one_line(
    folders: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken(*_: Any) -> str:
        raise ImportError("kernel.so")

    monkeypatch.setattr(summary, "summary", broken)
    run.finish([ended(folders, tmp_path)])
    assert "the summary could not be shown (ImportError: kernel.so)" in caplog.text
    assert capsys.readouterr().out.startswith("report: none")


def test_nothing_ran(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run.finish([Outcome(tmp_path)])  # a dry run
    run.finish([ended([], tmp_path)])
    assert capsys.readouterr().out == ""
    assert not list(tmp_path.iterdir())


def test_a_sweep_has_one_summary_of_all_jobs(
    folders: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    jobs = [ended([folder], tmp_path) for folder in folders]
    assert (tmp_path / "accuracy.csv").read_text().count(",all,all,") == 1  # of the last job
    run.finish(jobs)
    out = capsys.readouterr().out
    assert out.count("Accuracy against KV cache") == 1
    assert "retake +20.0" in out
    assert (tmp_path / "accuracy.csv").read_text().count(",all,all,") == len(folders)


@pytest.fixture
def sweep(
    folders: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[BaseException | None], int]]:
    """Starts a sweep of two jobs that answer nothing; the second one may be stopped by what is given."""
    monkeypatch.setattr(sys, "argv", ["run_eval.py"])

    def start(stopped: BaseException | None) -> int:
        def job(cfg: DictConfig) -> Outcome:
            if stopped is not None and cfg.ratio == 0.5:
                raise stopped
            return ended(folders, tmp_path)

        monkeypatch.setattr(run, "run", job)
        with put_back():
            words = ["ratio=1.0,0.5", "method=uniform", "executor.workers=1"]  # no process loads libraries for more
            return run_eval.main(["-m", *words, f"hydra.sweep.dir={tmp_path / 'sweep'}"])

    return start


@pytest.mark.slow
def test_a_sweep_ends_with_one_summary(
    sweep: Callable[[BaseException | None], int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert sweep(None) == 0
    assert capsys.readouterr().out.count("Accuracy against KV cache") == 1


@pytest.mark.slow
def test_jobs_before_a_refused_one_are_shown(
    sweep: Callable[[BaseException | None], int], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        sweep(DataError("no such folder"))
    assert stop.value.code == 2
    assert capsys.readouterr().out.count("Accuracy against KV cache") == 1


@pytest.mark.slow
def test_after_an_interrupt_nothing_is_computed(
    sweep: Callable[[BaseException | None], int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert sweep(KeyboardInterrupt()) == 130
    assert "Accuracy against KV cache" not in capsys.readouterr().out


@pytest.mark.parametrize(("module", "looked_for"), [("not.loaded.yet", False), ("sys", True)])
def test_garbage_is_left_alone_only_while_libraries_are_loaded(module: str, looked_for: bool) -> None:
    """Models that a later job leaves behind must not be kept with them."""
    before = gc.get_freeze_count()
    try:
        with run_eval._loading(module):
            assert gc.isenabled() == looked_for
        assert gc.isenabled()
        assert (gc.get_freeze_count() > before) != looked_for
    finally:
        gc.unfreeze()
