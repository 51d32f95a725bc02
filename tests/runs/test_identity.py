"""A run's identity follows what can change an answer, and nothing else."""

from __future__ import annotations

import inspect
from dataclasses import replace
from pathlib import Path

import pytest

from evalkit.runs import identity
from evalkit.types import BadRow, Benchmark
from methods import pivotkv
from methods.pivotkv import PivotKV
from methods.retake import ReTaKe
from methods.uniform import Uniform
from tests.support.loop import question


def benchmark(root: Path) -> Benchmark:
    return Benchmark(
        name="mlvu", label="MLVU", root=root, split="dev", questions=(question(root / "a.mp4", 0, row={"answer": "A"}),)
    )


def test_rows_not_places(tmp_path: Path) -> None:
    here, there = benchmark(tmp_path / "here"), benchmark(tmp_path / "there")
    assert identity.rows(here) == identity.rows(there)
    (asked,) = here.questions
    for changed in (replace(asked, text="?"), replace(asked, answer="B"), replace(asked, row={"answer": "B"})):
        assert identity.rows(replace(here, questions=(changed,))) != identity.rows(here)
    bad = BadRow(benchmark="mlvu", id="x", message="no answer")
    assert identity.rows(replace(here, bad_rows=(bad,))) != identity.rows(here)


def test_a_methods_fields_and_source(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = identity.method(ReTaKe())
    assert identity.method(ReTaKe()) == whole
    assert identity.method(ReTaKe(window=5)) != whole
    assert identity.method(ReTaKe(window=5))["source"] == whole["source"]
    before = {cls: identity.source(cls) for cls in (ReTaKe, PivotKV, Uniform)}
    getsource = inspect.getsource

    def edited(module: object) -> str:
        return getsource(module) + ("# edited" if module is pivotkv else "")  # type: ignore[arg-type]

    monkeypatch.setattr(inspect, "getsource", edited)
    assert {cls: identity.source(cls) != old for cls, old in before.items()} == {
        ReTaKe: True,  # it is made of PivotKV
        PivotKV: True,
        Uniform: False,
    }


def test_code_names_the_libraries_that_compute() -> None:
    code = identity.code()
    assert {"evalkit", "torch", "transformers"} <= set(code)
    assert code == identity.code()


def test_key_order_does_not_matter() -> None:
    assert identity.run_id({"a": 1, "b": [2, 3]}) == identity.run_id({"b": [2, 3], "a": 1})
    assert identity.run_id({"a": 1, "b": [2, 3]}) != identity.run_id({"a": 1, "b": [3, 2]})
