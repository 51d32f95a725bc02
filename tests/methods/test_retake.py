"""DPSelect and PivotKV against small examples worked out by hand, and plain forms written from the paper."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from evalkit.errors import MethodError
from evalkit.method import no_question
from evalkit.model.families.qwen2_vl import Qwen2VL
from evalkit.types import LayerChunk, VisualTokens
from methods import pivotkv
from methods.dpselect import DPSelect, change, moments
from methods.pivotkv import PivotKV, received, reforged
from methods.retake import ReTaKe
from tests.support.parity import budget_of
from tests.support.visual_tokens import visual


def series(*values: float) -> Tensor:
    return torch.tensor(values)[:, None]


@pytest.mark.parametrize(
    ("distance", "keep", "kept", "peaks"),
    [
        # peaks at 0, 3 and 5 go first, then the largest rest
        ((1.0, 0.2, 0.1, 0.6, 0.3, 0.4), 3, [0, 3, 5], [1, 1, 1]),
        ((1.0, 0.2, 0.1, 0.6, 0.3, 0.4), 4, [0, 3, 4, 5], [1, 1, 0, 1]),
        # fewer places than peaks: the larger peaks
        ((1.0, 0.2, 0.1, 0.6, 0.3, 0.4), 2, [0, 3], [1, 1]),
        # a small peak goes before a large distance that is none
        ((1.0, 0.9, 0.0, 0.1, 0.0, 0.0), 2, [0, 3], [1, 1]),
        # on a plateau only the first is a peak; ties go to the earlier cell
        ((1.0, 0.5, 0.5, 0.5, 0.5), 3, [0, 1, 2], [1, 0, 0]),
        ((0.0, 0.5, 0.5, 0.1), 2, [1, 2], [1, 0]),
    ],
)
def test_moments_by_hand(distance: tuple[float, ...], keep: int, kept: list[int], peaks: list[int]) -> None:
    moment, peak = moments(series(*distance), keep, window=3)
    assert moment[:, 0].tolist() == kept
    assert peak[:, 0].int().tolist() == peaks


def test_a_wider_window_has_fewer_peaks() -> None:
    distance = series(1.0, 0.2, 0.5, 0.3, 0.6, 0.1)
    assert moments(distance, 3, window=3)[0][:, 0].tolist() == [0, 2, 4]
    assert moments(distance, 3, window=5)[1].sum() == 2


def test_change_by_hand() -> None:
    x = torch.tensor([[[1.0, 0.0]], [[2.0, 0.0]], [[0.0, 3.0]], [[0.0, -1.0]]])
    torch.testing.assert_close(change(x)[:, 0], torch.tensor([1.0, 0.0, 1.0, 2.0]))
    torch.testing.assert_close(change(x.bfloat16())[:, 0], torch.tensor([1.0, 0.0, 1.0, 2.0]))


def tokens(features_TPC: Tensor) -> VisualTokens:
    cells, places, _ = features_TPC.shape
    return VisualTokens.dense(features_TPC.flatten(0, 1), seconds=range(cells), grid=(1, places))


# place 0 turns at cell 2, place 1 at cell 3
TURNING = torch.tensor([[[1.0, 0.0], [1, 0]], [[1, 0], [1, 0]], [[0, 1], [1, 0]], [[0, 1], [0, 1]], [[0, 1], [0, 1]]])


@pytest.mark.parametrize(
    ("patch_sync", "positions", "cell", "slot", "span"),
    [
        (True, "compact", [0, 0, 2, 2], [0, 0, 1, 1], 2),
        (True, "true_time", [0, 0, 2, 2], [0, 0, 2, 2], None),
        (False, "compact", [0, 0, 2, 3], [0, 0, 1, 1], 2),
        (False, "true_time", [0, 0, 2, 3], [0, 0, 2, 3], None),
    ],
)
def test_select_by_hand(patch_sync: bool, positions: Any, cell: list[int], slot: list[int], span: int | None) -> None:
    video = tokens(TURNING)
    method = DPSelect(patch_sync=patch_sync, positions=positions)
    out = method.select(video, budget_of(6, video, 0.4), no_question)
    assert out.cell.tolist() == cell
    assert out.slot.tolist() == slot
    assert out.place.tolist() == [0, 1, 0, 1]
    assert out.span == span
    assert out.protected.all()
    assert torch.equal(out.features, video.features[out.cell * 2 + out.place])
    assert not replace(method, protect=False).select(video, budget_of(6, video, 0.4), no_question).protected.any()


def test_text_after_packed_cells_moves_up(backbone: Qwen2VL) -> None:
    video = visual(backbone, frames=24)  # 12 cells of 4 × 4
    assert backbone.positions.ids_after(video) == 12
    assert backbone.positions.ids_after(replace(video, span=9)) == 9
    short = visual(backbone, frames=4)  # 2 cells: the rows are longer than the time
    assert backbone.positions.ids_after(short) == 4
    assert backbone.positions.ids_after(replace(short, span=1)) == 4  # and rows are not packed


def plain_received(queries: Tensor, keys: Tensor) -> Tensor:
    """The S × S form, straight from the paper."""
    heads, _, width = queries.shape
    weights = (queries @ keys.repeat_interleave(heads // len(keys), 0).transpose(1, 2) / width**0.5).softmax(-1)
    return weights.sum(1).mean(0)


@pytest.mark.parametrize(("blocks", "block_bytes"), [(64, 1), (5, 1), (64, 2**12), (64, 2**20)])
def test_received_equals_the_plain_form(blocks: int, block_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pivotkv, "BLOCKS", blocks)
    monkeypatch.setattr(pivotkv, "BLOCK_BYTES", block_bytes)
    torch.manual_seed(0)
    queries, keys = torch.randn(6, 37, 8), torch.randn(2, 37, 8)
    found = received(queries, keys)
    torch.testing.assert_close(found, plain_received(queries, keys))
    assert found.mean().item() == pytest.approx(1)
    # negative controls: heads grouped the other way, a causal mask
    assert not torch.allclose(found, plain_received(queries, keys[[1, 0]]))
    assert not torch.allclose(found, plain_received(queries, keys).cumsum(0).flip(0))


def test_reforged_by_hand() -> None:
    ids = torch.tensor([[10, 10, 11, 13, 17], [3, 4, 3, 4, 3], [3, 3, 4, 4, 3]])
    out = reforged(ids, 0.5)
    assert out.tolist() == [[10, 10, 10, 11, 13], [3, 4, 3, 4, 3], [3, 3, 4, 4, 3]]
    assert ids[0].tolist() == [10, 10, 11, 13, 17]


def chunk(score: list[float], protected: list[int], max_keep: int, prompt: int = 0) -> LayerChunk:
    """A chunk of one head whose queries are all equal, so that the scores' order is that of `score`."""
    size = len(score)
    keys = torch.tensor(score)[None, :, None].expand(1, size, 2).clone()
    return LayerChunk(
        layer=0,
        layers=1,
        queries=torch.ones(1, size, 2),
        keys=keys,
        positions=torch.arange(size).expand(3, -1),
        rotate=lambda x, _: x.flip(1),
        protected=torch.tensor(protected, dtype=torch.bool),
        max_keep=max_keep,
        prompt_tokens=prompt,
    )


