"""The page, put together: one part for each question set, then what all have in common."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
from markupsafe import Markup

from evalkit.analysis.grid.measured_points import COSTS
from evalkit.analysis.report import accuracy_table, budget_tables, compression_tables, flips, summary
from evalkit.analysis.report.annotations import video_paths
from evalkit.analysis.report.kept_over_time import Histogram, histograms
from evalkit.analysis.report.payload import payload
from evalkit.analysis.report.provenance import provenance
from evalkit.analysis.report.sanitize import clean, embedded
from evalkit.analysis.report.setup import views
from evalkit.analysis.report.thumbnails import thumbnails
from evalkit.analysis.tables.formatting import head_lines, setup_line

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd

    from evalkit.analysis.grid.measured_points import QuestionSet
    from evalkit.analysis.plots import Figures
    from evalkit.analysis.report.html_table import Table
    from evalkit.analysis.results import Results

_PAGE = Path(__file__).parent / "page"
_SCRIPTS = ("elements", "state", "outcomes", "view", "strips", "detail", "list", "page")


@dataclass(frozen=True)
class Part:
    """Everything about one question set."""

    slug: str
    title: str
    setup: str
    scope: Sequence[Sequence[str]]  # a benchmark's size, then its notes
    summary: Sequence[tuple[str, str]]  # what a line is about, and the line
    accuracy: Table
    between: Table | None  # both sides of what is interpolated
    plots: Mapping[str, Markup]  # cost -> figure
    budget: Table
    timed: Table | None
    compression: Sequence[Table]
    flips: Table | None
    kept: Sequence[tuple[str, Sequence[Histogram]]]  # by method
    audit: Table


def document(results: Results, *, thumbnails_mb: float) -> str:
    """The whole page as text."""
    setups, figures = views(results), results.figures
    found = [video_paths(view) if thumbnails_mb > 0 else {} for view in setups]
    sprites, note = thumbnails(setups, found, thumbnails_mb)
    parts = [
        _part(own, slug, _records(scored), _records(costs), compression, figures)
        for own, slug, (_, scored), (_, costs), (_, compression) in zip(
            results.question_sets,
            figures.names,
            results.set_accuracy,
            results.set_budget,
            results.set_compression,
            strict=True,
        )
    ]
    return _template().render(
        parts=parts,
        costs=COSTS,
        several_setups=len(setups) > 1,
        provenance=provenance(results.named),
        questions=sum(len(view.keys) for view in setups),
        runs=len(results.runs),
        thumbnails=note,
        payload=embedded(payload(setups, figures.names, sprites)),
        style=_read("page.css"),
        script=Markup("\n").join(_read(f"{name}.js") for name in _SCRIPTS),
    )


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]


def _part(
    own: QuestionSet,
    slug: str,
    scores: Sequence[dict[str, Any]],
    costs: Sequence[dict[str, Any]],
    compression: pd.DataFrame,
    figures: Figures,
) -> Part:
    drawn = {cost: Markup(clean(figures.svg(own, cost))) for cost in COSTS}
    return Part(
        slug=slug,
        title=f"{own.name}, {own.split}" if own.split else own.name,
        setup=setup_line(own.setup).strip(),
        scope=_scope(own),
        summary=summary.summary(own, scores),
        accuracy=accuracy_table.accuracy(own, scores),
        between=accuracy_table.between(own, scores),
        plots={cost: figure for cost, figure in drawn.items() if figure},
        budget=budget_tables.budget(own, costs),
        timed=budget_tables.timed(own, costs),
        compression=compression_tables.compression(own, compression),
        flips=flips.table(own, slug),
        kept=[(method, list(found)) for method, found in groupby(histograms(own.points), lambda one: one.point.method)],
        audit=budget_tables.audit(own),
    )


def _scope(own: QuestionSet) -> list[list[str]]:
    """Each benchmark's size, with its notes and gaps; without the numbers that columns of other tables use."""
    found: list[list[str]] = []
    for line in head_lines([part for point in own.points for part in point.parts]).splitlines():
        if line.startswith("- "):
            found.append([re.sub(r"^- (\[\d+\] )?", "", line)])
        else:
            found[-1].append(line.strip().removeprefix("- "))
    return found


def _template() -> jinja2.Template:
    """Everything is escaped; what HTML cannot carry is replaced before."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_PAGE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_carried,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html.jinja")


def _carried(value: Any) -> Any:
    return clean(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _read(name: str) -> Markup:
    """A file of the page itself, which is no data."""
    return Markup((_PAGE / name).read_text(encoding="utf-8"))
