"""Question sets of one benchmark that are in print under the same name, and narrowing a set to a list of its questions.

LVBench is evaluated on three sets, so a figure needs its number of questions. Which questions are in the two smaller
ones is known from VideoChat-Flash's and XComp's own annotation files only; the two videos that XComp lacks have
27 questions between them, which more than one pair of cartoon videos has. So no list of ids is built in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from evalkit.data import benchmarks
from evalkit.data.benchmarks import files
from evalkit.errors import ConfigError, DataError

if TYPE_CHECKING:
    from pathlib import Path

    from evalkit.types import Benchmark, Question


def known_as(benchmark: Benchmark) -> str:
    """Whose set this is, judged by its size; "" where no known set has so many questions."""
    return benchmarks.REGISTRY[benchmark.name].question_sets.get(len(benchmark.questions) + len(benchmark.bad_rows), "")


def checked(benchmark: Benchmark, size: int) -> Benchmark:
    """The benchmark, if it is the known set of `size` questions; ConfigError otherwise."""
    known = benchmarks.REGISTRY[benchmark.name].question_sets
    if size not in known:
        names = ", ".join(f"{n} ({whose})" for n, whose in known.items()) or "none"
        raise ConfigError(f"{benchmark.name} has no question set called {size}; known are {names}")
    rows = len(benchmark.questions) + len(benchmark.bad_rows)
    if rows != size:
        raise ConfigError(
            f"expected the set of {size} questions ({known[size]}), the annotations have {rows}; give that set's own "
            "annotation file as --annotations, or name a file that lists its questions instead of a size"
        )
    return benchmark


def narrowed(benchmark: Benchmark, file: Path) -> Benchmark:
    """Only the questions that `file` lists, in the benchmark's order.

    `file` holds one id a line, a JSON list of ids, or a JSON list of annotation rows with `question` and `candidates`,
    which are found by their texts. DataError for an entry that is no question of the benchmark, or fits several.
    """
    wanted = _listed(benchmark, file)
    chosen = tuple(question for question in benchmark.questions if question.id in wanted)
    note = f"{len(chosen)} of {len(benchmark.questions)} questions: those listed in {file.name}"
    return replace(benchmark, questions=chosen, bad_rows=(), notes=(*benchmark.notes, note))


def _listed(benchmark: Benchmark, file: Path) -> set[str]:
    entries: Sequence[Any] = files.read_json_list(file) if file.suffix == ".json" else files.read_lines(file)
    if entries and isinstance(entries[0], dict):
        return _by_text(benchmark.questions, entries, file)
    ids = {str(entry) for entry in entries}
    unknown = sorted(ids - {question.id for question in benchmark.questions})
    if unknown or not ids:
        came = f"{len(unknown)} others, such as {unknown[0]!r}" if unknown else "none"
        example = benchmark.questions[0].id if benchmark.questions else "none"
        raise DataError(f"{file}: expected ids of {benchmark.label} such as {example!r}, came {came}; correct the list")
    return ids


def _by_text(questions: Sequence[Question], entries: Sequence[Any], file: Path) -> set[str]:
    ids: dict[tuple[str, ...], list[str]] = {}
    for question in questions:
        ids.setdefault(_normalized(question.text, question.options), []).append(question.id)
    found = set()
    for number, row in enumerate(entries):
        match row:
            case {"question": str(text), "candidates": [*candidates]}:
                bare = [str(candidate).partition(") ")[2] or str(candidate) for candidate in candidates]
                same = ids.get(_normalized(text, bare), []) or ids.get(
                    _normalized(text, [str(c) for c in candidates]), []
                )
            case _:
                raise DataError(f"{file}, row {number} (counted from 0): expected `question` and `candidates`")
        if len(same) != 1:
            raise DataError(
                f"{file}, row {number} (counted from 0): expected one question with this text and these options, "
                f"the annotations have {len(same)}; list ids instead"
            )
        found.add(same[0])
    return found


def _normalized(text: str, options: Sequence[str]) -> tuple[str, ...]:
    return tuple(" ".join(part.split()) for part in (text, *options))
