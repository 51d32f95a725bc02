"""A chunk that is read for several caches: each is, to the bit, what it is where it is read for this one alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from evalkit.chunk_scores import Scored, VideoPart
from evalkit.method import Method
from evalkit.model.families.qwen2_vl import Qwen2VL
from evalkit.model.kv_cache import GROWTH, SLACK
from evalkit.model.prefill_state import PrefillState
from evalkit.model.video_feed import VideoFeed
from evalkit.types import LayerChunk
from methods import pivotkv
from methods.infinipot_v import InfiniPotV
from methods.pivotkv import PivotKV
from tests.support.parity import budget_of
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


def feeds(backbone: Qwen2VL, method: Method) -> list[VideoFeed]:
    tokens, found = visual(backbone, frames=12), []
    for ratio in RATIOS:
        state = backbone.new_state()
        backbone.prefill_text(state, [1, 2, 3])
        found.append(
            VideoFeed(backbone, state, tokens, method, budget_of(backbone.layers, tokens, ratio), chunk_cells=2)
        )
    return found


def contents(state: PrefillState) -> list[object]:
    """Everything that is in a state, as plain values."""
    layers = [(layer.keys.tolist(), layer.values.tolist()) for layer in state.layers]
    ids = [positions.tolist() for positions in state.positions]
    counts = [state.visual, state.reindexed, state.op_counts, state.next_id, state.visual_per_cell.tolist()]
    return [layers, ids, *counts, state.read.tolist()]


@pytest.mark.parametrize(
    "method",
    [PivotKV(), PivotKV(reforge=False), InfiniPotV(block=3, left=2), KeptByNorm()],
    ids=lambda method: type(method).__name__,
)
def test_caches_that_read_a_chunk_together_are_those_of_each_alone(method: Method, backbone: Qwen2VL) -> None:
    with torch.inference_mode():
        first, *others = together = feeds(backbone, method)
        first.read_next(others)
        for feed in others:  # they wait without the room of what was cut, and of what is to come
            for layer in feed.state.layers:
                assert layer._keys is not None
                assert layer._keys.shape[2] <= GROWTH * layer.length + SLACK
        for feed in together:
            feed.read()
        alone = feeds(backbone, method)
        for feed in alone:
            feed.read()
    found = [contents(feed.state) for feed in alone]
    assert [contents(feed.state) for feed in together] == found
    if not method.rechooses:
        assert found[0] != found[2]


def test_what_depends_on_no_ratio_is_computed_once(backbone: Qwen2VL, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    received = pivotkv.received

    def counting(queries: Tensor, keys: Tensor) -> Tensor:
        calls.append(keys.shape[1])
        return received(queries, keys)

    monkeypatch.setattr(pivotkv, "received", counting)
    with torch.inference_mode():
        first, *others = feeds(backbone, PivotKV())
        first.read_next(others)
        assert len(calls) == backbone.layers
        others[1].read_next()
    assert len(calls) == 2 * backbone.layers