SCORES = [0.0, 3.0, 1.0, 2.0, -1.0, 0.5]


def picked(method: PivotKV, data: LayerChunk) -> list[int]:
    keep = method.evict(data)
    assert keep is not None
    return keep.index.tolist()


def test_pivots_go_first_or_not() -> None:
    data = chunk(SCORES, [0, 0, 0, 0, 1, 0], max_keep=2)
    assert picked(PivotKV(pivots="strict"), data) == [1, 4]
    # released: the mean score, 1.0, is below those of tokens 1 and 3
    assert picked(PivotKV(pivots="released"), data) == [1, 3]
    crowded = chunk(SCORES, [1, 0, 1, 0, 1, 0], max_keep=2)
    assert picked(PivotKV(pivots="strict"), crowded) == [0, 2]
    assert picked(PivotKV(pivots="strict"), chunk([1.0] * 6, [0] * 6, max_keep=3)) == [0, 1, 2]


def test_max_keep_ratio_and_prompt_length() -> None:
    data = chunk(SCORES, [0] * 6, max_keep=4, prompt=60)
    assert len(picked(PivotKV(), data)) == 4
    assert len(picked(PivotKV(kv_ratio=0.5), data)) == 3
    assert len(picked(PivotKV(kv_ratio=0.01), data)) == 1
    assert len(picked(PivotKV(max_input_length=20), data)) == 2
    assert PivotKV(max_input_length=600).evict(data) is None
    assert PivotKV(max_input_length=20).query_aware
    assert not PivotKV(kv_ratio=0.5).query_aware


