"""`python -m evalkit compare RESULTS --published FILE`: runs held against scores that others published."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from evalkit.analysis.compare import pairing, published_scores
from evalkit.analysis.tables import accuracy
from evalkit.analysis.tables.accuracy import Averages, official
from evalkit.analysis.tables.formatting import number, render
from evalkit.errors import DataError
from evalkit.runs import setups

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from evalkit.analysis.compare.published_scores import PublishedScore
    from evalkit.runs.load import Run

_CAPTION = """
published and ours are percent: ours is the protocol's own average over the questions that have a score, of a group the
share of right answers. The difference is ours minus published. within: the difference is no larger than the tolerance,
which the file states in percentage points. settings that differ are given as published against ours, as far as both
sides say. A row with such settings is no replication, whatever the difference; neither is one whose note says so.
"""

GENERATED = "runs on generated videos are held against no published score"


@dataclass(frozen=True, kw_only=True)
class Held:
    """A published score beside the run whose settings are nearest to it."""

    published: PublishedScore
    run: Run
    ours: float  # percent; nan without scored answers
    settings: dict[str, tuple[str, str]]  # setting -> as published, as run, where both say and they differ

    @property
    def difference(self) -> float:
        """Ours minus published, in percentage points."""
        return self.ours - self.published.score

    @property
    def within(self) -> bool | None:
        """Whether the difference is within the tolerance; None where there is none."""
        rounding = 1e-9  # 58.6 - 57.4 is a little more than 1.2 in binary
        return None if math.isnan(self.ours) else abs(self.difference) <= self.published.tolerance + rounding


@dataclass(frozen=True, kw_only=True)
class Holding:
    """What a results folder holds against a list of published scores."""

    results: Path
    file: Path
    rows: tuple[Held, ...]
    missing: tuple[PublishedScore, ...]  # without a run
    unpublished: tuple[Run, ...]  # without a score in the list


def hold(results: Path, file: Path, averages: Averages = official) -> Holding:
    """Every score of `file` beside the run of that method, backbone and benchmark that differs from it least.

    DataError as `published_scores.read` and `load`, and where no run belongs to any score.
    """
    scores, runs = published_scores.read(file), pairing.read(results)
    rows, missing = [], []
    for score in scores:
        fitting = [run for run in runs if _belongs(run, score)]
        if not fitting:
            missing.append(score)
            continue
        run = min(fitting, key=lambda one: _distance(one, score))
        rows.append(Held(published=score, run=run, ours=_ours(run, score, averages), settings=_differing(run, score)))
    if not rows:
        raise DataError(
            f"{results}: expected a run of a method, backbone and benchmark that {file} lists, came "
            f"{'; '.join(_by_place(map(_of_run, runs)))}; listed are "
            f"{'; '.join(dict.fromkeys(_of_score(one)[0] for one in scores))}"
            f"{f'; {GENERATED}' if any(map(_is_generated, runs)) else ''}"
        )
    used = {id(row.run) for row in rows}
    unpublished = tuple(run for run in runs if id(run) not in used)
    return Holding(results=results, file=file, rows=tuple(rows), missing=tuple(missing), unpublished=unpublished)


def _is_generated(run: Run) -> bool:
    return bool(run.config["benchmark"].get("generated"))


def _belongs(run: Run, score: PublishedScore) -> bool:
    """By the method's configured name, or the module of its class: dense_1024 is uniform with a budget of its own."""
    benchmark = run.config["benchmark"]
    where = benchmark["name"], run.config["backbone"]["name"]
    if _is_generated(run) or where != (score.benchmark, score.backbone):
        return False
    return score.method in (run.method, *str(run.config["method"].get("class", "")).split(".")[-2:-1])


def _distance(run: Run, score: PublishedScore) -> tuple[float, ...]:
    """Of several runs the one with the fewest differing settings, then the nearest ratio and frames."""
    frames = _frames(run) or math.inf
    return (
        len(_differing(run, score)),
        0.0 if score.ratio is None else abs(run.ratio - score.ratio),
        0.0 if score.frames is None else abs(frames - score.frames),
    )


def _frames(run: Run) -> int | None:
    """Most frames that a dense run of these settings may see."""
    found = run.config["method"].get("max_frames") or run.config["sampling"].get("frames")
    return None if found is None else int(found)


