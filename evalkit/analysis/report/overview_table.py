"""The table at the top of the page: what each operating point scores and costs; the same of a point in the plot."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlencode

from evalkit.analysis.report.html_table import Field, Head, Line, Table
from evalkit.analysis.report.overview import NOT_MEASURED
from evalkit.analysis.report.setup import point_key
from evalkit.analysis.tables.columns import ACCURACY, BUDGET, DIFFERENCES
from evalkit.analysis.tables.formatting import grouped_number

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from evalkit.analysis.grid.measured_points import MeasuredPoint
    from evalkit.analysis.report.overview import Difference, OverviewRow

_AGAINST = {"dense": "dense", "kv": "{} at equal KV", "compute": "{} at equal compute"}
_NOTE = """
± is half the 95 % CI, clustered by video. Differences are in percentage points on the same questions, with 95 % CIs;
* significant: the interval excludes 0 and p by sign flips (Holm) is below 0.05; ≈ interpolated between two ratios of
the reference, not tested; a dash where the reference never costs as much or as little. KV counts visual entries a
layer, in percent of the dense run's below it. A method's name leads to its questions.
"""


def address(slug: str, point: MeasuredPoint) -> str:
    """What the page's address holds behind "#" for the questions of one operating point."""
    return urlencode({"set": slug, "point": point_key(point)})


def table(caption: str, found: Sequence[OverviewRow], reference: str, slug: str) -> Table:
    """One line for each row."""
    costs = [BUDGET[name].title for name in ("kv_tokens", "tflops")]
    heads = tuple(
        Head(text)
        for text in (
            ACCURACY["accuracy"].title,
            *(f"vs. {text.format(reference)}" for text in _AGAINST.values()),
            *costs,
            f"{BUDGET['ttft_s'].title} (s)",
        )
    )
    top = (Head("", 1), Head(DIFFERENCES["delta_pp"].title, len(_AGAINST)), Head("cost per question", 3))
    lines = tuple(
        Line(
            row.point.method,
            f"{row.point.ratio:g}",
            tuple(_fields(row)),
            opens=place > 0 and row.point.method != found[place - 1].point.method,
            address=address(slug, row.point),
            note=row.weights,
        )
        for place, row in enumerate(found)
    )
    return Table(caption, "method, ratio", (top, heads), lines, _NOTE)


def _fields(row: OverviewRow) -> Iterator[Field]:
    yield Field(row.accuracy, "lead", detail="" if row.interval == "–" else row.interval)
    for key, difference in row.differences.items():
        text = "dense" if key == "dense" and row.dense else _text(difference)
        yield Field(text, "" if difference.known else "none", detail=difference.interval)
    yield Field(row.kv, "opens", detail="" if row.share == "–" else row.share)
    yield Field(row.tflops)
    yield Field(row.ttft, "none" if row.ttft == NOT_MEASURED else "")


def _text(difference: Difference) -> str:
    return difference.text + "*" * difference.significant


def facts(row: OverviewRow, reference: str) -> list[tuple[str, str]]:
    """What the page says of a point that is looked at: names and values."""
    against = [
        (f"Δ to {name.format(reference)}", _sentence(row.differences[key]))
        for key, name in _AGAINST.items()
        if row.differences[key].known
    ]
    share = "" if row.share == "–" else f", {row.share} of dense"
    ttft = row.ttft if row.ttft == NOT_MEASURED else f"{row.ttft} s"
    return [
        ("accuracy", _percent(row)),
        *against,
        ("KV", f"{row.kv} tokens a layer{share}"),
        (BUDGET["tflops"].title, row.tflops),
        (BUDGET["ttft_s"].title, ttft),
        ("questions", _counts(row)),
        *([("weights", row.weights)] if row.weights else []),
    ]


def label(row: OverviewRow) -> str:
    """The same in one line, for who does not see the plot: without what the axes do not show."""
    role = " (control)" if row.control else ""
    return f"{row.point.method}{role} at ratio {row.point.ratio:g}: {_percent(row)}, {row.kv} KV tokens a layer"


def _percent(row: OverviewRow) -> str:
    interval = "" if row.interval == "–" else f" ({row.interval})"
    return f"{row.accuracy} %{interval}"


def _sentence(difference: Difference) -> str:
    """The unit stands behind the number."""
    if difference.text.startswith("≈"):
        return f"{difference.text} pp, interpolated"
    if difference.interval == "–":
        return f"{difference.text} pp"
    verdict = "" if not difference.tested else ", significant" if difference.significant else ", not significant"
    return f"{difference.text} pp ({difference.interval}){verdict}"


def _counts(row: OverviewRow) -> str:
    failed = row.scores["failed"]
    scored = f"{grouped_number(row.scores['n'], 0)} scored"
    return f"{scored}, {grouped_number(failed, 0)} failed" if failed else scored
