"""Run an evaluation: `python run_eval.py`, or `--help` for the settings.

Exit codes: 0 everything answered, 1 crashed, 2 wrong settings or data, 3 some rows failed (recorded, the rest stands).
"""

import logging
import sys

import hydra
from omegaconf import DictConfig

log = logging.getLogger("evalkit")
failed_rows = 0  # over all jobs of a sweep that run in this process


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(cfg: DictConfig) -> int:
    """One job; returns the number of failed rows."""
    from evalkit.engine.job import run
    from evalkit.errors import EvalkitError

    global failed_rows
    try:
        failed = run(cfg)
    except EvalkitError as error:
        log.error("%s: %s", type(error).__name__, error)
        sys.exit(2)
    failed_rows += failed
    return failed


if __name__ == "__main__":
    main()
    sys.exit(3 if failed_rows else 0)
