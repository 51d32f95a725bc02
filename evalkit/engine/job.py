"""What run_eval.py does with a composed configuration: run the grid, or say what it would cost; print the tables."""

from __future__ import annotations

import logging
from pathlib import Path

from omegaconf import DictConfig

from evalkit.engine import dry_run
from evalkit.engine.grid import Grid
from evalkit.evidence import answers, tables

log = logging.getLogger(__name__)


def run(cfg: DictConfig) -> int:
    """Answer what is missing, print both tables, return the number of failed rows.

    Raises EvalkitError for wrong settings, missing data or a run folder that another process holds.
    """
    grid = Grid(cfg)
    if cfg.dry_run:
        print(dry_run.estimate(grid))
        return 0
    folders, failed = grid.run()
    runs = [run for folder in folders for run in answers.load(folder)]
    print(tables.markdown(runs))
    tables.write(runs, Path(cfg.results_dir))
    log.info("tables: %s", Path(cfg.results_dir).resolve())
    if failed:
        log.error(
            "%d rows failed: each is recorded with its reason in answers.jsonl and tried again on the next start",
            failed,
        )
    return failed