def _differing(run: Run, score: PublishedScore) -> dict[str, tuple[str, str]]:
    asked = int(run.config["benchmark"]["questions"])
    subset = run.config.get("subset")
    both: dict[str, tuple[Any, Any]] = {
        "ratio": (score.ratio, run.ratio),
        "frames": (score.frames, _frames(run)),
        "protocol": (score.protocol, run.config["protocol"]["name"]),
        "questions": (score.questions, asked),
        "subset": ("full", subset),  # scores are of whole benchmarks
        "answered": (asked, sum(answer.correct is not None for answer in run.answers)),
    }
    said = {name: pair for name, pair in both.items() if None not in pair and pair[0] != pair[1]}
    return {name: (_text(first), _text(second)) for name, (first, second) in said.items()}


def _text(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:g}"


def _ours(run: Run, score: PublishedScore, averages: Averages) -> float:
    if score.group is not None:
        kind, label = score.group
        own = [answer.correct for answer in run.answers if label in answer.groups.get(kind, ())]
        marks = [correct for correct in own if correct is not None]
        return 100 * sum(marks) / len(marks) if marks else math.nan
    return next(iter(accuracy.of_run(run, averages).values()), math.nan)  # the benchmark's own one stands first


# ---- as text


def markdown(found: Holding) -> str:
    """Head, one table, and below it what has no counterpart."""
    head = f"# Published scores\n\n- runs: {found.results}\n- published: {found.file}\n\n"
    left = ("benchmark", "backbone", "method", "settings that differ", "source")
    table = render(pd.DataFrame([_texts(row) for row in found.rows]), left=left)
    alone = [f"- no run: {text}\n" for text in _by_place(map(_of_score, found.missing))]
    alone += [f"- nothing published: {text}\n" for text in _by_place(map(_of_run, found.unpublished))]
    if any(map(_is_generated, found.unpublished)):
        alone.append(f"- {GENERATED}\n")
    return head + table + _CAPTION + ("\n## Missing\n\n" + "".join(alone) if alone else "")


def _texts(row: Held) -> dict[str, str]:
    score = row.published
    return {
        "benchmark": score.benchmark + (f", {'='.join(score.group)}" if score.group else ""),
        "backbone": score.backbone,
        "method": row.run.method,
        "ratio": f"{row.run.ratio:g}",
        "published": f"{score.score:g}",
        "ours": number(row.ours, 1),
        "difference (pp)": "–" if math.isnan(row.ours) else f"{row.difference:+.1f}",
        "tolerance": f"{score.tolerance:g}",
        "within": {None: "–", True: "yes", False: "no"}[row.within],
        "settings that differ": setups.in_words(row.settings) or "none that both say",
        "source": "; ".join(filter(None, (score.source, score.note))),
    }


def _by_place(named: Iterable[tuple[str, str]]) -> list[str]:
    """A line for each backbone and benchmark, of pairs of these and what is there."""
    found: dict[str, list[str]] = {}
    for place, what in named:
        found.setdefault(place, []).append(what)
    return [f"{place}: {', '.join(dict.fromkeys(names))}" for place, names in found.items()]


def _of_score(score: PublishedScore) -> tuple[str, str]:
    what = [score.method, "" if score.ratio is None else f"at {score.ratio:g}"]
    what += ["" if score.frames is None else f"of {score.frames} frames", "=".join(score.group or ())]
    return f"{score.backbone} on {score.benchmark}", " ".join(filter(None, what))


def _of_run(run: Run) -> tuple[str, str]:
    return f"{run.config['backbone']['name']} on {run.label}", f"{run.method} at {run.ratio:g}"


def plain(found: Holding) -> dict[str, Any]:
    """The same for JSON; null where it cannot be computed."""
    return {
        "results": str(found.results),
        "published": str(found.file),
        "rows": [_values(row) for row in found.rows],
        "missing": [vars(score) for score in found.missing],
        "unpublished": [str(run.folder) for run in found.unpublished],
    }


def _values(row: Held) -> dict[str, Any]:
    ours = None if math.isnan(row.ours) else {"ours": row.ours, "difference_pp": row.difference}
    return {
        **vars(row.published),
        "folder": str(row.run.folder),
        **(ours or {"ours": None, "difference_pp": None}),
        "within": row.within,
        "settings": {name: list(values) for name, values in row.settings.items()},
    }
