"""The page, put together: one part for each question set, then what all have in common."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
from markupsafe import Markup

from evalkit.analysis import plots
from evalkit.analysis.grid.cells import COSTS
from evalkit.analysis.report import accuracy_table, budget_tables, flips_table, summary
from evalkit.analysis.report.annotations import asked_rows
from evalkit.analysis.report.kept_over_time import Histogram, histograms
from evalkit.analysis.report.payload import payload
from evalkit.analysis.report.provenance import made_with
from evalkit.analysis.report.sanitize import clean, embedded
from evalkit.analysis.report.setup import sheets
from evalkit.analysis.report.thumbnails import thumbnails
from evalkit.analysis.tables import paper
from evalkit.analysis.tables.accuracy import Averages, official
from evalkit.analysis.tables.formatting import head_lines, setup_line

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd

    from evalkit.analysis.grid.cells import QuestionSet
    from evalkit.analysis.plots.style import Style
    from evalkit.analysis.report.html_table import Table
    from evalkit.runs.load import Run

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
    flips: Table | None
    kept: Sequence[tuple[str, Sequence[Histogram]]]  # by method
    audit: Table


def document(runs: Sequence[Run], *, thumbnails_mb: float, averages: Averages = official) -> str:
    """The whole page as text."""
    pages = sheets(runs)
    sets = [own for page in pages for own in page.sets]
    slugs, looks = plots.names(sets), plots.styles(sets)
    scores, spending = paper.tables(runs, averages)
    found = [asked_rows(page) for page in pages]
    sprites, note = thumbnails(pages, found, thumbnails_mb)
    parts = [
        _part(own, slug, _records(scored), _records(spent), looks)
        for own, slug, (_, scored), (_, spent) in zip(sets, slugs, scores, spending, strict=True)
    ]
    return _template().render(
        parts=parts,
        costs=COSTS,
        several_setups=len(pages) > 1,
        made_with=made_with(runs),
        questions=sum(len(page.keys) for page in pages),
        runs=len(runs),
        thumbnails=note,
        payload=embedded(payload(pages, slugs, sprites, found)),
        style=_read("page.css"),
        script=Markup("\n").join(_read(f"{name}.js") for name in _SCRIPTS),
    )


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]


def _part(
    own: QuestionSet,
    slug: str,
    scores: Sequence[dict[str, Any]],
    spending: Sequence[dict[str, Any]],
    looks: Mapping[str, Style],
) -> Part:
    by_duration = budget_tables.by_duration(own)
    figures = {cost: Markup(clean(plots.svg(own, cost, looks))) for cost in COSTS}
    return Part(
        slug=slug,
        title=f"{own.name}, {own.split}" if own.split else own.name,
        setup=setup_line(own.setup).strip(),
        scope=_scope(own),
        summary=summary.summary(own, scores, by_duration),
        accuracy=accuracy_table.accuracy(own, scores),
        between=accuracy_table.between(own, scores),
        plots={cost: figure for cost, figure in figures.items() if figure},
        budget=budget_tables.budget(own, spending),
        timed=budget_tables.timed(own, spending),
        flips=flips_table.table(own, slug),
        kept=[(method, list(found)) for method, found in groupby(histograms(own.cells), lambda one: one.cell.method)],
        audit=budget_tables.audit(own, by_duration),
    )


def _scope(own: QuestionSet) -> list[list[str]]:
    """Each benchmark's size, with its notes and gaps; without the numbers that columns of other tables use."""
    found: list[list[str]] = []
    for line in head_lines([part for cell in own.cells for part in cell.parts]).splitlines():
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
