"""A collection of runs is computed once: question sets, accuracies, bootstraps and figures, whoever shows them."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any
from unittest.mock import ANY

import pytest

from evalkit import trackers
from evalkit.__main__ import main
from evalkit.analysis import plots
from evalkit.analysis.grid import measured_points, paired
from evalkit.analysis.results import Results
from evalkit.analysis.stats import paired_tests
from evalkit.analysis.tables import accuracy, budget
from evalkit.commands import run as command
from evalkit.runs import load
from tests.support import plot_grids

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.slow

Calls = dict[str, Counter[Any]]
DIFFERENCE, BOOTSTRAP = "evalkit.analysis.grid.paired.difference", "evalkit.analysis.stats.paired_tests._interval"


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Two benchmarks of 10 and of 9 videos; on both, retake at ratio 1 has the scores of uniform at ratio 1."""
    for place, videos in (("a", 10), ("b", 9)):
        right = {point: counts[:videos] for point, counts in plot_grids.RIGHT.items()}
        plot_grids.grid(tmp_path / "runs" / place, right, benchmark={"label": place, "split": "test"})
    return tmp_path / "runs"


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """How often each thing is computed, by its arguments."""
    found: Calls = {}

    def count(module: Any, name: str, key: Callable[..., Any]) -> None:
        original, counted = getattr(module, name), found.setdefault(f"{module.__name__}.{name}", Counter())

        def counting(*args: Any, **settings: Any) -> Any:
            counted[key(*args)] += 1
            return original(*args, **settings)

        monkeypatch.setattr(module, name, counting)

    count(measured_points, "_set", lambda *own: own[:3])
    count(paired, "difference", lambda *scores: tuple(map(tuple, scores)))
    count(paired_tests, "_interval", lambda *data: tuple(tuple(own.tolist()) for own in data[:2]))
    count(accuracy, "rows", lambda point, *_: id(point))
    count(budget, "rows", lambda point: id(point))
    count(plots, "draw", lambda own, cost, _: (own.name, cost))
    return found


def once(calls: Calls) -> bool:
    return all(set(counted.values()) == {1} for counted in calls.values() if counted)


def test_a_report_computes_each_thing_once(results: Path, calls: Calls, tmp_path: Path) -> None:
    assert main(["report", str(results), "--out", str(tmp_path / "out"), "--thumbnails", "0"]) == 0
    assert {name.rsplit(".", 2)[-2]: len(counted) for name, counted in calls.items()} == {
        "measured_points": 3,  # two benchmarks, and both together
        "accuracy": 2 * 9,  # runs
        "budget": 2 * 9,
        "plots": 3 * 4,
        "paired": ANY,
        "paired_tests": ANY,
    }
    assert len(calls[DIFFERENCE]) > 10
    assert len(calls[BOOTSTRAP]) > 10
    assert once(calls)


def test_the_end_of_a_run_computes_each_thing_once(results: Path, calls: Calls, tmp_path: Path) -> None:
    folders = tuple(file.parent for file in results.rglob("answers.jsonl"))
    found = command.tables(folders, tmp_path)
    command.finish([command.Outcome(tmp_path, folders, 0, found, report=True, print_tables=True)])
    assert trackers.tracked(found.runs[0], found).metrics["n/all"] in (36, 40)
    assert len(calls["evalkit.analysis.tables.accuracy.rows"]) == 2 * 9
    assert calls[DIFFERENCE]
    assert once(calls)


def test_the_count_sees_what_is_computed_twice(results: Path, calls: Calls) -> None:
    """The negative control: two collections of the same runs share nothing."""
    runs = load.load(results)
    for own in (Results(runs), Results(runs)):
        assert len(own.differences) == 2 * 3
    assert set(calls[DIFFERENCE].values()) == {2}
    assert not once(calls)
