"""Four sentences about a question set: the best at each budget, what is not significant, what it costs, and caution."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from evalkit.analysis.report.overview import NOT_MEASURED
from evalkit.analysis.stats.paired_tests import expected_ci_half_width
from evalkit.analysis.tables.formatting import grouped_number

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from evalkit.analysis.grid.measured_points import QuestionSet
    from evalkit.analysis.report.overview import OverviewRow

_PERCENT = "\N{NO-BREAK SPACE}%"
WORDS = 25  # of a sentence, its lead included
_RATIOS = 4  # budgets that are named


def takeaways(own: QuestionSet, rows: Sequence[OverviewRow]) -> list[tuple[str, str]]:
    """What a sentence is about, and the sentence; `rows` are all of the set's, controls count where nothing else is."""
    plain = [row for row in rows if not row.control]
    found = _compared(own, plain if any(row.point.method != own.reference for row in plain) else rows)
    makers: dict[str, Callable[[], str]] = {
        "Best at each ratio": lambda: _best(found),
        "Not significant": lambda: _open(own, found),
        "What it costs": lambda: _costs(own, found),
        "Read with care": lambda: _care(own, rows),
    }
    return [(about, make()) for about, make in makers.items()]


def _compared(own: QuestionSet, rows: Sequence[OverviewRow]) -> list[OverviewRow]:
    """Without what only stands beside others: the reference at ratios that nothing else was run at, for equal cost."""
    ratios = {row.point.ratio for row in rows if row.point.method != own.reference} | {1.0}
    return [row for row in rows if row.point.ratio in ratios] if len(ratios) > 1 else list(rows)


# ---- the best


def _best(rows: Sequence[OverviewRow]) -> str:
    scored = [row for row in rows if row.point.scored]
    below = sorted({row.point.ratio for row in scored if row.point.ratio < 1}, reverse=True)
    if not scored:
        return "no question has a score."
    if not below:
        top = _highest(scored)
        return f"only ratio 1 was run: {top.point.method} {_percent(top)}{_PERCENT}."
    at = {ratio: [row for row in scored if row.point.ratio == ratio] for ratio in below}
    most = sorted(below, key=lambda ratio: (-len(at[ratio]), -ratio))[:_RATIOS]  # where most methods were run
    named = [f"{ratio:g}: {_leader(at[ratio])}" for ratio in below if ratio in most]
    return _within(named, "; ", "Best at each ratio")


def _leader(rows: Sequence[OverviewRow]) -> str:
    top = _highest(rows)
    equal = [row.point.method for row in rows if _percent(row) == _percent(top)]
    return f"{' = '.join(equal)} {_percent(top)}{_PERCENT}"


def _highest(rows: Sequence[OverviewRow]) -> OverviewRow:
    return max(rows, key=lambda row: row.point.accuracy.percent)


def _percent(row: OverviewRow) -> str:
    return grouped_number(row.scores["accuracy"], 1)


# ---- what is not significant


def _open(own: QuestionSet, rows: Sequence[OverviewRow]) -> str:
    """Against dense, and methods against the reference at equal KV."""
    named = {"dense": "vs. dense", "kv": f"vs. {own.reference} at equal KV"}
    tested = {key: [row for row in rows if row.differences[key].tested] for key in named}
    if not any(tested.values()):
        return "no difference could be tested: no dense run, nothing beside it, or a single video."
    room = (WORDS - 2) // sum(map(bool, tested.values()))  # two words are the lead
    parts = [_unclear(text, key, tested[key], room) for key, text in named.items() if tested[key]]
    return f"{'; '.join(parts)}."


def _unclear(text: str, key: str, rows: Sequence[OverviewRow], room: int) -> str:
    """Methods with the ratios at which nothing is shown."""
    unclear = [row.point for row in rows if not row.differences[key].significant]
    ratios: dict[str, list[str]] = {}
    for point in unclear:
        ratios.setdefault(point.method, []).append(f"{point.ratio:g}")
    items = [f"{method} {'/'.join(own)}" for method, own in ratios.items()]
    return f"{text}: {_within(items, ', ', text, room, end='') if items else 'none'}"


# ---- what it costs


def _costs(own: QuestionSet, rows: Sequence[OverviewRow]) -> str:
    """Compute as a share of the dense run's, at the smallest ratio that most methods were run at; else in TFLOPs."""
    known = [row for row in rows if row.costs["tflops"] > 0 and row.point.ratio < 1]
    if not known:
        return "nothing below ratio 1 has a known compute."
    counts = {ratio: sum(row.point.ratio == ratio for row in known) for ratio in {r.point.ratio for r in known}}
    ratio = min(counts, key=lambda ratio: (-counts[ratio], ratio))
    at = [row for row in known if row.point.ratio == ratio]
    dense = next((row for row in rows if row.point is own.dense and row.costs["tflops"] > 0), None)
    lead = f"at ratio {ratio:g}, " + ("of the dense run's compute: " if dense else "TFLOPs: ")
    named = [_cost(row, dense) for row in sorted(at, key=lambda row: row.point.method == own.reference)]
    return lead + _within(named, ", ", f"What it costs {lead}")


def _cost(row: OverviewRow, dense: OverviewRow | None) -> str:
    if dense is None:
        text = f"{row.point.method} {row.tflops}"
    else:
        text = f"{row.point.method} {grouped_number(100 * row.costs['tflops'] / dense.costs['tflops'], 0)}{_PERCENT}"
    return text if row.ttft == NOT_MEASURED else f"{text} (TTFT {row.ttft} s)"


# ---- with care


def _care(own: QuestionSet, rows: Sequence[OverviewRow]) -> str:
    """What limits the numbers, the gravest first, as much as fits."""
    return _within(list(_limits(own, rows)), ". ", "Read with care")


def _limits(own: QuestionSet, rows: Sequence[OverviewRow]) -> Iterator[str]:
    runs = [part.run for point in own.points for part in point.parts]
    if any(run.config["benchmark"].get("generated") for run in runs):
        yield "Generated videos: no ranking on real ones"
    gaps = sum(len(run.answers) < run.config["benchmark"]["questions"] for run in runs)
    if gaps:
        yield f"{gaps} of {len(runs)} runs are incomplete"
    failed = sum(row.scores["failed"] for row in rows)
    if failed:
        yield f"{grouped_number(failed, 0)} answers failed and are in no accuracy"
    off = sum(bool(row.costs["ratio_off"]) for row in rows)
    if off:
        yield f"{off} achieved ratios miss their nominal one"
    unread = sum(row.scores["unparsed"] for row in rows)
    if unread:
        yield f"{grouped_number(unread, 0)} replies named no option"
    most = max((row.scores["n"] for row in rows), default=0)
    half = expected_ci_half_width(most)
    if not math.isnan(half):
        yield f"{grouped_number(most, 0)} questions resolve about ±{grouped_number(half, 1)} points"
    if all(row.ttft == NOT_MEASURED for row in rows):
        yield "Seconds were not measured"


# ---- as much as fits


def _within(items: Sequence[str], between: str, lead: str, words: int = WORDS, end: str = ".") -> str:
    """`items` joined, and how many more there are where `lead` and all of them are more than so many words."""
    shown = [items[0]]
    for item in items[1:]:
        if _words(lead, *shown, item) > words - 2:  # "and 3 more"
            break
        shown.append(item)
    left = len(items) - len(shown)
    more = f" and {left} more" if left and between == ", " else ""
    return between.join(shown) + more + end


def _words(*texts: str) -> int:
    return sum(len(text.split()) for text in texts)
