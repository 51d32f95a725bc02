"""Numbers that must not move, on the built-in model and its videos: workers, sharing, order, readers, threads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evalkit.config import build
from tests.support import builtin_part
from tests.support.answer_lines import without_measured
from tests.support.configs import composed
from tests.support.run_eval import put_back

pytestmark = pytest.mark.slow


def answers(data: Path, results: Path, workers: int) -> dict[tuple[str, str], dict[str, Any]]:
    """What one run gives."""
    words = ["subset=ci-50", "methods=[retake]", "ratios=[0.25]", f"executor.workers={workers}"]
    words += ["benchmark=videomme", f"benchmark.root={data / 'videomme'}"]
    _, failed = build.grid(composed(f"results_dir={results}", *words)).run()
    assert failed == 0
    return without_measured(results)


def test_two_processes_answer_as_one(builtin_data: Path, tmp_path: Path) -> None:
    one, two = (answers(builtin_data, tmp_path / str(n), n) for n in (1, 2))
    assert len(one) == len(builtin_part.QUESTIONS["videomme"])
    assert len({line["text"] for line in one.values()}) > 3
    assert two == one


# ---- four questions on two videos, by everything else that may not matter

Lines = dict[tuple[str, float, str], Mapping[str, Any]]  # by method, ratio and question


def few(data: Path, results: Path, *words: str) -> Lines:
    """What a small grid answers."""
    root, subset = data / "videomme", ["subset=ci-50", "backbone.threads=1"]
    settings = [*subset, "methods=[uniform,retake]", "ratios=[0.5,0.25]", "sampling.frames=64", *words]
    grid = build.grid(composed("benchmark=videomme", f"benchmark.root={root}", f"results_dir={results}", *settings))
    (asked,) = grid.benchmarks
    some = [question for questions in list(asked.by_video().values())[:2] for question in questions[:2]]
    with put_back():
        _, failed = replace(grid, benchmarks=[replace(asked, questions=tuple(some))]).run()
    assert failed == 0
    return {(line["method"], line["ratio"], name): line for (_, name), line in without_measured(results).items()}


@pytest.fixture(scope="module")
def plain(builtin_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Lines:
    found = few(builtin_data, tmp_path_factory.mktemp("plain"))
    assert len(found) == 4 * 4
    return found


@pytest.mark.parametrize(
    "words",
    [["share=false"], ["methods=[retake,uniform]", "ratios=[0.25,0.5]"], ["reader=decord"]],
    ids=lambda words: words[0],
)
def test_bit_for_bit_the_same(words: list[str], builtin_data: Path, plain: Lines, tmp_path: Path) -> None:
    shared = ("shared_prefix", "seconds_shared", "own_flops") if words == ["share=false"] else ()

    def kept(line: Mapping[str, Any]) -> dict[str, Any]:
        ledger = {name: value for name, value in line["ledger"].items() if name not in shared}
        return {**line, "ledger": ledger, "identity": ""}  # the reader is a part of it

    found = few(builtin_data, tmp_path, *words)
    assert {key: kept(line) for key, line in found.items()} == {key: kept(line) for key, line in plain.items()}


def test_the_same_answers_by_two_threads(builtin_data: Path, plain: Lines, tmp_path: Path) -> None:
    """Sums are taken in another order, so that the last bits of a margin may differ; what is answered does not.

    Of the method that chooses by sums of attention alone: on a busy machine two threads mostly wait for each other.
    """
    found = few(builtin_data, tmp_path, "backbone.threads=2", "methods=[retake]", "ratios=[0.25]")
    assert len(found) == 4
    for key, line in found.items():
        assert (line["text"], line["kept"]) == (plain[key]["text"], plain[key]["kept"])
        assert line["margin"] == pytest.approx(plain[key]["margin"], abs=1e-3)


def test_a_difference_would_be_seen(builtin_data: Path, plain: Lines, tmp_path: Path) -> None:
    """The negative control: other frames."""
    found = few(builtin_data, tmp_path, "sampling.frames=16")
    assert any(found[key]["margin"] != line["margin"] for key, line in plain.items())
