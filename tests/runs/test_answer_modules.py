"""The code that is part of a run's identity is exactly the code that can change an answer."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import pytest

from evalkit.runs import identity
from evalkit.runs.answer_modules import CANNOT_CHANGE_ANSWERS, CHANGES_ANSWERS
from tests.support.module_graph import is_empty, modules, reached


@cache
def on_the_way() -> frozenset[str]:
    """Every module with code that is reached by imports from the engine."""
    start = [name for name in modules() if name.startswith("evalkit.engine")]
    assert len(start) > 5
    return frozenset(name for name in reached(start) if not is_empty(name))


def missing(listed: Iterable[str]) -> set[str]:
    return set(on_the_way()) - set(listed)


def strangers(listed: Iterable[str]) -> set[str]:
    return set(listed) - set(on_the_way())


def test_every_module_on_the_way_to_an_answer_is_in_one_list() -> None:
    listed = [*CHANGES_ANSWERS, *CANNOT_CHANGE_ANSWERS]
    assert missing(listed) == set()
    assert strangers(listed) == set()
    assert len(listed) == len(set(listed))
    assert all(len(reason) > 10 for reason in CANNOT_CHANGE_ANSWERS.values())


@pytest.mark.slow
def test_a_module_that_is_left_out_or_does_not_belong_is_found() -> None:
    """Negative controls: of every listed module; of one that no answer needs; of imports by name and in functions."""
    listed = {*CHANGES_ANSWERS, *CANNOT_CHANGE_ANSWERS}
    assert all(missing(listed - {name}) == {name} for name in CHANGES_ANSWERS)
    assert strangers(listed | {"evalkit.data.prepare.verify"}) == {"evalkit.data.prepare.verify"}
    assert {"evalkit.data.readers.decord", "evalkit.data.protocols.xcomp", "evalkit.data.sampling"} <= on_the_way()


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("code") / "evalkit"
    for name, file in modules().items():
        place = folder / file.relative_to(modules()["evalkit"].parent)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, place)
        assert name
    return folder


@pytest.mark.parametrize(
    ("file", "changes"),
    [
        ("engine/answer.py", True),
        ("data/readers/torchcodec.py", True),
        ("data/benchmarks/__init__.py", True),
        ("engine/stage_times.py", False),
        ("data/prepare/sources.py", False),
        ("runs/folder.py", False),
        ("commands/dry_run.py", False),
    ],
)
def test_an_edit_makes_another_run_only_where_it_can_change_an_answer(copy: Path, file: str, changes: bool) -> None:
    before, text = identity.own_code(copy), (copy / file).read_text(encoding="utf-8")
    assert before == identity.own_code()
    (copy / file).write_text(text + "# edited\n", encoding="utf-8")
    assert (identity.own_code(copy) != before) is changes
    (copy / file).write_text(text, encoding="utf-8")


def test_where_a_benchmark_is_published_makes_no_other_run(copy: Path) -> None:
    """A benchmark is one file: what of it only serves downloads and checks is left out of the hash."""
    file, before = copy / "data" / "benchmarks" / "mlvu.py", identity.own_code(copy)
    text = file.read_text(encoding="utf-8")
    edits = {
        ('repo="sy1998/MLVU_dev"', 'repo="someone/else"'): False,
        ("c55efb38f066a0ed", "c55efb38f066a0ee"): False,
        ("Letter of the last option", "Letter of the first option"): True,
    }
    for (old, new), changes in edits.items():
        assert text.count(old) == 1
        file.write_text(text.replace(old, new), encoding="utf-8")
        assert (identity.own_code(copy) != before) is changes, old
    file.write_text(text, encoding="utf-8")
