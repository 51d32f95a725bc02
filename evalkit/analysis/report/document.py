"""The page, put together: of each question set pictures, a short table and four sentences, then what is folded away."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
from markupsafe import Markup

from evalkit.analysis.report import (
    accuracy_table,
    budget_tables,
    compression_tables,
    flips,
    heat_map,
    overview,
    overview_table,
    pareto_plot,
    summary,
)
from evalkit.analysis.report.annotations import video_paths
from evalkit.analysis.report.kept_over_time import Histogram, histograms
from evalkit.analysis.report.payload import payload
from evalkit.analysis.report.provenance import provenance
from evalkit.analysis.report.sanitize import embedded
from evalkit.analysis.report.setup import point_key, views
from evalkit.analysis.report.takeaways import takeaways
from evalkit.analysis.report.thumbnails import thumbnails
from evalkit.analysis.tables.formatting import head_lines, setup_line
from evalkit.analysis.tables.grid_rows import Row, records
from evalkit.sanitize import clean

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd

    from evalkit.analysis.grid.measured_points import QuestionSet
    from evalkit.analysis.plots import Figures
    from evalkit.analysis.report.html_table import Table
    from evalkit.analysis.report.pareto_plot import Plot
    from evalkit.analysis.results import Results

_PAGE = Path(__file__).parent / "page"
_SCRIPTS = ("elements", "state", "outcomes", "view", "strips", "detail", "list", "plot", "page")


@dataclass(frozen=True)
class Section:
    """A folded section of a question set: sentences and tables under a title."""

    slug: str  # what links call it
    title: str
    tables: Sequence[Table] = ()
    lines: Sequence[str] = ()  # above the tables
    histograms: Sequence[tuple[str, Sequence[Histogram]]] = ()  # by method
    open: bool = False


@dataclass(frozen=True)
class Part:
    """Everything about one question set."""

    slug: str
    title: str
    setup: str
    plots: Mapping[str, Plot]  # cost -> figure
    overview: Table
    more: Table | None  # operating points for which the overview has no room
    controls: Table | None
    controls_shown: bool | None  # in the plots from the first; None: there are none
    lost: Sequence[Table]
    takeaways: Sequence[tuple[str, str]]  # what a sentence is about, and the sentence
    sections: Sequence[Section]
    facts: Mapping[str, Sequence[tuple[str, str]]] = field(repr=False)  # of each point, for the page's script


def document(results: Results, *, thumbnails_mb: float) -> str:
    """The whole page as text."""
    setups, figures = views(results), results.figures
    found = [video_paths(view) if thumbnails_mb > 0 else {} for view in setups]
    sprites, note = thumbnails(setups, found, thumbnails_mb)
    parts = [
        _part(own, slug, records(scored), records(costs), compression, figures)
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
        costs=pareto_plot.SHOWN,
        several_setups=len(setups) > 1,
        provenance=provenance(results.named),
        questions=sum(len(view.keys) for view in setups),
        runs=len(results.runs),
        thumbnails=note,
        payload=embedded(payload(setups, figures.names, sprites, [part.facts for part in parts])),
        style=_read("page.css"),
        script=Markup("\n").join(_read(f"{name}.js") for name in _SCRIPTS),
    )


def _part(
    own: QuestionSet,
    slug: str,
    scores: Sequence[Row],
    costs: Sequence[Row],
    compression: pd.DataFrame,
    figures: Figures,
) -> Part:
    rows = overview.rows(own, scores, costs)
    chosen = overview.chosen(rows, own.reference)
    more, controls = (
        overview_table.table(name, folded, own.reference, slug) if folded else None
        for name, folded in (("More methods and ratios", chosen.more), ("Controls", chosen.controls))
    )
    return Part(
        slug=slug,
        title=f"{own.name}, {own.split}" if own.split else own.name,
        setup=setup_line(own.setup).strip(),
        plots=pareto_plot.plots(own, rows, figures.looks, slug),
        overview=overview_table.table("Accuracy and cost", chosen.first, own.reference, slug),
        more=more,
        controls=controls,
        controls_shown=not chosen.controls if any(row.control for row in rows) else None,
        lost=heat_map.maps(own, [row.point for row in chosen.first], slug),
        takeaways=takeaways(own, rows),
        sections=_sections(own, slug, scores, costs, compression),
        facts={point_key(row.point): overview_table.facts(row, own.reference) for row in rows},
    )


def _sections(
    own: QuestionSet,
    slug: str,
    scores: Sequence[Row],
    costs: Sequence[Row],
    compression: pd.DataFrame,
) -> list[Section]:
    """The folded sections in the order of the page; a further table is a further `Section`."""
    kept = groupby(histograms(own.points), lambda one: one.point.method)
    scope = [" · ".join(lines) for lines in _scope(own)]
    found = [
        Section("scope", "Question sets, failures and achieved ratios", lines=[*scope, *summary.summary(own, scores)]),
        Section("accuracy", "Accuracy of all rows", _there(accuracy_table.accuracy(own, scores))),
        Section("between", "Between two ratios of the reference", _there(accuracy_table.between(own, scores))),
        Section("budget", "Budget", _there(budget_tables.budget(own, costs), budget_tables.timed(own, costs))),
        Section("compression", "What compression keeps", compression_tables.compression(own, compression)),
        Section("flips", "Flips against the dense run", _there(flips.table(own, slug))),
        Section("kept", "What was kept, over the time of the video", histograms=[(m, list(own)) for m, own in kept]),
        Section("audit", "Achieved against nominal ratio", _there(budget_tables.audit(own))),
    ]
    return [section for section in found if section.tables or section.lines or section.histograms]


def _there(*tables: Table | None) -> list[Table]:
    return [table for table in tables if table is not None]


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
    return Markup((_PAGE / name).read_text(encoding="utf-8"))  # noqa: S704 – of this package
