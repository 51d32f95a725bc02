"""Titles, notes and descriptions of figures, and the width of texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.font_manager import FontProperties

from evalkit.analysis.grid.measured_points import COSTS
from evalkit.analysis.grid.seconds import SECONDS
from evalkit.analysis.plots.style import FONT

if TYPE_CHECKING:
    from evalkit.analysis.grid.measured_points import MeasuredPoint, QuestionSet
    from evalkit.analysis.plots.series import PlottedPoint

Measure = Callable[[str], float]  # width in points

_KEY = "bars: 95 % CI · hollow: dominated · steps: front"


def measure(renderer: RendererAgg) -> Measure:
    """Widths in the font of the figures; the renderer draws 72 dots an inch."""
    font = FontProperties(size=FONT)
    return lambda text: float(renderer.get_text_width_height_descent(text, font, False)[0])


def plain(text: str) -> str:
    """One line without characters that are no text: an SVG with one in it could not be read."""
    return " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())


def title(question_set: QuestionSet, found: Sequence[PlottedPoint]) -> str:
    """The set, its questions with a score, the backbone."""
    asked = f"{_span([point.accuracy.n for point in found])} questions"
    return " · ".join((name(question_set), asked, plain(question_set.setup[0])))


def name(question_set: QuestionSet) -> str:
    """The set's name and split."""
    return ", ".join(filter(None, map(plain, (question_set.name, question_set.split))))


def notes(question_set: QuestionSet, cost: str, found: Sequence[PlottedPoint]) -> list[str]:
    """How to read the figure, and what is not shown."""
    failed = [point.measured.failed for point in found]
    lines = [_KEY]
    if cost in SECONDS:
        lines.append(f"seconds: {_measured(found[0].measured)}")
    if any(failed):
        lines.append(f"excluded: {_span(failed)} failed questions per point")
    missing = len(question_set.points) - len(found)
    if missing:
        lines.append(f"not shown: {missing} of {len(question_set.points)} points, cost or accuracy not known")
    return lines


def heading(question_set: QuestionSet, cost: str) -> str:
    """The figure's name."""
    return f"{name(question_set)}: accuracy against {COSTS[cost]}"


def _measured(point: MeasuredPoint) -> str:
    """Of one point, as of all that a figure shows."""
    row = point.mean_costs
    if row["seconds"] != "timed":
        return "no work shared, mean per question"
    return f"each point alone and warm, median of {row['timed_n']} videos"


def description(question_set: QuestionSet, cost: str) -> str:
    """The description that screen readers get."""
    backbone, sampling, protocol = map(plain, question_set.setup)
    costs = "costs are means per question" if cost not in SECONDS else "seconds are of work that nothing else shared"
    return (
        f"Backbone {backbone}, sampling {sampling}, protocol {protocol}. Every question counts once; {costs}. "
        "Bars: 95 % CI, clustered by video. Hollow: another point costs no more and is no less "
        "accurate, by point estimates."
    )


def _span(counts: Sequence[int]) -> str:
    low, high = min(counts), max(counts)
    return str(low) if low == high else f"{low}–{high}"


def wrapped(text: str, width: float, measured: Measure) -> list[str]:
    """Lines no wider than `width`, broken at spaces; a word that is wider by itself is cut."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and measured(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(cut(word, width, measured))
    return lines


def cut(text: str, width: float, measured: Measure) -> str:
    """`text`, or as much of its beginning as fits."""
    if measured(text) <= width:
        return text
    short = next((text[:end] for end in range(len(text), 0, -1) if measured(text[:end] + "…") <= width), "")
    return short + "…"
