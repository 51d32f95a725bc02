"""AdaReTaKe against small examples worked out by hand, and mistakes that its traces must see; and the feed that it
needs: text behind a chunk, which leaves nothing behind, and a choice after the last layer.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from evalkit.chunk_scores import Guide, Scored, VideoPart
from evalkit.errors import MethodError
from evalkit.method import Method
from evalkit.model.families.qwen2_vl import Qwen2VL
from evalkit.model.prefill_state import PrefillState
from evalkit.types import Evicted, LayerChunk
from methods import adaretake
from methods.adaretake import AdaReTaKe, adakv, apportioned, change_of_chunks, projected
from tests.support import parity_adaretake
from tests.support.parity import budget_of
from tests.support.visual_tokens import visual

SUFFIX = [8, 9, 10, 11, 12]

# ---- shares and counts by hand


def test_chunks_that_change_more_are_further_from_their_neighbours() -> None:
    cells = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 2.0], [0.0, 1.0]])
    assert change_of_chunks(cells, 3).tolist() == [0, 0.5, 0.5]
    assert change_of_chunks(cells, 1).tolist() == [0]


def test_shares_keep_their_sum() -> None:
    weights = torch.tensor([0.1, 0.2, 2.0, 0.1], dtype=torch.float64)
    lengths = torch.tensor([64.0, 64.0, 64.0, 16.0], dtype=torch.float64)
    shares = torch.tensor(projected(weights, 0.5 * 208, lengths=lengths), dtype=torch.float64)
    assert float((shares * lengths).sum()) == pytest.approx(104, abs=0.01)
    assert float(shares.max()) == 1
    alike = projected(weights, 2.0)
    assert sum(alike) == pytest.approx(2, abs=1e-4)
    assert projected(weights, 2.0 * 7, lengths=torch.full((4,), 7.0, dtype=torch.float64)) == pytest.approx(alike)


def test_layers_share_by_their_highest_scores() -> None:
    scores = torch.tensor([[9.0, 8, 7, 1], [2, 3, 1, 6]])
    # two of four tokens of two layers: 9, 8 and 7 against 6; one more for each
    assert adakv(scores, 0.5).tolist() == pytest.approx([2 * 0.5 * 4 / 6, 2 * 0.5 * 2 / 6])
    assert adakv(torch.ones(2, 4), 0.5).tolist() == pytest.approx([5 / 6, 1 / 6])  # equal: the earlier layer


@pytest.mark.parametrize(
    ("wanted", "total", "expected"),
    [
        ([2.6, 1.4, 3.0], 7, [3, 1, 3]),
        ([0.2, 0.2, 3.6], 4, [1, 1, 2]),  # one each at least: the largest gives
        ([9.7, 1.3], 9, [8, 1]),  # eight at most
        ([0.1, 0.1], 1, [1, 1]),
        ([8.0, 8.0], 20, [8, 8]),
    ],
)
def test_apportioned_by_hand(wanted: list[float], total: int, expected: list[int]) -> None:
    assert apportioned(wanted, total, most=8) == expected


@pytest.mark.parametrize(
    "wrong", [{"allocation": "odd"}, {"counts": "near"}, {"slips": ("none",)}, {"max_input_length": 0}], ids=str
)
def test_wrong_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(MethodError, match=r"AdaReTaKe: expected allocation adakv\|even"):
        AdaReTaKe(**wrong)


# ---- mistakes that the traces see


def plainly_counted(scores: Tensor, share: float, *, tied: bool = False) -> Tensor:
    """Without the one more token for each layer: a mistake."""
    layers, size = scores.shape
    best = scores.flatten().argsort(descending=True, stable=True)[: int(share * size) * layers]
    found = torch.bincount(best // size, minlength=layers).float()
    return layers * share * found / found.sum()


def test_counts_without_one_more_are_seen(whole_golden: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = whole_golden / "zoo_layers" / "adaretake" / "adakv_reforge.json"
    case, trace = json.loads(file.read_text(encoding="utf-8")), load_file(file.with_suffix(".safetensors"))
    assert parity_adaretake.choices(file.parent, case, trace)[0]
    monkeypatch.setattr(adaretake, "adakv", plainly_counted)
    assert not parity_adaretake.choices(file.parent, case, trace)[0]


@pytest.mark.parametrize(
    "mistake",
    [{"close_gaps": True}, {"slips": ("guide_ids", "whole_chunk")}, {"slips": ()}],
    ids=["gaps closed", "guide far before", "guide dropped behind a whole chunk"],
)
def test_another_form_is_seen(mistake: dict[str, Any], whole_golden: Path) -> None:
    folder = whole_golden / "zoo_layers"
    case = json.loads((folder / "adaretake" / "driver_repaired.json").read_text(encoding="utf-8"))
    trace = load_file(folder / "adaretake" / "driver_repaired.safetensors")
    method = parity_adaretake.method_of(case, **mistake)
    assert not parity_adaretake.driver(folder / parity_adaretake.WEIGHTS, case, trace, method)[0]


# ---- the feed


@dataclass(frozen=True, kw_only=True)
class Guided(Method):
    """Everything stays, whatever is fed behind a chunk."""

    tokens: int = 3
    stays: bool = False

    @property
    def query_aware(self) -> bool:
        return True

    def guide(self, part: VideoPart) -> Guide:
        return Guide(tokens=self.tokens, stays=self.stays)

    def evict(self, chunk: LayerChunk) -> Evicted | Scored | None:
        assert chunk.guide is not None
        assert chunk.guide_positions is not None
        assert chunk.guide.shape[1] == chunk.guide_positions.shape[1] == self.tokens
        assert int(chunk.guide_positions[0, 0]) == int(chunk.positions[0, -1]) + 1
        return None if self.stays else Scored(scores=torch.zeros(chunk.keys.shape[1]))

    def settle(self, scores: Tensor, part: VideoPart) -> Sequence[Tensor]:
        return [torch.arange(scores.shape[1]) for _ in scores]


@dataclass(frozen=True, kw_only=True)
class Unsettled(Guided):
    """Returns too few indices."""

    def settle(self, scores: Tensor, part: VideoPart) -> Sequence[Tensor]:
        return [torch.arange(scores.shape[1])]


@dataclass(frozen=True, kw_only=True)
class Unscored(Guided):
    """Cuts at once, though it has `settle`."""

    def evict(self, chunk: LayerChunk) -> Evicted:
        return Evicted(index=torch.arange(1))


@dataclass(frozen=True, kw_only=True)
class NeverSettled(Method):
    """Scores, and has no `settle`."""

    def evict(self, chunk: LayerChunk) -> Scored:
        return Scored(scores=torch.zeros(chunk.keys.shape[1]))


def prefilled(backbone: Qwen2VL, method: Method, ratio: float = 1.0, suffix: Sequence[int] = SUFFIX) -> PrefillState:
    tokens, state = visual(backbone, frames=12), backbone.new_state()
    with torch.inference_mode():
        backbone.prefill_text(state, [1, 2])
        budget = budget_of(backbone.layers, tokens, ratio)
        backbone.prefill_video(state, tokens, method, budget, chunk_cells=4, suffix_ids=suffix)
    return state


def test_text_behind_a_chunk_leaves_nothing_behind(backbone: Qwen2VL) -> None:
    plain, guided, kept = (prefilled(backbone, each) for each in (Method(), Guided(), Guided(stays=True)))
    assert (plain.guides_fed, guided.guides_fed) == (0, 6)
    assert guided.lengths == plain.lengths
    assert guided.visual == plain.visual
    assert guided.read.equal(plain.read)
    assert guided.op_counts.pairs > plain.op_counts.pairs
    for i in range(backbone.layers):
        assert guided.positions[i].equal(plain.positions[i])
        torch.testing.assert_close(guided.layers[i].keys, plain.layers[i].keys, rtol=0, atol=1e-5)
        torch.testing.assert_close(guided.layers[i].values, plain.layers[i].values, rtol=0, atol=1e-5)
    # where it stays, the second chunk sees it: another state
    assert [length - 6 for length in kept.lengths] == list(plain.lengths)
    assert kept.visual == plain.visual
    last = kept.layers[-1].keys[:, :, -3 - 1], plain.layers[-1].keys[:, :, -1]
    assert not torch.allclose(*last, atol=1e-3)


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (Unsettled(), r"settle\(\) must return an index for each of \d+ layers, got 1"),
        (Unscored(), r"must return a Scored of \d+ scores, as it has settle\(\)"),
        (NeverSettled(), r"must return an Evicted, it has no settle\(\)"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Method) else "",
)
def test_what_does_not_fit_is_refused(method: Method, message: str, backbone: Qwen2VL) -> None:
    with pytest.raises(MethodError, match=message):
        prefilled(backbone, method)


def test_the_question_decides_and_its_length_is_met(backbone: Qwen2VL) -> None:
    ours, other = (prefilled(backbone, AdaReTaKe(), 0.5, suffix) for suffix in (SUFFIX, [30, 31, 32, 33]))
    assert sum(ours.visual) == sum(other.visual) == backbone.layers * 48
    assert any(not torch.equal(a, b) for a, b in zip(ours.positions, other.positions, strict=True))
    assert all(int(ids.max()) < 2 + 6 for ids in (row[0] for row in ours.positions))  # times without gaps
    whole = prefilled(backbone, AdaReTaKe(max_input_length=200), 0.5)
    assert whole.guides_fed == 0
    assert whole.lengths == prefilled(backbone, Method()).lengths
