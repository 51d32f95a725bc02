"""Everything that is computed of a collection of runs, each thing once, for all that shows it."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import pandas as pd

from evalkit.analysis.grid.evidence_recall import Evidence
from evalkit.analysis.grid.grouping import entries, of_setups
from evalkit.analysis.grid.measured_points import MeasuredPoint, pooled, sets
from evalkit.analysis.tables import accuracy, budget, compression, differences, grid_rows
from evalkit.analysis.tables.accuracy import Averages, official

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evalkit.analysis.grid.grouping import NamedRun
    from evalkit.analysis.grid.measured_points import QuestionSet
    from evalkit.analysis.grid.paired import Statistics
    from evalkit.analysis.plots import Figures
    from evalkit.analysis.tables.grid_rows import Table
    from evalkit.runs.load import Run
    from evalkit.runs.setups import Label


class Results:
    """The runs of one results folder, and what terminal, tables, plots, report and trackers show of them.

    Every property is computed when it is first asked for and kept; `averages` are the protocol's own. Runs must not
    change while it is used.
    """

    def __init__(self, runs: Sequence[Run], averages: Averages = official) -> None:
        self.runs = tuple(runs)
        self._averages = averages
        self._statistics: Statistics = {}  # of paired differences, shared by all tables

    @cached_property
    def named(self) -> list[NamedRun]:
        """The runs in table order, with the names that tables give their methods and setups."""
        return entries(self.runs)

    @cached_property
    def setups(self) -> dict[Label, list[NamedRun]]:
        """The runs that may be compared with each other, in table order."""
        return of_setups(self.named)

    @cached_property
    def points(self) -> dict[Label, tuple[MeasuredPoint, ...]]:
        """Per setup every method at every ratio, over all benchmarks that it was run on."""
        return {setup: pooled(members) for setup, members in self.setups.items()}

    @cached_property
    def question_sets(self) -> list[QuestionSet]:
        """Per setup each benchmark, and before them, where there are several, all of them together."""
        return [
            own
            for setup, members in self.setups.items()
            for own in sets(setup, members, self.points[setup], self._statistics)
        ]

    @cached_property
    def _single(self) -> list[MeasuredPoint]:
        """Each run as a point on its benchmark, in table order."""
        known = {id(p.parts[0].run): p for own in self.question_sets for p in own.points if len(p.parts) == 1}
        return [known.get(id(e.run)) or MeasuredPoint(e.method, e.run.ratio, (e,)) for e in self.named]

    @cached_property
    def _accuracy_rows(self) -> list[list[dict[str, Any]]]:
        return [accuracy.rows(point, self._averages) for point in self._single]

    @cached_property
    def _budget_rows(self) -> list[list[dict[str, Any]]]:
        return [budget.rows(point) for point in self._single]

    def rows_of(self, run: Run) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """One run's rows of the accuracy and of the budget table."""
        place = next(n for n, entry in enumerate(self.named) if entry.run is run)
        return self._accuracy_rows[place], self._budget_rows[place]

    @cached_property
    def accuracy(self) -> pd.DataFrame:
        """One row per run × group of questions; columns as in accuracy.csv."""
        return pd.DataFrame([row for own in self._accuracy_rows for row in own], columns=list(accuracy.COLUMNS))

    @cached_property
    def budget(self) -> pd.DataFrame:
        """One row per run × ("all" or duration bucket); columns as in budget.csv."""
        return pd.DataFrame([row for own in self._budget_rows for row in own], columns=list(budget.COLUMNS))

    @cached_property
    def difference_rows(self) -> dict[Label, list[dict[str, Any]]]:
        """Per setup every method against the reference at the same ratio."""
        return {setup: differences.rows(setup, own, self._statistics) for setup, own in self.points.items()}

    @cached_property
    def differences(self) -> pd.DataFrame:
        """The same in one frame; columns as in differences.csv."""
        return differences.frame(self.difference_rows)

    @cached_property
    def set_accuracy(self) -> list[Table]:
        """Per question set accuracy, and differences to dense and at equal cost; columns as in paper/accuracy.csv."""
        own = grid_rows.averages(self.accuracy)
        return [(found, grid_rows.accuracy(found, own)) for found in self.question_sets]

    @cached_property
    def set_budget(self) -> list[Table]:
        """Per question set what its points cost; columns as in paper/budget.csv."""
        return [(found, grid_rows.budget(found)) for found in self.question_sets]

    @cached_property
    def set_compression(self) -> list[Table]:
        """Per question set what its points kept, and costs apportioned; columns as in paper/compression.csv."""
        evidence = Evidence()
        return [(found, compression.rows(found, evidence)) for found in self.question_sets]

    @cached_property
    def figures(self) -> Figures:
        """The Pareto plots, each drawn when it is first asked for."""
        from evalkit.analysis.plots import Figures  # brings matplotlib

        return Figures(self.question_sets)
