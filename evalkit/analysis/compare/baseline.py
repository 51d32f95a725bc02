"""Answers stored for the gate: a results folder with nothing in it that differs between machines."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

from evalkit.analysis.compare import pairing
from evalkit.errors import ConfigError, DataError
from evalkit.runs import stored

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from evalkit.runs.load import Run


def store(run: Path, folder: Path) -> list[Path]:
    """Write every run below `run` into a folder of its own in `folder`, in the place of what was stored there.

    Kept are the answers, ordered by id, and the settings; ledgers, paths and versions are not. What was stored stays
    until all of the new is written. Raises DataError where a run is not finished, two would be stored in one place, or
    `folder` holds anything else, ConfigError where it cannot be written.
    """
    runs = pairing.read(run)
    places = {f"{r.config['benchmark']['name']}-{r.method}-r{r.ratio:g}": r for r in runs}
    _check_runs(runs, len(places))
    old, whole = _stored(folder), folder.absolute()
    fresh = whole.with_name(f".{whole.name}.{os.getpid()}.part")
    try:
        for name, one in places.items():
            stored.write(fresh / name, one)
        folder.mkdir(parents=True, exist_ok=True)
        for path in old:
            shutil.rmtree(path)
        for name in places:
            (fresh / name).replace(folder / name)
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be written ({error.strerror or error}); name another baseline") from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return [folder / name for name in places]


def _check_runs(runs: Sequence[Run], places: int) -> None:
    if places != len(runs):
        came = "; ".join(str(run.folder) for run in runs)
        raise DataError(f"expected one run for each benchmark, method and ratio, came several: {came}; name a folder")
    for run in runs:
        asked = int(run.config["benchmark"]["questions"])
        if len(run.answers) < asked:
            raise DataError(
                f"{run.folder}: expected all {asked} questions answered, came {len(run.answers)}; finish the run first"
            )


def _stored(folder: Path) -> list[Path]:
    """Run folders that are there already; anything else is not ours to remove."""
    if not folder.exists():
        return []
    entries = sorted(folder.iterdir()) if folder.is_dir() else [folder]
    foreign = [p for p in entries if not p.is_dir() or {inner.name for inner in p.iterdir()} != stored.FILES]
    if foreign:
        raise DataError(
            f"{folder}: expected a folder of stored runs ({', '.join(sorted(stored.FILES))}), found {foreign[0].name}; "
            "name another folder for the baseline"
        )
    return entries
