"""The released code runs in bfloat16, ours decides in fp32 from the same bfloat16 features, queries and keys.

Bit equality is no question then: bfloat16 knows similarities near 1 in steps of 1/256, so a video that stands still has
plateaus and ties there, which torch.topk breaks as it likes. What equality can mean is tested here: the same decisions
from the same numbers, numbers that are as close as bfloat16 allows, the same decisions wherever bfloat16 can tell the
candidates apart. And how often the decisions differ on the built-in model and a generated video, most of which stands
still: DPSelect keeps up to 35 % other cells or patches, PivotKV 1 to 2 % other keys where none are pinned. How many
depends on the machine, too: kernels add up bfloat16 products in different orders.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

from evalkit.config.build import WEIGHTS
from evalkit.method import Budget, Method
from evalkit.model.load import load
from evalkit.tiny.training import symbols, vision
from evalkit.tiny.videos import world
from evalkit.types import LayerChunk, VisualTokens
from methods.dpselect import change, moments
from methods.pivotkv import PivotKV, received
from tests.support import released_bf16
from tests.support.released_bf16 import BF16

CELLS = 64
STEP = 2**-8  # of bfloat16 between 1/2 and 1
DISTANCES = 4 * STEP  # largest error of a distance; measured: 2.2 steps
SCORES = 8 * STEP  # largest relative error of a score; measured: 5.6 steps


@dataclass(frozen=True)
class Seen:
    """What one video is in the built-in model, in bfloat16."""

    features: Tensor  # (T, P, C)
    chunks: list[LayerChunk]

    @property
    def scores(self) -> Iterator[tuple[LayerChunk, Tensor, Tensor]]:
        """Of each chunk ours (S,), in fp32, and the released ones."""
        for chunk in self.chunks:
            back = [
                chunk.rotate(chunk.rotate(x, chunk.positions), -chunk.positions) for x in (chunk.queries, chunk.keys)
            ]
            yield chunk, received(chunk.queries, chunk.keys), released_bf16.scores(*back).float()


@pytest.fixture(scope="module")
def seen() -> Seen:
    backbone, chunks = load(str(WEIGHTS), device="cpu", dtype="bfloat16"), []

    class Watching(Method):
        def evict(self, chunk: LayerChunk) -> None:
            chunks.append(chunk)

    film = vision.render(world.draw(5), symbols.moments(CELLS), np.arange(CELLS)).flatten(0, 1).numpy()
    with torch.inference_mode():
        features = backbone.encode(film, slice_cells=32)
        tokens = VisualTokens.dense(features, seconds=range(CELLS), grid=(4, 4))
        budget = Budget.encoded(CELLS, tokens.grid, ratio=0.5, layers=backbone.layers)
        backbone.prefill_video(backbone.new_state(), tokens, Watching(), budget, chunk_cells=16)
    assert features.dtype == chunks[0].queries.dtype == BF16
    return Seen(features.view(CELLS, 16, -1), chunks)


def chosen(distance_TS: Tensor, keep: int) -> Tensor:
    """Ours, (T, S) bool."""
    kept, _ = moments(distance_TS, keep, 3)
    return torch.zeros_like(distance_TS, dtype=torch.bool).scatter(0, kept, True)


# ---- DPSelect


@pytest.mark.parametrize("sync", [True, False])
def test_dpselect_decides_alike_from_the_same_distances(seen: Seen, sync: bool) -> None:
    distance = released_bf16.distances(seen.features)
    distance = distance.mean(1, keepdim=True) if sync else distance
    assert len(distance.unique()) < distance.numel()  # plateaus: the first of one is the peak
    settled = 0
    for keep in (48, 32, 16, 8):
        theirs, open_S = released_bf16.kept(distance, keep)
        assert torch.equal(chosen(distance, keep)[:, ~open_S], theirs[:, ~open_S])
        settled += int((~open_S).sum())
        kept, peak = moments(distance, keep, 3)
        assert torch.equal(peak, released_bf16.peaks(distance).gather(0, kept))
    assert settled
    # negative control: peaks of another window are others
    assert not torch.equal(released_bf16.peaks(distance), released_bf16.peaks(distance, window=5))


def test_distances_are_as_close_as_bfloat16_allows(seen: Seen) -> None:
    theirs = released_bf16.distances(seen.features)
    assert (change(seen.features) - theirs).abs().max() < DISTANCES
    assert (change(seen.features.roll(1, dims=1)) - theirs).abs().max() > DISTANCES  # negative control: other places


@pytest.mark.parametrize("sync", [True, False])
def test_dpselect_keeps_the_same_where_bfloat16_tells_the_cells_apart(sync: bool) -> None:
    """A walk on a circle whose steps have distances of 1/16, 2/16 … in random order, at every place another."""
    random = torch.Generator().manual_seed(0)
    wanted = torch.stack([torch.randperm(28, generator=random) + 1 for _ in range(3)], 1) / 16
    wanted = wanted[:, :1].expand(-1, 3) if sync else wanted
    angle = torch.cat([torch.zeros(1, 3), (1 - wanted.double()).arccos().cumsum(0).float()])
    plane = torch.linalg.qr(torch.randn(64, 2, generator=random)).Q
    x = (torch.stack([angle.cos(), angle.sin()], -1) @ plane.T).to(BF16)
    ours, theirs = change(x), released_bf16.distances(x)
    if sync:
        ours, theirs = ours.mean(1, keepdim=True), theirs.mean(1, keepdim=True)
    assert torch.equal(released_bf16.peaks(ours), released_bf16.peaks(theirs))
    for keep in range(1, 29):
        mask, open_S = released_bf16.kept(theirs, keep)
        assert not open_S.any()
        assert torch.equal(chosen(ours, keep), mask)


def test_how_often_dpselect_keeps_others(seen: Seen) -> None:
    ours, theirs = change(seen.features), released_bf16.distances(seen.features)
    shares = {}
    for name, pair in {
        "patch": (ours, theirs),
        "frame": (ours.mean(1, keepdim=True), theirs.mean(1, keepdim=True)),
    }.items():
        for keep in (32, 16):
            other = (chosen(pair[0], keep) & ~released_bf16.kept(pair[1], keep)[0]).float().sum()
            shares[name, keep] = float(other / keep / pair[0].shape[1])
    assert max(shares.values()) < 0.4, shares
    assert min(shares["patch", 32], shares["patch", 16]) > 0.02, shares  # of a frame's mean no machine need differ


# ---- PivotKV


def test_scores_are_as_close_as_bfloat16_allows(seen: Seen) -> None:
    for chunk, ours, theirs in seen.scores:
        assert ((theirs - ours).abs() / ours).max() < SCORES
        wrong = received(*(chunk.rotate(x, chunk.positions) for x in (chunk.queries, chunk.keys)))
        assert ((theirs - wrong).abs() / wrong).max() > SCORES  # negative control: scored with rotated ones


def graded(size: int) -> LayerChunk:
    """Keys that are wanted by all queries, one more than the other, in random order: score after score 10 % apart."""
    random = torch.Generator().manual_seed(0)
    wish = torch.nn.functional.normalize(torch.randn(16, generator=random), dim=0)
    grade = torch.randperm(size, generator=random) * 0.1
    queries = (4 * wish).expand(4, size, 16).to(BF16)
    keys = (grade[:, None] * wish).expand(2, size, 16).to(BF16)
    return LayerChunk(
        layer=0,
        layers=1,
        queries=queries,
        keys=keys,
        positions=torch.arange(size).expand(3, size),
        rotate=lambda x, _: x,
        protected=torch.zeros(size, dtype=torch.bool),
        max_keep=size // 2,
        prompt_tokens=size,
    )


@pytest.mark.parametrize("ratio", [0.125, 0.25, 0.5, 0.75])
def test_pivotkv_keeps_the_same_where_bfloat16_tells_the_keys_apart(ratio: float) -> None:
    chunk = graded(48)
    theirs = released_bf16.scores(chunk.queries, chunk.keys)
    keep = int(ratio * 48)
    ordered = theirs.sort(descending=True).values
    assert ordered[keep - 1] > ordered[keep]
    found = PivotKV(pivots="released", kv_ratio=ratio).evict(chunk)
    assert found is not None
    assert torch.equal(found.index, theirs.topk(keep).indices.sort().values)


def test_how_often_pivotkv_keeps_others(seen: Seen) -> None:
    for ratio in (0.5, 0.25, 0.125):
        shares = []
        for chunk, _, theirs in seen.scores:
            found = PivotKV(pivots="released", kv_ratio=ratio).evict(chunk)
            assert found is not None
            picked = theirs.topk(len(found.index)).indices
            shares.append(1 - torch.isin(found.index, picked).float().mean())
        share = float(torch.stack(shares).mean())
        assert 0.002 < share < 0.04, f"at {ratio}: {share:.1%}"