def test_kept_positions_score_what_attention_saw() -> None:
    """Without re-forging, queries and keys are scored as rotated (here: reversed), and ids stay."""
    data = chunk(SCORES, [0] * 6, max_keep=2)
    keep = PivotKV(reforge=False).evict(data)
    assert keep is not None
    assert keep.index.tolist() == [2, 4]
    assert keep.positions is None


@pytest.mark.parametrize("rows", ["released", "aligned"])
def test_text_rows_after_a_compressed_video(rows: Any, backbone: Qwen2VL) -> None:
    video = visual(backbone, frames=16)
    method = ReTaKe(text_rows=rows)
    with torch.inference_mode():
        context = backbone.new_state()
        backbone.prefill_text(context, [1, 2])
        backbone.prefill_video(context, video, method, budget_of(backbone.layers, video, 0.5), chunk_cells=4)
        stored = context.positions[0]
        backbone.prefill_text(context, [3, 4])
        text = context.positions[0][:, -2:]
        backbone.prefill_text(context, [5], decoding=True)
        said = context.positions[0][:, -1]
    after = int(stored[0, -1]) + 1
    assert text[0].tolist() == [after, after + 1]
    if rows == "aligned":
        assert text.tolist() == [[after, after + 1]] * 3
        assert said.tolist() == [after + 2] * 3
    else:  # rows and columns stay at the uncompressed end; while decoding all rows move
        assert text[1].tolist() == text[2].tolist() == [10, 11]
        assert after < 10
        assert said.tolist() == [after + 2] * 3


@pytest.mark.slow
@pytest.mark.parametrize("cells", [1, 4, None])
@pytest.mark.parametrize("ratio", [0.5, 0.25, 0.125])
def test_retake_spends_its_ratio(backbone: Qwen2VL, cells: int | None, ratio: float) -> None:
    video = visual(backbone, frames=32)
    for method in (ReTaKe(), ReTaKe(select_ratio=0.5), PivotKV(), ReTaKe(select_ratio=0.75, patch_sync=False)):
        budget = budget_of(backbone.layers, video, ratio)
        with torch.inference_mode():
            context = backbone.new_state()
            backbone.prefill_text(context, [1])
            backbone.prefill_video(
                context, method.select(video, budget, no_question), method, budget, chunk_cells=cells
            )
        assert sum(context.visual) / (backbone.layers * 256) == pytest.approx(ratio, rel=0.02)


@pytest.mark.parametrize(
    "wrong",
    [
        {"kv_ratio": 0.5, "max_input_length": 9},
        {"kv_ratio": 1.5},
        {"max_input_length": 0},
        {"window": 2},
        {"select_ratio": 0.0},
    ],
)
def test_settings_that_cannot_be(wrong: dict[str, Any]) -> None:
    with pytest.raises(MethodError, match="expected"):
        ReTaKe(**wrong)
