"""How far the accuracy of a subset lies from that of the full set, on answers to the full set."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pandas as pd

from evalkit.analysis.stats import accuracy_interval
from evalkit.analysis.tables.formatting import number, render
from evalkit.errors import ConfigError
from evalkit.runs import load
from evalkit.sanitize import markdown

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from evalkit.runs.load import Run
    from evalkit.types import Answer, Benchmark

_CAPTION = """
gap is the subset's accuracy minus the full set's, in points. ± is how far a subset of so many videos may lie from the
full set at 95 %: half the interval clustered by video, less what is certain because these videos are in both.
"""


def full_runs(path: Path, benchmarks: Sequence[Benchmark]) -> Iterator[tuple[Benchmark, Run]]:
    """Each benchmark that has runs at `path` (a folder, or the answers.jsonl of one run), with its one full run.

    ConfigError where a benchmark has no full run or more than one, DataError where a file is malformed.
    """
    runs = load.load(path.parent if path.is_file() else path)
    named = {str(run.config["benchmark"]["name"]) for run in runs}
    mine = [benchmark for benchmark in benchmarks if benchmark.name in named]
    if not mine:
        raise ConfigError(f"--answers {path}: expected a run on {benchmarks[0].name}, it holds {', '.join(named)}")
    for benchmark in mine:
        yield benchmark, _full_run(path, runs, benchmark)


def _full_run(path: Path, runs: Sequence[Run], benchmark: Benchmark) -> Run:
    ids = {q.id for q in benchmark.questions}
    mine = [run for run in runs if run.config["benchmark"]["name"] == benchmark.name]
    whole = [run for run in mine if ids <= {answer.question_id for answer in run.answers}]
    if len(whole) != 1:
        came = f"{len(whole)} of {len(runs)} runs do" if whole else f"the most is {_most(mine, ids)} of them"
        raise ConfigError(
            f"--answers {path}: expected one run that answers all {len(ids)} questions of {benchmark.label}, {came}; "
            "name the folder of one run with subset=full"
        )
    return whole[0]


def gaps(run: Run, lists: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """One row per subset and for the full set: n, videos, percent, gap and ± in points. Failed questions are left out.

    The finite-population factor sqrt(1 - videos / all videos) shrinks the interval (Cochran 1977, ch. 2): a subset
    of all videos has no gap.
    """
    scored = {answer.question_id: answer for answer in run.answers if answer.correct is not None}
    whole = _interval(list(scored.values()))
    rows = []
    for name, ids in {"full": list(scored), **lists}.items():
        part = _interval([scored[id_] for id_ in ids if id_ in scored])
        shrink = math.sqrt(1 - part.clusters / whole.clusters) if whole.clusters else math.nan
        gap, half = part.percent - whole.percent, part.half_width * shrink
        rows.append((name, part.n, part.clusters, part.percent, gap, half))
    return pd.DataFrame(rows, columns=["subset", "n", "videos", "percent", "gap", "half_width"])


def section(run: Run, benchmark: Benchmark, lists: Mapping[str, Sequence[str]]) -> str:
    """The same as a Markdown table with its head line and caption."""
    table = gaps(run, lists)
    texts = table[["subset", "n", "videos"]].astype(str)
    texts["accuracy"] = [number(value, 1) for value in table["percent"]]
    texts["gap"] = [f"{value:+.1f}" for value in table["gap"]]
    texts["±"] = [number(value, 1) for value in table["half_width"]]
    head = f"{benchmark.label}, {run.method} at ratio {run.ratio:g}, micro accuracy in percent\n\n"
    return markdown(head + render(texts, left=["subset"]) + _CAPTION)


def _interval(part: Sequence[Answer]) -> accuracy_interval.Interval:
    return accuracy_interval.accuracy([bool(answer.correct) for answer in part], [answer.video_id for answer in part])


def _most(runs: Sequence[Run], ids: set[str]) -> int:
    return max((len(ids & {answer.question_id for answer in run.answers}) for run in runs), default=0)
