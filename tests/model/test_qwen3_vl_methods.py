"""Every method on Qwen3-VL: the contract, the operations that torch counts, sharing, and tuning's forward."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from evalkit.method import Method
from evalkit.model.families.qwen3_vl import Qwen3VL
from evalkit.model.load import load
from evalkit.model.separators import Separators
from evalkit.tune import forward
from evalkit.types import VisualTokens
from methods.lpcomp import LPComp
from tests.support import clips, family_checks, qwen3_vl
from tests.support.loop import engine, question
from tests.support.methods import WITHIN, built
from tests.support.parity import budget_of
from tests.support.visual_tokens import visual

QUICK = ("retake", "xcomp")
DEFINED = [name for name in WITHIN if name != "infinipot_v"]  # times stand between its cells
MARKED = [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in (*DEFINED, "visionzip")]
HEAD, TAIL = [5, 6, 7], [8, 9, 10, 11]


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Qwen3VL:
    """Three levels of deepstack features, and a layer behind them."""
    found = load(str(qwen3_vl.tiny(tmp_path_factory.mktemp("backbone") / "qwen3", layers=4)), device="cpu")
    assert isinstance(found, Qwen3VL)
    return found


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clips.make(tmp_path_factory.mktemp("clip") / "clip.mp4", frames=family_checks.FRAMES, size=(96, 160))


@pytest.mark.slow
@pytest.mark.parametrize("name", DEFINED)
def test_the_contract(name: str, family: Qwen3VL, monkeypatch: pytest.MonkeyPatch) -> None:
    family_checks.keeps_the_contract(name, family, monkeypatch)


@pytest.mark.parametrize("name", MARKED)
def test_operations_and_sharing(name: str, family: Qwen3VL, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = family_checks.operations_and_sharing(name, family, clip, monkeypatch)
    if built(name).method.spends:
        assert found.kv_separators > 0  # times and vision tokens: counted apart, never dropped
        assert len(set(found.kv_separators_per_layer)) == 1


def test_what_is_not_defined_here_says_so(family: Qwen3VL, clip: Path) -> None:
    point = replace(built("infinipot_v"), ratio=0.5)
    ((_, lost),) = engine(family).answers({point: [question(clip, 0)]})
    assert "not defined on a backbone that has newlines or times between visual tokens" in str(lost.error)


# ---- tuning's forward


def chunked(family: Qwen3VL, tokens: VisualTokens, method: Method, chunk_cells: int | None) -> torch.Tensor:
    """The engine's path: the last token's hidden state (D,)."""
    state = family.new_state()
    family.prefill_text(state, HEAD)
    family.prefill_video(state, tokens, method, budget_of(family.layers, tokens, 1.0), chunk_cells=chunk_cells)
    return family.prefill_text(state, TAIL)


def at_once(family: Qwen3VL, tokens: VisualTokens, method: Method, deepstack: torch.Tensor | None) -> torch.Tensor:
    schedule = forward.prune_schedule(
        family,
        method,
        tokens,
        budget_of(family.layers, tokens, 1.0),
        n_prefix=len(HEAD),
        suffix_shape=(1, len(TAIL)),
    )
    sequence = forward.sequence(family, tokens)[None]
    embeds = forward.embed(family, torch.tensor(HEAD), sequence, torch.tensor([[TAIL]]))
    return forward.forward(family, schedule, embeds, deepstack=deepstack)[0, 0, -1]


@pytest.mark.parametrize("method", [Method(), LPComp(frame_ratio=1.0), LPComp(schedule="stepwise", frame_ratio=1.0)])
def test_tuning_reads_what_the_engine_reads(family: Qwen3VL, method: Method) -> None:
    tokens = visual(family, frames=8, height=96, width=128)
    levels = forward.levels(family, tokens)
    assert levels is not None
    with torch.inference_mode():
        found = at_once(family, tokens, method, levels[None])
        for cells in (2, None):
            torch.testing.assert_close(found, chunked(family, tokens, method, cells), rtol=0, atol=1e-5)
        # negative controls: without deepstack, and with it on the wrong entries
        for wrong in (None, levels.roll(1, 0)[None]):
            assert (at_once(family, tokens, method, wrong) - found).abs().max() > 1e-3


def test_what_is_squeezed_stays_a_cell(family: Qwen3VL) -> None:
    """New times of a cell's tokens: rows and columns move along, text between has equal rows, time never turns back."""
    tokens = visual(family, frames=6, height=64, width=96)
    separators: Separators = family.separators(tokens)
    old = family.positions.video_ids(3, tokens, separators)
    seen = separators.order(len(tokens)) >= len(separators)
    new = old[:, seen].clone()
    new[0] = new[0, 0] + (new[0] - new[0, 0]) // 2
    found = family.positions.with_separators(old, seen, new)
    assert torch.equal(found[0, seen], new[0])
    assert torch.equal(found[1:, seen] - found[0, seen], old[1:, seen] - old[0, seen])
    assert bool((found[:, ~seen] == found[0, ~seen]).all())
    assert bool((found[0].diff() >= 0).all())
    assert int(found[0, -1]) == int(found[:, :-1].max()) + 1
    # what a method moves in all rows by itself is left as it is
    moved = old[:, seen] + 5
    assert torch.equal(family.positions.with_separators(old, seen, moved)[:, seen], moved)
