"""What run_eval.py does with a composed configuration: run the grid, or estimate its cost; print the tables."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig

from evalkit import trackers
from evalkit.analysis.results import Results
from evalkit.analysis.tables import run_tables
from evalkit.commands import dry_run, matched_points
from evalkit.config import build
from evalkit.runs import load

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """What one job leaves behind."""

    results: Path
    folders: tuple[Path, ...] = ()  # one per run
    failed: int = 0  # rows


def run(cfg: DictConfig) -> Outcome:
    """Answer what is missing, print the tables, and log the runs to the trackers.

    Raises EvalkitError for wrong settings, missing data or a run folder that another process holds.
    """
    grid = build.grid(cfg)
    matched = matched_points.curve(grid) if cfg.matched else None
    if cfg.dry_run:
        print(dry_run.estimate(grid) + (matched_points.announced(grid) if matched else ""))
        return Outcome(grid.results_dir)
    connected = trackers.connect(cfg.trackers, cfg.tracker)
    folders, failed = grid.run()
    if matched:
        folders, failed = matched_points.complete(grid, matched, folders, failed)
    outcome = Outcome(grid.results_dir, tuple(folders), failed)
    trackers.track(report([outcome]), connected)
    if failed:
        log.error("%d rows failed: answers.jsonl or timing.jsonl says why; the next start tries them again", failed)
    return outcome


def report(outcomes: Sequence[Outcome]) -> Results:
    """Print the tables over all runs of these jobs, write them into the results folder, and return the results."""
    folders = dict.fromkeys(folder for outcome in outcomes for folder in outcome.folders)
    found = Results(load.ordered([run for folder in folders for run in load.load(folder)]))
    if found.runs:
        print(run_tables.markdown(found))
        run_tables.write(found, outcomes[-1].results)
        log.info("tables: %s", outcomes[-1].results.resolve())
    return found
