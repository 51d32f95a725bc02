"""Run an evaluation: `python run_eval.py`, or `--help` for the settings.

Exit codes: 0 everything answered, 1 crashed, 2 wrong settings or data, 3 some rows failed (recorded, the rest stands).
"""

import logging
import os
import sys
from typing import Any

import hydra
from omegaconf import DictConfig

from evalkit.config.choices import register
from evalkit.config.compose import explained
from evalkit.errors import EvalkitError

log = logging.getLogger("evalkit")
jobs: list[Any] = []  # outcomes (evalkit.commands.run) of all jobs of a sweep that run in this process


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(cfg: DictConfig) -> None:
    """One job."""
    from evalkit.commands.run import run

    try:
        with explained("config"):
            jobs.append(run(cfg))
    except EvalkitError as error:
        stop(error)


def stop(error: EvalkitError) -> None:
    """End with 2 and one line."""
    log.error("%s: %s", type(error).__name__, error)
    sys.exit(2)


if __name__ == "__main__":
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # Hydra raises what it would print otherwise, to exit with 1
    register()
    try:
        with explained("config"):
            main()
    except EvalkitError as wrong:
        stop(wrong)
    if len(jobs) > 1:
        from evalkit.commands.run import report

        report(jobs)
    sys.exit(3 if any(job.failed for job in jobs) else 0)
