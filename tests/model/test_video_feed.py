"""A chunk that is read for several caches: each is, to the bit, what it is where it is read for this one alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor

from evalkit.chunk_scores import Scored, VideoPart
from evalkit.method import Method
from evalkit.model.families.qwen2_vl import Qwen2VL
from evalkit.model.kv_cache import GROWTH, SLACK
from evalkit.model.load import load
from evalkit.model.prefill_loop import PrefillLoop
from evalkit.model.prefill_state import PrefillState
from evalkit.model.video_feed import VideoFeed
from evalkit.types import LayerChunk, VisualTokens
from methods import pivotkv
from methods.infinipot_v import InfiniPotV
from methods.pivotkv import PivotKV
from tests.support.parity import budget_of
from tests.support.separated import separated
from tests.support.small_qwen2 import frames, plain
from tests.support.visual_tokens import visual

RATIOS = (0.5, 1.0, 0.25)


@dataclass(frozen=True, kw_only=True)
class KeptByNorm(Method):
    """Keeps the longest keys of a chunk, as many in the first layer as in the others together."""

    def evict(self, chunk: LayerChunk) -> Scored:
        return Scored(scores=chunk.keys.float().norm(dim=-1).sum(0))

    def settle(self, scores: Tensor, part: VideoPart) -> Sequence[Tensor]:
        counts = [max(1, int(part.share * scores.shape[1] / (1 if layer == 0 else 2))) for layer in range(len(scores))]
        return [row.topk(count).indices.sort().values for row, count in zip(scores, counts, strict=True)]


def feeds(
    model: PrefillLoop, tokens: VisualTokens, method: Method, ratios: Sequence[float] = RATIOS
) -> list[VideoFeed]:
    found = []
    for ratio in ratios:
        state = model.new_state()
        model.prefill_text(state, [1, 2, 3])
        found.append(VideoFeed(model, state, tokens, method, budget_of(model.layers, tokens, ratio), chunk_cells=2))
    return found


def contents(state: PrefillState) -> list[object]:
    """Everything that is in a state, as plain values."""
    layers = [(layer.keys.tolist(), layer.values.tolist()) for layer in state.layers]
    ids = [positions.tolist() for positions in state.positions]
    counts = [state.visual, state.reindexed, state.op_counts, state.next_id, state.visual_per_cell.tolist()]
    return [layers, ids, *counts, state.read.tolist()]


def expect_the_same(model: PrefillLoop, tokens: VisualTokens, method: Method) -> None:
    with torch.inference_mode():
        first, *others = together = feeds(model, tokens, method)
        first.read_next(others)
        for feed in others:  # they wait without the room of what was cut, and of what is to come
            for layer in feed.state.layers:
                assert layer._keys is not None
                assert layer._keys.shape[2] <= GROWTH * layer.length + SLACK
        for feed in together:
            feed.read()
        alone = feeds(model, tokens, method)
        for feed in alone:
            feed.read()
    found = [contents(feed.state) for feed in alone]
    assert [contents(feed.state) for feed in together] == found
    if not method.rechooses:
        assert found[0] != found[2]


@pytest.mark.parametrize(
    "method",
    [PivotKV(), PivotKV(reforge=False), InfiniPotV(block=3, left=2), KeptByNorm()],
    ids=lambda method: type(method).__name__,
)
def test_caches_that_read_a_chunk_together_are_those_of_each_alone(method: Method, backbone: Qwen2VL) -> None:
    expect_the_same(backbone, visual(backbone, frames=12), method)


@pytest.mark.parametrize("method", [PivotKV(), KeptByNorm()], ids=lambda method: type(method).__name__)
def test_and_so_they_are_with_newlines_between_and_with_deepstack_features_and_times(
    method: Method, qwen3: Path
) -> None:
    expect_the_same(separated(plain()), frames(6, grid=(2, 3)), method)
    family = load(str(qwen3), device="cpu")
    expect_the_same(family, visual(family, frames=12), method)


def test_what_depends_on_no_ratio_is_computed_once(backbone: Qwen2VL, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    received = pivotkv.received

    def counting(queries: Tensor, keys: Tensor) -> Tensor:
        calls.append(keys.shape[1])
        return received(queries, keys)

    monkeypatch.setattr(pivotkv, "received", counting)
    with torch.inference_mode():
        first, *others = feeds(backbone, visual(backbone, frames=12), PivotKV())
        first.read_next(others)
        assert len(calls) == backbone.layers
        others[1].read_next()
    assert len(calls) == 2 * backbone.layers
