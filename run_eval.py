"""Run an evaluation: `python run_eval.py`, or `--help` for the settings.

Exit codes: 0 everything answered, 1 crashed, 2 wrong settings or data, 3 some rows failed (recorded, the rest stands).
"""

import logging
import sys
from typing import Any

import hydra
from omegaconf import DictConfig

log = logging.getLogger("evalkit")
jobs: list[Any] = []  # outcomes (evalkit.engine.job) of all jobs of a sweep that run in this process


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(cfg: DictConfig) -> None:
    """One job."""
    from evalkit.engine.job import run
    from evalkit.errors import EvalkitError

    try:
        jobs.append(run(cfg))
    except EvalkitError as error:
        log.error("%s: %s", type(error).__name__, error)
        sys.exit(2)


if __name__ == "__main__":
    main()
    if len(jobs) > 1:
        from evalkit.engine.job import report

        report(jobs)
    sys.exit(3 if any(job.failed for job in jobs) else 0)
