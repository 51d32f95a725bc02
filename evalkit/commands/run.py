"""What run_eval.py does with a composed configuration: run the grid, or estimate its cost; write and show results."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from omegaconf import DictConfig

from evalkit import trackers
from evalkit.analysis.results import Results
from evalkit.analysis.tables import run_tables
from evalkit.commands import dry_run, matched_points
from evalkit.config import build
from evalkit.runs import load, storage

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """What one job leaves behind."""

    results: Path
    folders: tuple[Path, ...] = ()  # one per run
    failed: int = 0  # rows
    found: Results | None = None  # of its runs
    report: bool = False  # whether report.html is asked for
    print_tables: bool = False


def run(cfg: DictConfig) -> Outcome:
    """Answer what is missing, write the tables, and log the runs to the trackers; `finish` shows what came of it.

    Raises EvalkitError for wrong settings, missing data or a run folder that another process holds.
    """
    grid = build.grid(cfg, meanwhile=partial(_load_plots, drawn=cfg.report))
    matched = matched_points.curve(grid) if cfg.matched else None
    if cfg.dry_run:
        print(dry_run.estimate(grid) + (matched_points.announced(grid) if matched else ""))
        return Outcome(grid.results_dir)
    connected = trackers.connect(cfg.trackers, cfg.tracker)
    folders, failed = grid.run()
    if matched:
        folders, failed = matched_points.complete(grid, matched, folders, failed)
    found = tables(folders, grid.results_dir)
    trackers.track(found, connected)
    _say_short(found)
    if failed:
        log.error("%d rows failed: answers.jsonl or timing.jsonl says why; the next start tries them again", failed)
    return Outcome(grid.results_dir, tuple(folders), failed, found, cfg.report, cfg.print_tables)


def _load_plots(*, drawn: bool) -> None:
    """Import what plots the summary and, where it is `drawn`, the report: at the end it would take half a second.

    What cannot be imported is told where it is used.
    """
    with suppress(Exception):
        import plotext  # noqa: F401

        from evalkit.analysis import summary  # noqa: F401

        if drawn:
            from evalkit.analysis import report  # noqa: F401


def _say_short(found: Results) -> None:
    """One line about answers to videos of which less is there than announced or annotated."""
    short = [answer for run in found.runs for answer in run.answers if answer.short]
    if short:
        log.warning(
            "%d answers are about videos that are shorter than announced or annotated, such as %s: %s (`short` in "
            "answers.jsonl)",
            len(short),
            short[0].video_id,
            short[0].short,
        )


def tables(folders: Sequence[Path], results_dir: Path) -> Results:
    """Write the tables of all runs in these folders into the results folder, and return what they were made of."""
    found = results_of(folders)
    if found.runs:
        with storage.opening(results_dir):
            run_tables.write(found, results_dir)
    return found


def results_of(folders: Sequence[Path]) -> Results:
    """All runs in these folders."""
    return Results(load.ordered([run for folder in dict.fromkeys(folders) for run in load.load(folder)]))


def finish(outcomes: Sequence[Outcome]) -> None:
    """Show the summary over all runs of these jobs, write report.html, and say where everything lies.

    The answers and tables stand already: what fails here costs one line.
    """
    ended = [outcome for outcome in outcomes if outcome.found is not None and outcome.found.runs]
    if not ended:
        return
    folder, found = ended[-1].results, ended[-1].found
    if len(ended) > 1 or found is None:
        found = tables([path for outcome in ended for path in outcome.folders], folder)
    if ended[-1].print_tables:
        print(run_tables.markdown(found))
    _show(found)
    written = ended[-1].report and _report(found, folder)
    print(f"report: {folder / 'report.html'}" if written else f"report: none; python -m evalkit report {folder}")
    print(f"tables: {folder / 'accuracy.md'}, budget.md, differences.csv")


def _show(found: Results) -> None:
    try:
        from evalkit.analysis.summary import Terminal, summary  # brings a library for plots

        print(summary(found, Terminal.of(sys.stdout)), end="", flush=True)
    except Exception as error:  # noqa: BLE001 – whatever it is, answers and tables stand
        log.error("the summary could not be shown (%s: %s); the tables have its numbers", type(error).__name__, error)


def _report(found: Results, folder: Path) -> bool:
    """Whether report.html was written; without frames of the videos, which take longest."""
    log.info("writing the report …")
    try:
        from evalkit.analysis import report  # brings matplotlib

        report.write(found, folder, thumbnails_mb=0)
    except Exception as error:  # noqa: BLE001 – as above
        log.error(
            "report.html could not be written (%s: %s); answers and tables stand, `evalkit report %s` tries again",
            type(error).__name__,
            error,
            folder,
        )
        return False
    return True
