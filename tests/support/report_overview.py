"""The rows at the top of a report, of runs in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evalkit.analysis.report import overview
from evalkit.analysis.results import Results
from tests.support.report_runs import averages

if TYPE_CHECKING:
    from evalkit.analysis.grid.measured_points import QuestionSet
    from evalkit.analysis.report.overview import OverviewRow
    from evalkit.runs.load import Run


def view(runs: list[Run]) -> tuple[QuestionSet, list[OverviewRow]]:
    """The first question set and its rows."""
    found = Results(runs, averages)
    (own, scores), (_, costs) = found.set_accuracy[0], found.set_budget[0]
    plain = [[{str(k): v for k, v in row.items()} for row in frame.to_dict("records")] for frame in (scores, costs)]
    return own, overview.rows(own, *plain)
