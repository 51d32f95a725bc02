"""How numbers and tables are written: Markdown, the report's page, and the lines above a table."""

from __future__ import annotations

import math
from pathlib import PurePath
from typing import TYPE_CHECKING

from evalkit.sanitize import one_line, table_cell

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from evalkit.analysis.grid.grouping import NamedRun
    from evalkit.runs.setups import Label

_SHORT = 16  # characters: longer labels are numbered, or three benchmarks would not fit into 120 columns

Benchmark = tuple[str, str]  # label and split


def render(texts: pd.DataFrame, left: Sequence[str] = ("method",)) -> str:
    """A frame of texts as a Markdown table; columns other than `left` are aligned to the right."""
    safe = texts.map(table_cell).rename(columns=table_cell)
    align = ["left" if name in left else "right" for name in texts.columns]
    return safe.to_markdown(index=False, disable_numparse=True, colalign=align) + "\n"


def number(value: float, decimals: int) -> str:
    """`value` with fixed decimals; a dash for nan."""
    return "–" if math.isnan(value) else f"{value:z.{decimals}f}"  # z: no "-0.0"


def significant(value: float, digits: int = 3) -> str:
    """`value` with so many significant digits and no exponent, for what spans orders of magnitude; a dash for nan."""
    if math.isnan(value) or value == 0:
        return number(value, 0)
    return f"{value:.{max(0, digits - 1 - math.floor(math.log10(abs(value))))}f}"


def delta_and_ci(delta: float, low: float, high: float) -> str:
    """A difference with its sign and interval; a dash for nan."""
    if math.isnan(delta):
        return number(delta, 1)
    return f"{delta:+.1f} [{number(low, 1)}, {number(high, 1)}]"


def p_value(value: float) -> str:
    """Three decimals; a dash for nan."""
    return "<0.001" if value < 0.001 else number(value, 3)


def setup_line(setup: Label) -> str:
    """The line above a table that names backbone, sampling and protocol."""
    backbone, sampling, protocol = setup
    return one_line(f"backbone {backbone} · sampling {sampling} · protocol {protocol}") + "\n"


def column_names(entries: Sequence[NamedRun]) -> dict[Benchmark, str]:
    """What columns call each benchmark: its label where all labels are short and unique, else its number."""
    benchmarks = list(dict.fromkeys((entry.run.label, entry.run.split) for entry in entries))
    labels = {label for label, _ in benchmarks}
    if len(labels) == len(benchmarks) and max(map(len, labels)) <= _SHORT:
        return {benchmark: benchmark[0] for benchmark in benchmarks}
    return {benchmark: f"[{place}]" for place, benchmark in enumerate(benchmarks, start=1)}


def head_lines(entries: Sequence[NamedRun]) -> str:
    """Per benchmark: number if columns use it, label, split, size, notes, and the runs that are not complete."""
    lines: list[str] = []
    for (label, split), name in column_names(entries).items():
        own = [entry for entry in entries if (entry.run.label, entry.run.split) == (label, split)]
        sizes = " or ".join(dict.fromkeys(str(entry.run.config["benchmark"]["questions"]) for entry in own))
        title = label if name == label else f"{name} {label}"
        lines.append(f"- {one_line(title)}, split {split}: {sizes} questions, {_videos(own)} videos")
        notes = [str(note) for entry in own for note in entry.run.config["benchmark"].get("notes") or ()]
        gaps = [gap for entry in own if (gap := _gap(entry))]
        lines += [
            f"  - {one_line(text)}" for text in dict.fromkeys(notes + tuned_notes(own) + stand_in_notes(own) + gaps)
        ]
    return "\n".join(lines) + "\n"


def stand_in_notes(entries: Sequence[NamedRun]) -> list[str]:
    """How many answers rest on frames that were shown in the place of damaged ones."""
    notes = []
    for entry in entries:
        counts = [answer.stand_ins for answer in entry.run.answers if answer.stand_ins]
        if counts:
            which = f"{entry.method} at ratio {entry.run.ratio:g}: {len(counts)} answer{'s' if counts[1:] else ''}"
            notes.append(
                f"{which} from videos with frames that do not decode; others stood in for {sum(counts)} frames"
            )
    return notes


def tuned_notes(entries: Sequence[NamedRun]) -> list[str]:
    """A line for each method that brings tuned weights of its own, beside those that answer with the backbone's."""
    own = {entry.method: entry for entry in entries if entry.run.setup.tuned}
    return [
        f"{method}: weights {entry.weights} (tuned), in place of the backbone's {_backbones(entry)}"
        for method, entry in own.items()
    ]


def _backbones(entry: NamedRun) -> str:
    name = PurePath(entry.run.setup.adapter).name
    return f"adapter {name}" if name else "own, which the other rows use"


def _videos(entries: Sequence[NamedRun]) -> int:
    return len({answer.video_id for entry in entries for answer in entry.run.answers if answer.video_id})


def _gap(entry: NamedRun) -> str:
    asked, answered = entry.run.config["benchmark"]["questions"], len(entry.run.answers)
    if answered >= asked:
        return ""
    return f"incomplete: {entry.method} at ratio {entry.run.ratio:g} has {answered} of {asked} questions"


# ---- on the report's page: commas between thousands and true minus signs


def grouped_number(value: float, decimals: int) -> str:
    """Fixed decimals with commas between thousands; a dash for nan."""
    return "–" if math.isnan(value) else _minus(f"{value:,.{decimals}f}")


def signed(value: float) -> str:
    """A difference with its sign; a dash for nan."""
    return "–" if math.isnan(value) else _minus(f"{value:+.1f}")


def span(low: float, high: float) -> str:
    """Both ends of an interval, never on two lines; a dash where there is none."""
    if math.isnan(low):
        return "–"
    return f"{grouped_number(low, 1)}\N{NO-BREAK SPACE}to\N{NO-BREAK SPACE}{grouped_number(high, 1)}"


def relative(value: float, largest: float) -> str:
    """As many decimals as give the largest number of a column three digits: a tiny model's TFLOPs are thousandths."""
    return grouped_number(value, max(0, 2 - math.floor(math.log10(largest))) if largest > 0 else 0)


def _minus(text: str) -> str:
    return text.replace("-", "\N{MINUS SIGN}")
