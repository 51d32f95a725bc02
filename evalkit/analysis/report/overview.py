"""The operating points of a question set as the top of the page shows them: texts of each, and which come first."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evalkit.analysis.tables.column_texts import SIGNIFICANT
from evalkit.analysis.tables.columns import BUDGET
from evalkit.analysis.tables.formatting import grouped_number, relative, signed, span
from evalkit.analysis.tables.grid_rows import AGAINST, Row, interpolated

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from evalkit.analysis.grid.measured_points import MeasuredPoint, QuestionSet


MOST_ROWS = 12  # of the table at the top
NOT_MEASURED = "not measured"


@dataclass(frozen=True)
class Difference:
    """Ours minus a comparison, as text; `text` is a dash where there is nothing to compare with."""

    text: str
    interval: str = ""  # "" where none belongs to it
    significant: bool = False  # the interval excludes 0, and p by sign flips (Holm) is below 0.05
    tested: bool = False  # has an interval and a p-value of its own

    @property
    def known(self) -> bool:
        """Whether there is a number."""
        return self.text != "–"


@dataclass(frozen=True)
class OverviewRow:
    """One operating point: its rows of the accuracy and of the budget table, and the texts that are made of them."""

    point: MeasuredPoint
    scores: Row
    costs: Row
    dense: bool  # the dense run itself
    most_tflops: float  # of the question set, for the decimals

    @property
    def name(self) -> str:
        """Method and ratio."""
        return f"{self.point.method} {self.point.ratio:g}"

    @property
    def weights(self) -> str:
        """Which weights answered, where tables say so and they are not the backbone's own."""
        found = str(self.scores.get("weights", "base"))
        return "" if found == "base" else found

    @property
    def control(self) -> bool:
        """Controls are folded away where there is a method to look at."""
        return self.point.role == "control"

    @property
    def accuracy(self) -> str:
        """Percent with half its interval; a dash without a scored question."""
        percent, half = self.scores["accuracy"], self.scores["ci_half_width"]
        return grouped_number(percent, 1) + ("" if math.isnan(half) else f" ± {grouped_number(half, 1)}")

    @property
    def interval(self) -> str:
        """The 95 % interval of accuracy."""
        return span(self.scores["ci_low"], self.scores["ci_high"])

    @property
    def differences(self) -> Mapping[str, Difference]:
        """Per key of `AGAINST`: dense, and the reference at equal KV and at equal compute."""
        return {key: _difference(self.scores, key) for key in AGAINST}

    @property
    def kv(self) -> str:
        """Visual entries a layer when the answer began."""
        return grouped_number(self.costs["kv_tokens"], BUDGET["kv_tokens"].decimals)

    @property
    def share(self) -> str:
        """The same as a share of the dense run's."""
        return share_of_dense(self.costs)

    @property
    def tflops(self) -> str:
        """Of a question."""
        return relative(self.costs["tflops"], self.most_tflops)

    @property
    def ttft(self) -> str:
        """Seconds to the first token where they compare with other rows'."""
        seconds = self.costs["ttft_s"]
        if self.costs["seconds"] not in ("timed", "alone") or math.isnan(seconds):
            return NOT_MEASURED
        return grouped_number(seconds, BUDGET["ttft_s"].decimals)


def share_of_dense(costs: Row) -> str:
    """The achieved ratio in percent; a dash where it is not known."""
    achieved = costs["ratio_achieved"]
    return "–" if math.isnan(achieved) else f"{grouped_number(100 * achieved, 1)} %"


def _difference(scores: Row, key: str) -> Difference:
    change, low, high, p = (scores[f"{key}_{name}"] for name in ("delta_pp", "ci_low", "ci_high", "p_sign_flip_holm"))
    if math.isnan(change):
        return Difference("–")
    if interpolated(scores, key):
        return Difference(f"≈ {signed(change)}")
    found = p < SIGNIFICANT and not low <= 0 <= high
    return Difference(signed(change), span(low, high), bool(found), not math.isnan(p) and not math.isnan(low))


def rows(own: QuestionSet, scores: Sequence[Row], costs: Sequence[Row]) -> list[OverviewRow]:
    """One for each operating point, in the order of the tables."""
    most = max((row["tflops"] for row in costs if not math.isnan(row["tflops"])), default=0.0)
    return [
        OverviewRow(point, score, cost, point is own.dense, most)
        for point, score, cost in zip(own.points, scores, costs, strict=True)
    ]


@dataclass(frozen=True)
class Chosen:
    """Which rows stand at the top, which a fold further down, and which are controls."""

    first: tuple[OverviewRow, ...]
    more: tuple[OverviewRow, ...]
    controls: tuple[OverviewRow, ...]


def chosen(found: Sequence[OverviewRow], reference: str) -> Chosen:
    """At most `MOST_ROWS` first: whole methods in the order of the configuration, so many as find room.

    Ratios of the reference at which no method was run (`matched=true` runs them) give way first. Without any method
    beside the reference, the controls are what was asked for and stand with it.
    """
    plain = any(row.point.role == "method" for row in found)
    shown = [row for row in found if not (plain and row.control)]
    ratios = {row.point.ratio for row in shown if row.point.method != reference}
    fits = len(shown) <= MOST_ROWS or not ratios
    wanted = [row for row in shown if fits or row.point.ratio in ratios | {1.0}]
    first: list[OverviewRow] = []
    for method in dict.fromkeys(row.point.method for row in wanted):
        own = [row for row in wanted if row.point.method == method]
        if not first or len(first) + len(own) <= MOST_ROWS:
            first += own[:MOST_ROWS]
    return Chosen(
        tuple(first),
        tuple(row for row in shown if row not in first),
        tuple(row for row in found if row not in shown),
    )
