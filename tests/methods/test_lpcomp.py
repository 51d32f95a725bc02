"""LP-Comp by hand, and inside the LLM against a plain forward in which masks hide what was dropped."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import Qwen2ForCausalLM, Qwen2VLForConditionalGeneration

from evalkit.errors import MethodError
from evalkit.model.decoder import Decoder
from evalkit.model.families.qwen2 import Qwen2
from evalkit.model.families.qwen2_vl import Qwen2VL
from evalkit.model.prefill_state import PrefillState
from evalkit.model.prune_view import NO_VIEW
from evalkit.types import VisualTokens
from methods.lpcomp import Keeping, LPComp, Rounding, Schedule, counts, leaving, lifted
from tests.support.loop import replied
from tests.support.parity_xcomp import budget_of
from tests.support.small_qwen2 import HEAD, TAIL, Prefix, frames, limits
from tests.support.visual_tokens import visual

SIX = (4, 3, 3, 2, 1, 1)  # 4 tokens, 6 layers: 1 + ⌊1.5 (1 + cos(lπ/6)) + 0.5⌋
RELEASED = "16 16 16 15 15 14 14 13 12 12 11 10 9 9 8 7 6 5 5 4 3 3 2 2 1 1 1 1"
PAPER = "16 16 16 16 15 15 14 14 13 12 11 11 10 9 8 7 7 6 5 4 4 3 3 2 2 2 2 1"


def fed(decoder: Decoder, tokens: VisualTokens, method: LPComp, chunk_cells: int | None = None) -> PrefillState:
    """Head and video."""
    context = decoder.new_state()
    decoder.prefill_text(context, HEAD)
    decoder.prefill_video(context, tokens, method, limits(tokens, decoder.layers), chunk_cells=chunk_cells)
    return context


@torch.inference_mode()
def ours(decoder: Decoder, tokens: VisualTokens, method: LPComp, chunk_cells: int | None = None) -> Tensor:
    """Logits after the last token of the prompt."""
    return decoder.logits(decoder.prefill_text(fed(decoder, tokens, method, chunk_cells), TAIL))


def alive(tokens: VisualTokens, schedule: tuple[int, ...], tail: int) -> Tensor:
    """(L, S) bool by hand: text, and the last N[l] places of every cell."""
    places = tokens.grid[0] * tokens.grid[1]
    rows = [tokens.place >= places - n for n in schedule]
    return torch.stack([torch.cat([torch.ones(len(HEAD)), row, torch.ones(tail)]).bool() for row in rows])


def renumbered(left: Tensor) -> list[Tensor]:
    """Ids of each layer, (1, S): the number of living tokens before; the rest do not matter."""
    return [(row.cumsum(0) - 1).clamp(min=0)[None] for row in left]


@torch.inference_mode()
def masked(model: Any, text: Any, embeds: Tensor, left: Tensor, ids: list[Tensor]) -> Tensor:
    """Last logits of a stock forward: dead tokens of a layer are seen by themselves alone; ids (R, S) are given."""
    size = embeds.shape[1]

    def before(i: int) -> Any:
        seen = torch.ones(size, size).tril().bool() & (left[i][None] | torch.eye(size, dtype=torch.bool))
        mask = torch.zeros(size, size).masked_fill(~seen, -torch.inf)[None, None]
        where = ids[i] if len(ids[i]) == 1 else ids[i][:, None]
        here = {"attention_mask": mask, "position_embeddings": text.rotary_emb(embeds, where)}
        return lambda _, args, kwargs: (args, {**kwargs, **here})

    hooks = [layer.register_forward_pre_hook(before(i), with_kwargs=True) for i, layer in enumerate(text.layers)]
    try:
        out = text(inputs_embeds=embeds, use_cache=False).last_hidden_state
    finally:
        for hook in hooks:
            hook.remove()
    logits: Tensor = model.lm_head(out[0, -1])
    return logits


def embedded(text: Any, tokens: VisualTokens, tail: list[int]) -> Tensor:
    words = text.embed_tokens
    return torch.cat([words(torch.tensor(HEAD)), tokens.features, words(torch.tensor(tail))])[None]


# ---- schedules


def test_schedules_by_hand() -> None:
    assert counts(28, 16, "cosine", "released") == tuple(map(int, RELEASED.split()))
    assert counts(28, 16, "cosine", "paper") == tuple(map(int, PAPER.split()))
    assert sum(counts(28, 16, "cosine", "released")) == 231
    assert sum(counts(28, 16, "cosine", "paper")) == 244
    assert counts(28, 16, "stepwise", "released") == (16,) * 10 + (4,) * 10 + (1,) * 8
    assert counts(6, 4, "cosine", "released") == SIX
    # short stacks: 1 + ⌊7.5 (1 + cos(lπ/4)) + 0.5⌋ = 14, 9, 3, 1; the first is clamped
    assert counts(4, 16, "cosine", "released") == (16, 9, 3, 1)
    assert counts(8, 16, "cosine", "released") == (16, 14, 11, 9, 6, 3, 2, 1)
    assert counts(4, 16, "stepwise", "released") == (16, 4, 4, 1)


@given(
    layers=st.integers(2, 40),
    places=st.integers(1, 80),
    schedule=st.sampled_from(["cosine", "stepwise", "identity"]),
    rounding=st.sampled_from(["released", "paper"]),
    floor=st.integers(1, 20),
)
@settings(max_examples=200, deadline=None)
def test_every_schedule_starts_whole_and_never_rises(
    layers: int, places: int, schedule: Schedule, rounding: Rounding, floor: int
) -> None:
    found = counts(layers, places, schedule, rounding, floor)
    assert len(found) == layers
    assert found[0] == places
    assert all(a >= b for a, b in itertools.pairwise(found))
    assert min(found) >= min(floor, places)
    if schedule == "cosine":
        assert found[-1] == min(floor, places)


@given(layers=st.integers(2, 32), places=st.integers(1, 64), share=st.floats(0, 1.2))
@settings(max_examples=200, deadline=None)
def test_a_lifted_schedule_spends_exactly_what_it_may(layers: int, places: int, share: float) -> None:
    base = counts(layers, places, "cosine", "released")
    total = round(share * layers * places)
    found = lifted(base, places, total)
    assert sum(found) == min(max(total, sum(base)), layers * places)
    assert all(a >= b for a, b in itertools.pairwise(found))
    assert all(low <= n <= places for low, n in zip(base, found, strict=True))
    if share >= 1:
        assert found == (places,) * layers
    if total <= sum(base):
        assert found == base


def test_the_ratio_goes_to_the_schedule_first() -> None:
    """28 layers of 16: below 231/448 fewer cells, above it more tokens in each."""
    tokens = frames(100, grid=(4, 4))
    half = 231 / 448 / 2
    assert LPComp().cells(limits(tokens, 28, half)) == 50
    assert LPComp().counts(limits(tokens, 28, half)) == tuple(map(int, RELEASED.split()))
    assert LPComp().cells(limits(tokens, 28, 0.75)) == 100
    assert sum(LPComp().counts(limits(tokens, 28, 0.75))) == 0.75 * 448
    assert LPComp().counts(limits(tokens, 28, 1.0)) == (16,) * 28
    seen = LPComp(frame_ratio=0.5)
    assert seen.cells(limits(tokens, 28)) == 50
    assert seen.counts(limits(tokens, 28)) == tuple(map(int, RELEASED.split()))


@pytest.mark.parametrize("wrong", [{"schedule": "linear"}, {"keep": "prefix"}, {"floor": 0}, {"frame_ratio": 1.5}])
def test_wrong_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(MethodError, match=r"expected schedule cosine\|stepwise"):
        LPComp(**wrong)


# ---- which tokens


def stays(method: LPComp, count: int) -> list[int]:
    return method.stays(count, 16).nonzero()[:, 0].tolist()


def test_kept_places_by_hand() -> None:
    assert stays(LPComp(), 5) == [11, 12, 13, 14, 15]
    assert stays(LPComp(keep="uniform"), 15) == [0, 1, 2, 3, 4, 5, 6, 8, 9, 10, 11, 12, 13, 14, 15]
    assert stays(LPComp(keep="uniform"), 4) == [4, 8, 11, 15]
    assert stays(LPComp(keep="uniform"), 1) == [15]
    stepwise = LPComp(schedule="stepwise", keep="uniform")
    assert stays(stepwise, 4) == [3, 7, 11, 15]
    assert stays(stepwise, 1) == [15]


@pytest.mark.parametrize("keep", ["suffix", "uniform"])
@pytest.mark.parametrize("strided", [False, True])
@pytest.mark.parametrize("places", [1, 6, 16])
def test_what_is_kept_is_nested(keep: Keeping, strided: bool, places: int) -> None:
    assert sorted(leaving(places, keep, strided=strided)) == list(range(places))
    method = LPComp(keep=keep, schedule="stepwise" if strided else "cosine")
    sets = [set(method.stays(n, places).nonzero()[:, 0].tolist()) for n in range(1, places + 1)]
    assert [len(s) for s in sets] == list(range(1, places + 1))
    assert all(a < b for a, b in itertools.pairwise(sets))


def test_three_tagged_frames_go_through_all_layers() -> None:
    tokens = VisualTokens.dense(torch.arange(48.0)[:, None], seconds=range(3), grid=(4, 4))
    budget, method = limits(tokens, 28), LPComp(frame_ratio=1.0)
    for layer, n in enumerate(map(int, RELEASED.split())):
        left = method.prune(layer, 28, tokens, budget, NO_VIEW)
        tokens = tokens if left is None else tokens.keep(left.index)
        expected = [16 * frame + place for frame in range(3) for place in range(16 - n, 16)]
        assert tokens.features[:, 0].tolist() == expected
    assert tokens.features[:, 0].tolist() == [15, 31, 47]


# ---- inside the LLM


def test_lengths_and_decode_positions_of_every_layer(qwen2: Qwen2) -> None:
    tokens = frames(5)
    with torch.inference_mode():
        context = fed(qwen2, tokens, LPComp(frame_ratio=1.0))
        hidden = qwen2.prefill_text(context, TAIL)
        lengths = tuple(len(HEAD) + len(TAIL) + 5 * n for n in SIX)
        assert context.lengths == lengths
        assert context.visual == [5 * n for n in SIX]
        assert tuple(int(layer.keys.shape[2]) for layer in context.cache.layers) == lengths
        for step in range(3):
            hidden = qwen2.prefill_text(context, [int(qwen2.logits(hidden).argmax())], decoding=True)
            assert [int(p[0, -1]) for p in context.positions] == [n + step for n in lengths]
    assert all(torch.equal(p[0], torch.arange(p.shape[1])) for p in context.positions)


def test_what_was_dropped_is_as_if_unseen_and_the_rest_closes_up(stock: Qwen2ForCausalLM, qwen2: Qwen2) -> None:
    tokens = frames(5)
    left = alive(tokens, SIX, len(TAIL))
    with torch.inference_mode():
        embeds = embedded(stock.model, tokens, TAIL)
    expected = masked(stock, stock.model, embeds, left, renumbered(left))
    torch.testing.assert_close(ours(qwen2, tokens, LPComp(frame_ratio=1.0)), expected, rtol=0, atol=1e-4)
    kept = ours(qwen2, tokens, LPComp(frame_ratio=1.0, positions="keep"))
    gaps = [torch.arange(embeds.shape[1])[None]] * 6
    torch.testing.assert_close(kept, masked(stock, stock.model, embeds, left, gaps), rtol=0, atol=1e-4)
    # negative controls: ids kept, and the first of each frame instead of its last
    assert (kept - expected).abs().max() > 1e-2
    assert (ours(qwen2, tokens, Prefix(frame_ratio=1.0)) - expected).abs().max() > 1e-1


def test_no_dropping_is_the_untouched_model(stock: Qwen2ForCausalLM, qwen2: Qwen2) -> None:
    tokens = frames(5)
    with torch.inference_mode():
        expected = stock(inputs_embeds=embedded(stock.model, tokens, TAIL)).logits[0, -1]
    torch.testing.assert_close(
        ours(qwen2, tokens, LPComp(schedule="identity", frame_ratio=1.0)), expected, rtol=0, atol=1e-4
    )


@pytest.mark.parametrize("chunk_cells", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("method", [LPComp(frame_ratio=1.0), LPComp(schedule="stepwise", keep="uniform")])
def test_chunks_change_nothing(qwen2: Qwen2, method: LPComp, chunk_cells: int) -> None:
    tokens = frames(5)
    whole = ours(qwen2, tokens, method)
    torch.testing.assert_close(ours(qwen2, tokens, method, chunk_cells), whole, rtol=0, atol=1e-4)


def test_a_shared_prefix_equals_a_fresh_one(qwen2: Qwen2) -> None:
    tokens, method = frames(5), LPComp(frame_ratio=1.0)
    with torch.inference_mode():
        context = fed(qwen2, tokens, method, 2)
        mark = context.mark()
        found = {}
        for tail in ([11, 12, 13, 14, 15, 16], TAIL, [20]):
            found[tuple(tail)] = replied(qwen2, context, tail, 5)
            context.rewind(mark)
        for tail, reply in found.items():
            fresh = fed(qwen2, tokens, method, 2)
            assert replied(qwen2, fresh, list(tail), 5) == reply
            assert context.lengths == tuple(len(HEAD) + 5 * n for n in SIX)
    assert len(set(map(tuple, found.values()))) > 1


def test_decoding_equals_reading_the_reply_anew(stock: Qwen2ForCausalLM, qwen2: Qwen2) -> None:
    tokens, method = frames(5), LPComp(frame_ratio=1.0)
    with torch.inference_mode():
        context = fed(qwen2, tokens, method)
        hidden, reply = qwen2.prefill_text(context, TAIL), []
        for _ in range(4):
            reply.append(int(qwen2.logits(hidden).argmax()))
            hidden = qwen2.prefill_text(context, reply[-1:], decoding=True)
            tail = [*TAIL, *reply]
            left = alive(tokens, SIX, len(tail))
            expected = masked(stock, stock.model, embedded(stock.model, tokens, tail), left, renumbered(left))
            torch.testing.assert_close(qwen2.logits(hidden), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("positions", [None, "keep", "renumber"])
def test_mrope_keeps_ids_unless_told_otherwise(backbone: Qwen2VL, checkpoint: Path, positions: Any) -> None:
    tokens = visual(backbone, frames=6)
    method = LPComp(frame_ratio=1.0, positions=positions)
    schedule = method.counts(budget_of(backbone, 3))
    stock = Qwen2VLForConditionalGeneration.from_pretrained(checkpoint, dtype=torch.float32).eval()
    text = stock.model.language_model
    left = alive(tokens, schedule, len(TAIL))
    start, after = len(HEAD), len(HEAD) + 4  # a cell is 4 × 4, the video 3 cells long
    where = torch.stack([tokens.cell, tokens.place // 4, tokens.place % 4]) + start
    kept = torch.cat([torch.arange(start).expand(3, -1), where, torch.arange(after, after + 4).expand(3, -1)], 1)
    ids = [kept] * backbone.layers
    if positions == "renumber":  # from the first layer that drops
        ids = [x.expand(3, -1) if n < 16 else kept for x, n in zip(renumbered(left), schedule, strict=True)]
    with torch.inference_mode():
        embeds = embedded(text, tokens, TAIL)
        found = ours(backbone, tokens, method, 2)
    torch.testing.assert_close(found, masked(stock, text, embeds, left, ids), rtol=0, atol=1e-4)
    wrong = [kept + torch.arange(kept.shape[1])] * backbone.layers
    assert (found - masked(stock, text, embeds, left, wrong)).abs().max() > 1e-3
