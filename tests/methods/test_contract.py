"""Every method in conf/method keeps the contract of evalkit.method.Method."""

from __future__ import annotations

import copy
from dataclasses import fields, is_dataclass, replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evalkit.engine.records import OperatingPoint
from evalkit.method import Budget, Method
from evalkit.model.families.qwen2_vl import Qwen2VL
from evalkit.model.question_attention import QuestionAttention
from evalkit.types import Video, VisualTokens
from tests.support import clips
from tests.support.hooks import hooks
from tests.support.loop import DENSE, answer, engine, question, said
from tests.support.methods import NAMES, built
from tests.support.visual_tokens import visual

RATIOS = (1.0, 0.5, 0.25, 0.125)
TOLERANCE = 0.02  # between nominal and achieved ratio


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clips.make(tmp_path_factory.mktemp("clip") / "clip.mp4", frames=160, size=(112, 112))


def budget(frames: int, ratio: float, rows: int = 4, columns: int = 4) -> Budget:
    return Budget(
        ratio=ratio,
        frames=tuple(range(0, 3 * frames, 3)),
        sample=lambda n: tuple(sorted({i * (3 * frames - 1) // max(1, n - 1) for i in range(n)})),
        cell_frames=2,
        height=28 * rows,
        width=28 * columns,
        pixels_per_token=28,
        layers=6,
        seed=7,
    )


def video(frames: int) -> Video:
    return Video(path=Path("v.mp4"), duration_s=frames / 8, fps=24.0, frames=3 * frames, height=112, width=112)


def test_the_matrix_is_not_empty() -> None:
    assert {"uniform", "blind", "single", "random_frames", "lowres", "shuffled"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_composes_to_a_frozen_hashable_method(name: str) -> None:
    point = built(name)
    assert point.name == name
    assert isinstance(point.method, Method)
    assert is_dataclass(point.method)
    assert hash(point) == hash(built(name))
    with pytest.raises((AttributeError, TypeError)):
        point.method.ratio = 0.5  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", NAMES)
@given(cells=st.integers(1, 40), ratio=st.floats(0.05, 1.0), rows=st.integers(1, 6), columns=st.integers(1, 6))
@settings(max_examples=25, deadline=None)
def test_plans_are_sound_and_within_budget(name: str, cells: int, ratio: float, rows: int, columns: int) -> None:
    method, limits = built(name).method, budget(2 * cells, ratio, rows, columns)
    plan = method.frames(video(2 * cells), limits)
    assert list(plan.indices) == sorted(set(plan.indices))
    assert all(0 <= i < 6 * cells for i in plan.indices)
    assert set(plan.slots) == set(range(len(plan.indices)))
    assert plan.height % 28 == plan.width % 28 == 0
    assert plan == method.frames(video(2 * cells), limits)  # the same at every call
    assert len(plan.slots) // 2 * (plan.height // 28) * (plan.width // 28) <= limits.dense_tokens


@pytest.mark.parametrize("name", NAMES)
def test_answers(name: str, clip: Path, backbone: Qwen2VL) -> None:
    """Identity at ratio 1, the ratio spent, any chunk size, no traces left."""
    questions = [question(clip, n) for n in range(3)]
    grid = [replace(built(name), ratio=ratio) for ratio in RATIOS]
    method, before, attached = grid[0].method, copy.deepcopy(grid[0].method), hooks(backbone)
    found = answer(engine(backbone, chunk_cells=4), [DENSE, *grid], questions)

    same = [said(found[name, 1.0, q.id]) == said(found["dense", 1.0, q.id]) for q in questions]
    assert all(same) == method.identity_at_one
    for point in grid:
        spent = found[name, point.ratio, "q0"].ledger
        assert spent is not None
        if method.spends:
            assert spent.ratio_achieved == pytest.approx(point.ratio, rel=TOLERANCE)
        else:
            assert spent.ratio_achieved == 0
    # what a chunk is, is part of a method that evicts by chunks: there only ratio 1 is free of it
    free = [point for point in grid if point.ratio == 1 or type(method).evict is Method.evict]
    for cells in (1, None):
        again = answer(engine(backbone, chunk_cells=cells), free, questions)
        assert {key: said(a) for key, a in again.items()} == {key: said(found[key]) for key in again}
    assert hooks(backbone) == attached
    assert method == before
    assert {f.name: getattr(method, f.name) for f in fields(method)} == {
        f.name: getattr(before, f.name) for f in fields(before)
    }


@pytest.mark.parametrize("name", NAMES)
def test_inputs_stay_as_they_were(name: str, backbone: Qwen2VL) -> None:
    tokens = visual(backbone, frames=8)
    kept = {f.name: copy.deepcopy(getattr(tokens, f.name)) for f in fields(VisualTokens)}
    method = built(name).method
    question_attention = QuestionAttention(backbone, tokens, method, budget(8, 0.5), chunk_cells=2)
    question_attention.question([1], [2, 3], 2)
    with torch.inference_mode():
        out = method.select(tokens, budget(8, 0.5), question_attention)
        context = backbone.context()
        backbone.prefill_text(context, [1])
        backbone.prefill_video(context, out, method, budget(8, 0.5), chunk_cells=2)
    for key, value in kept.items():
        now = getattr(tokens, key)
        assert torch.equal(now, value) if isinstance(value, torch.Tensor) else now == value, key


def test_a_method_that_overspends_is_caught(clip: Path, backbone: Qwen2VL) -> None:
    """Negative control of the matrix: ignoring the ratio is seen in the ledger."""
    found = answer(engine(backbone), [OperatingPoint("dense", Method(), 0.5)], [question(clip, 0)])
    spent = found["dense", 0.5, "q0"].ledger
    assert spent is not None
    assert spent.ratio_achieved != pytest.approx(0.5, rel=TOLERANCE)
