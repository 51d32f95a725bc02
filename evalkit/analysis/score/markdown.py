"""How scores of answer files look: head, one table with a column per protocol, notes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evalkit import sanitize
from evalkit.analysis.tables.formatting import number, render
from evalkit.data.benchmarks import question_sets
from evalkit.sanitize import one_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evalkit.analysis.score.score import Score, Scored

_OFFICIAL = " (official)"
_SHOWN = 3  # ids named as examples
_DECIMALS = 4
_GROUP_DECIMALS = 2


def markdown(scored: Scored) -> str:
    """What `score` prints."""
    import pandas as pd

    rows = [*_averages(scored.scores), *_counts(scored), *_groups(scored.scores)]
    table = render(pd.DataFrame(rows, columns=["percent", *(one.protocol for one in scored.scores)]), left=("percent",))
    lines = [one_line(_head(scored)), "", table, *(f"- {one_line(note)}" for note in _notes(scored))]
    return sanitize.markdown("\n".join(lines))


def _head(scored: Scored) -> str:
    benchmark = scored.benchmark
    asked, whose = len(benchmark.questions), question_sets.known_as(benchmark)
    return f"{benchmark.label}, split {benchmark.split}: {asked} questions" + (f" ({whose})" if whose else "")


def _averages(scores: Sequence[Score]) -> list[list[str]]:
    """Each protocol's own average with its name, micro, and whatever else any of them takes."""
    bare = [{name.removesuffix(_OFFICIAL): value for name, value in one.averages.items()} for one in scores]
    others = [name for name in dict.fromkeys(name for means in bare for name in means) if name != "micro"]
    own = [next(iter(means.items()), ("–", float("nan"))) for means in bare]
    rows = [
        ["own average", *(f"{number(value, _DECIMALS)} {name}" for name, value in own)],
        ["micro", *(number(one.overall.percent, _DECIMALS) for one in scores)],
    ]
    return rows + [[name, *(number(means.get(name, float("nan")), _DECIMALS) for means in bare)] for name in others]


def _counts(scored: Scored) -> list[list[str]]:
    rows = {
        "n": [one.overall.n for one in scored.scores],
        "right": [one.overall.right for one in scored.scores],
        "unparsed": [one.unparsed for one in scored.scores],
        "excluded": [one.excluded for one in scored.scores],
    }
    return [[name, *map(str, counts)] for name, counts in rows.items()]


def _groups(scores: Sequence[Score]) -> list[list[str]]:
    """One row a label, with n behind the percentage, since protocols leave out different replies."""
    keys = sorted(dict.fromkeys(key for one in scores for key in one.groups), key=lambda key: key[0])
    return [[f"{kind}: {label}", *(_cell(one, (kind, label)) for one in scores)] for kind, label in keys]


def _cell(one: Score, key: tuple[str, str]) -> str:
    share = one.groups.get(key)
    return "–" if share is None else f"{number(share.percent, _GROUP_DECIMALS)} of {share.n}"


def _notes(scored: Scored) -> list[str]:
    benchmark, missing, unknown = scored.benchmark, scored.missing, scored.answers.unknown
    notes = [f"answered: {len(benchmark.questions) - len(missing)} of {len(benchmark.questions)} questions"]
    if missing:
        notes.append(f"missing answers: {len(missing)}, in no average ({_examples(missing)})")
    if unknown:
        notes.append(f"unknown: {len(unknown)}, ignored: no question fits, or several do ({_examples(unknown)})")
    if benchmark.bad_rows:
        bad = [row.id for row in benchmark.bad_rows]
        notes.append(f"rows that cannot be asked: {len(bad)} ({_examples(bad)})")
    return [*notes, *benchmark.notes, *(f"{one.protocol}: {one.scoring_note}" for one in scored.scores)]


def _examples(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (" …" if len(names) > _SHOWN else "")
