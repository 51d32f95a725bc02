"""`matched=true`: once a grid is answered, the reference is run where it costs as much as the other methods did."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from evalkit.analysis.grid import curve_points
from evalkit.errors import ConfigError
from evalkit.method import OperatingPoint
from evalkit.runs import load

if TYPE_CHECKING:
    from evalkit.engine.grid import Grid

log = logging.getLogger(__name__)

ROUNDS = 4  # each predicts from what the ones before have measured


def curve(grid: Grid) -> OperatingPoint:
    """The reference's operating point. ConfigError where the grid does not run it, or nothing beside it."""
    own = next((point for point in grid.points if point.name == grid.reference), None)
    if own is None or all(point.name == grid.reference for point in grid.points):
        names = ", ".join(dict.fromkeys(point.name for point in grid.points))
        raise ConfigError(
            f"matched=true needs the reference ({grid.reference}) and other methods in one grid, got {names}: "
            "name them all in methods=[…], or leave it out"
        )
    return own


def announced(grid: Grid) -> str:
    """What `dry_run=true` says of it."""
    others = sum(point.name != grid.reference for point in grid.points)
    return (
        f"\nmatched=true: {grid.reference} is run at more ratios once these are answered, where it costs as much as "
        f"another row: up to {2 * others} for each set of questions, none where a ratio lies within 2 % of the cost.\n"
    )


def complete(grid: Grid, reference: OperatingPoint, folders: Sequence[Path], failed: int) -> tuple[list[Path], int]:
    """Answer the reference where it is missing; all run folders then, and the rows that failed.

    Costs are known exactly only from answers, so it is done in rounds: where a predicted ratio misses the cost by more
    than 2 %, the next round predicts from a curve that has one more point near it. The same answers give the same
    ratios, so that a second start finds them answered.
    """
    found = list(folders)
    for _ in range(ROUNDS):
        runs = load.ordered([run for folder in found for run in load.load(folder)])
        ratios = curve_points.missing(runs)
        if not ratios:
            break
        log.info("matched=true: %s at ratio %s", reference.name, ", ".join(f"{ratio:g}" for ratio in ratios))
        more, lost = grid.run([replace(reference, ratio=ratio) for ratio in ratios])
        found, failed = [*found, *more], failed + lost
    return found, failed
