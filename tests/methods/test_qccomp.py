"""QC-Comp: which cells a pass reads by hand, and `ask` against transformers' own attention on the same states."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import Qwen2ForCausalLM, Qwen2VLForConditionalGeneration

from evalkit.errors import MethodError
from evalkit.method import AttentionFromQuestion, Budget, Method, OperatingPoint
from evalkit.model import window_attention
from evalkit.model.decoder import Decoder
from evalkit.model.families.qwen2 import Qwen2
from evalkit.model.families.qwen2_vl import Qwen2VL
from evalkit.model.question_attention import QuestionAttention
from evalkit.types import Evicted, LayerChunk, VisualTokens
from methods.lpcomp import LPComp
from methods.qccomp import QCComp, clips
from methods.xcomp import XComp
from tests.support import clips as videos
from tests.support.loop import answer, answer_key, engine, question
from tests.support.small_qwen2 import HEAD, frames, limits
from tests.support.visual_tokens import visual

TAIL, HEADER = [6, 7, 8, 9, 10, 11, 12], 5  # the last two begin the reply
WINDOWS = [(0, 4), (2, 6), (4, 8)]
SMALL: dict[str, Any] = {"clip": 2, "window": 8, "stride": 4, "chunk": 16}  # frames, for videos of a few cells


def question_attention(
    decoder: Decoder, tokens: VisualTokens, method: Method, chunk_cells: int | None = None
) -> QuestionAttention:
    found = QuestionAttention(decoder, tokens, method, limits(tokens, decoder.layers), chunk_cells=chunk_cells)
    found.set_question(HEAD, TAIL, HEADER)
    return found


def normed(decoder: Decoder, tokens: VisualTokens, method: Method) -> list[Tensor]:
    """What each layer's attention is given in one pass over head, video and question, (S, D) each."""
    seen: list[list[Tensor]] = [[] for _ in range(decoder.layers)]
    spots = enumerate(layer.input_layernorm for layer in decoder.text.layers)
    hooks = [spot.register_forward_hook(lambda _, __, out, i=i: seen[i].append(out[0])) for i, spot in spots]
    context = decoder.new_state()
    decoder.prefill_text(context, HEAD)
    decoder.prefill_video(context, tokens, method, limits(tokens, decoder.layers), chunk_cells=None)
    decoder.prefill_text(context, TAIL)
    for hook in hooks:
        hook.remove()
    return [torch.cat(parts) for parts in seen]


@dataclass(frozen=True, kw_only=True)
class How:
    """One way of asking."""

    skip: int = 0
    causal: bool = False
    closing: bool = False


@torch.inference_mode()
def looked(
    text: Any, states: list[Tensor], per_cell: Sequence[int], ids: Any, how: How, windows: Sequence[tuple[int, int]]
) -> Tensor:
    """`ask` in full: each layer's whole attention over [prompt, window, question], of which the rows are read."""
    head, end = len(HEAD), len(TAIL) if how.closing else HEADER
    found = []
    for layer, x, n in zip(text.layers, states, per_cell, strict=True):
        tail = x[len(x) - len(TAIL) :][:end]
        for start, stop in windows:
            inside = torch.cat([x[:head], x[head + start * n : head + stop * n], tail])[None]
            where = text.rotary_emb(inside, ids(stop - start, n, end))
            size = inside.shape[1]
            mask = torch.zeros(size, size).masked_fill(~torch.ones(size, size).tril().bool(), -torch.inf)[None, None]
            _, weights = layer.self_attn(inside, position_embeddings=where, attention_mask=mask if how.causal else None)
            rows = weights[0].mean(0)[size - end + how.skip : size - end + HEADER]
            torch.testing.assert_close(rows.sum(1), torch.ones(len(rows)))
            found.append(rows[:, head : size - end].mean(0).view(stop - start, n).mean(1))
    return torch.stack(found).view(len(states), len(windows), -1).double()


def plain_ids(cells: int, per_cell: int, tail: int) -> Tensor:
    return torch.arange(len(HEAD) + cells * per_cell + tail)[None]


@pytest.mark.parametrize(
    "how", [How(), How(skip=2), How(causal=True), How(closing=True), How(causal=True, closing=True)]
)
@pytest.mark.parametrize("method", [QCComp(), XComp(frame_ratio=1.0)])
def test_ask_equals_whole_attention(stock: Qwen2ForCausalLM, qwen2: Qwen2, method: QCComp, how: How) -> None:
    tokens = frames(8)
    per_cell = method.counts(limits(tokens, 6)) if isinstance(method, LPComp) else (4,) * 6
    with torch.inference_mode():
        states = normed(qwen2, tokens, method)
        found = question_attention(qwen2, tokens, method)(range(8), windows=WINDOWS, layers=range(6), **vars(how))
        chunked = question_attention(qwen2, tokens, method, 3)(range(8), windows=WINDOWS, layers=range(6), **vars(how))
        late = question_attention(qwen2, tokens, method)(range(8), windows=WINDOWS, layers=range(2, 4), **vars(how))
    expected = looked(stock.model, states, per_cell, plain_ids, how, WINDOWS)
    assert found.shape == (6, 3, 4)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(chunked, found, rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(late, found[2:4], rtol=0, atol=0)  # a pass that ends early
    # negative controls: another mask, and windows that keep their place in the video
    other = replace(how, causal=not how.causal)
    assert (looked(stock.model, states, per_cell, plain_ids, other, WINDOWS) / expected - 1).abs().max() > 0.05
    moved = looked(stock.model, states, per_cell, lambda *n: plain_ids(*n) * 2, how, WINDOWS)
    assert (moved / expected - 1).abs().max() > 0.05


def test_uniform_attention_gives_one_over_the_length(qwen2: Qwen2) -> None:
    tokens = frames(8)
    with torch.inference_mode():
        kept = {name: p.clone() for name, p in qwen2.model.named_parameters() if "k_proj" in name}
        try:
            for name, p in qwen2.model.named_parameters():
                if name in kept:
                    p.zero_()
            found = question_attention(qwen2, tokens, QCComp())(range(8), windows=WINDOWS, layers=range(6))
        finally:
            for name, p in qwen2.model.named_parameters():
                if name in kept:
                    p.copy_(kept[name])
    expected = torch.full((6, 3, 4), 1 / (len(HEAD) + 4 * 4 + HEADER), dtype=torch.float64)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("positions", [None, "renumber"])
def test_mrope_windows_are_laid_out_anew(backbone: Qwen2VL, checkpoint: Path, positions: Any) -> None:
    """Grid 4 × 4: a window begins after the prompt, text goes on after its last moment, row or column."""
    tokens = visual(backbone, frames=12)
    method, windows = XComp(frame_ratio=1.0, positions=positions), [(0, 5), (1, 6)]
    per_cell = method.counts(limits(tokens, backbone.layers))
    stock = Qwen2VLForConditionalGeneration.from_pretrained(
        checkpoint, dtype=torch.float32, attn_implementation="eager"
    )

    def ids(cells: int, n: int, tail: int, *, gaps: bool = False) -> Tensor:
        if positions == "renumber" and n < 16:
            return torch.arange(len(HEAD) + cells * n + tail).expand(3, 1, -1)
        place = torch.arange(16 - n, 16).repeat(cells)
        time = torch.arange(cells).repeat_interleave(n) + (3 if gaps else 0)
        video = torch.stack([time, place // 4, place % 4]) + len(HEAD)
        after = torch.arange(tail).expand(3, -1) + len(HEAD) + 5
        return torch.cat([torch.arange(len(HEAD)).expand(3, -1), video, after], 1)[:, None]

    with torch.inference_mode():
        states = normed(backbone, tokens, method)
        found = question_attention(backbone, tokens, method)(range(6), windows=windows, layers=range(backbone.layers))
    expected = looked(stock.model.language_model.eval(), states, per_cell, ids, How(), windows)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-7)
    late = looked(stock.model.language_model, states, per_cell, lambda *n: ids(*n, gaps=True), How(), windows)
    assert (late / expected - 1).abs().max() > 1e-3


def test_further_questions_reuse_a_pass_and_are_answered_as_if_alone(qwen2: Qwen2) -> None:
    tokens, how = frames(8), {"windows": WINDOWS, "layers": range(1, 5)}
    asked = {"one": ([6, 7, 8, 9], 2), "two": ([20, 21, 22, 23, 24, 25, 26, 27, 28], 8), "three": ([6, 30, 8, 9], 4)}
    calls: list[int] = []
    hook = qwen2.text.register_forward_pre_hook(
        lambda _, __, kwargs: calls.append(kwargs["inputs_embeds"].shape[1]), with_kwargs=True
    )
    with torch.inference_mode():
        alone = {}
        for name, (tail, header) in asked.items():
            fresh = question_attention(qwen2, tokens, QCComp())
            fresh.set_question(HEAD, tail, header)
            alone[name] = fresh(range(8), **how)
        for order in (["one", "two", "three"], ["three", "one", "two", "one"]):
            calls.clear()
            shared = question_attention(qwen2, tokens, QCComp())
            for name in order:
                shared.set_question(HEAD, *asked[name])
                assert torch.equal(shared(range(8), **how), alone[name])
                assert shared.fed == len(HEAD) + 32 + len(asked[name][0])
            assert calls == [len(HEAD), 32, *(len(asked[name][0]) for name in dict.fromkeys(order))]
        # asking the same cells again counts the question's tokens alone
        once = shared.fed, shared.op_counts
        shared(range(8), **how)
        assert shared.fed == once[0] + len(asked["one"][0])
        assert shared.op_counts.projected == once[1].projected + 5 * len(asked["one"][0])
        # another prompt before the video is another pass
        shared.set_question([1, 2], *asked["one"])
        assert not torch.equal(shared(range(8), **how), alone["one"])
        assert calls[-3:] == [2, 32, 4]
    hook.remove()
    assert not torch.equal(alone["one"], alone["three"])


@pytest.mark.parametrize("block", [1, 2**30])
@pytest.mark.parametrize("method", [QCComp(), XComp(frame_ratio=1.0), XComp(frame_ratio=1.0, positions="renumber")])
def test_windows_are_scored_together_as_each_alone(
    method: QCComp, block: int, backbone: Qwen2VL, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the last bit, however many fit into memory at a time."""
    monkeypatch.setattr(window_attention, "BLOCK_BYTES", block)
    tokens = visual(backbone, frames=24)
    tail, windows, layers = list(range(6, 60)), [(0, 8), (2, 10), (4, 12)], range(1, backbone.layers)
    asking = question_attention(backbone, tokens, method)
    asking.set_question(HEAD, tail, 50)
    with torch.inference_mode():
        together = asking(range(12), windows=windows, layers=layers)
        alone = [asking(range(12), windows=[one], layers=layers) for one in windows]
    assert torch.equal(together, torch.cat(alone, 1))
    assert not torch.equal(together[:, 0], together[:, 1])


@dataclass(frozen=True, kw_only=True)
class Evicting(QCComp):
    """Half of every chunk leaves the cache."""

    def evict(self, chunk: LayerChunk) -> Evicted | None:
        return Evicted(index=torch.arange(0, chunk.keys.shape[1], 2))


def test_a_pass_never_evicts(qwen2: Qwen2) -> None:
    tokens, how = frames(8), {"windows": WINDOWS, "layers": range(6)}
    with torch.inference_mode():
        found, whole = (question_attention(qwen2, tokens, m, 2)(range(8), **how) for m in (Evicting(), QCComp()))
        context = qwen2.new_state()
        qwen2.prefill_video(context, tokens, Evicting(), limits(tokens, 6), chunk_cells=2)
    assert torch.equal(found, whole)
    assert context.visual == [16] * 6  # outside of a pass it does


def test_cells_are_read_in_the_order_given(qwen2: Qwen2) -> None:
    """Over the video's end and on at its start: as if the video were those cells."""
    tokens = frames(8)
    turned = tokens.features.view(8, 4, -1)[[6, 7, 0, 1, 2]].flatten(0, 1)
    video = VisualTokens.dense(turned, seconds=range(5), grid=(2, 2))
    how = {"windows": [(0, 3), (2, 5)], "layers": range(6)}
    with torch.inference_mode():
        found = question_attention(qwen2, tokens, XComp())([6, 7, 0, 1, 2], **how)
        # XComp's schedule is its own budget's, which is that of the whole video: at ratio 1 both drop nothing
        assert torch.equal(found, question_attention(qwen2, video, XComp())(range(5), **how))
        assert not torch.equal(found, question_attention(qwen2, tokens, XComp())(range(5), **how))


@pytest.mark.parametrize(
    ("cells", "changes", "message"),
    [
        (range(8), {"windows": [(0, 4), (4, 9)]}, "windows"),
        (range(8), {"windows": [(0, 4), (4, 6)]}, "one width"),
        (range(8), {"windows": []}, "windows"),
        ([], {"windows": [(0, 1)]}, r"cells in 0\.\.7"),
        ([0, 1, -1], {"windows": [(0, 1)]}, r"cells in 0\.\.7"),
        ([7, 8], {"windows": [(0, 1)]}, r"cells in 0\.\.7"),
        (range(8), {"layers": range(4, 7)}, r"layers .* 0\.\.5"),
        (range(8), {"layers": range(3, 3)}, r"layers .* 0\.\.5"),
        (range(8), {"skip": HEADER}, "a skip below the question.s 5 tokens"),
    ],
)
def test_wrong_questions_are_refused(qwen2: Qwen2, cells: Any, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(MethodError, match=message):
        question_attention(qwen2, frames(8), QCComp())(cells, **{"windows": [(0, 4)], "layers": range(6), **changes})


# ---- which cells a pass reads, and which of its scores count


@pytest.mark.parametrize(
    ("cells", "starts", "length"),
    [
        (1024, [0, 512, 260, 772], 576),  # source: released code
        (1100, [0, 512, 1024, 260, 772, 184], 576),
        (64, [0, 36], 128),
        (10, [0, 0], 96),  # 32 of 10: 4 + 16 is 20, twice around
    ],
)
def test_passes_by_hand(cells: int, starts: list[int], length: int) -> None:
    found = QCComp().passes(cells, 1)
    assert [p[0] for p in found] == starts
    assert all(len(p) == length for p in found)
    assert all((b - a) % cells == 1 % cells for p in found for a, b in itertools.pairwise(p))


def test_numbers_of_frames_become_cells() -> None:
    assert QCComp().sizes(2048, 1) == (8, 64, 32, 512)
    assert QCComp().sizes(2048, 2) == (4, 32, 16, 256)
    assert QCComp().sizes(40, 2) == (4, 32, 16, 48)
    assert [p[0] for p in QCComp().passes(512, 2)] == [0, 256, 130, 386]
    with pytest.raises(MethodError, match=r"a multiple of this backbone's 2 frames; got clip = 1$"):
        QCComp(clip=1).sizes(40, 2)


def scored(method: QCComp, cells: int) -> Tensor:
    """How often each cell is scored, (cells,)."""
    times = torch.zeros(cells, dtype=torch.long)
    for read in method.passes(cells, 1):
        clip, width, stride, _ = method.sizes(cells, 1)
        windows = [(at, at + width) for at in range(0, len(read) - width + 1, stride)]
        if method.segment == "global":
            windows = [(0, len(read))]
        scores = torch.zeros(1, len(windows), windows[0][1], dtype=torch.float64)
        _, valid = clips(scores, windows, len(read) // clip, clip)
        times += torch.tensor(read)[valid.repeat_interleave(clip)].bincount(minlength=cells)
    return times


@pytest.mark.parametrize("segment", ["local", "global"])
@pytest.mark.parametrize("repeats", [1, 2, 8])
def test_every_cell_is_scored_equally_often(segment: Any, repeats: int) -> None:
    method = QCComp(repeats=repeats, segment=segment)
    for cells in (32, 64, 512, 1024, 2048):
        assert scored(method, cells).tolist() == [repeats] * cells
    # where chunks do not divide the video the last one goes around; a cell's score is a mean
    uneven = scored(method, 1100)
    assert uneven.min() == repeats
    assert uneven.sum() == repeats * 3 * 512


@given(cells=st.integers(1, 1300), repeats=st.integers(1, 8))
@settings(max_examples=40, deadline=None)
def test_no_cell_is_forgotten(cells: int, repeats: int) -> None:
    assert scored(QCComp(repeats=repeats), cells).min() >= repeats


@given(
    cells=st.integers(1, 300),
    repeats=st.integers(1, 3),
    strides=st.integers(1, 6),
    chunks=st.integers(1, 8),
    clip=st.sampled_from([1, 2, 4]),
)
@settings(max_examples=60, deadline=None)
def test_windows_of_any_length_score_every_cell(cells: int, repeats: int, strides: int, chunks: int, clip: int) -> None:
    """A clip counts where as many windows cover it as there are strides in one, and margins make that every clip."""
    stride = 2 * clip
    method = QCComp(clip=clip, stride=stride, window=strides * stride, chunk=chunks * stride, repeats=repeats)
    assert scored(method, cells).min() >= repeats
    for read in method.passes(cells, 1):
        _, width, _, _ = method.sizes(cells, 1)
        windows = [(at, at + width) for at in range(0, len(read) - width + 1, stride)]
        _, valid = clips(torch.zeros(1, len(windows), width, dtype=torch.float64), windows, len(read) // clip, clip)
        # without the margins: window − stride on either side
        assert valid.nonzero()[:, 0].tolist() == list(
            range(*(m // clip for m in (width - stride, len(read) - width + stride)))
        )


def test_wide_windows_choose_by_what_the_question_looks_at() -> None:
    """With a margin of one stride 32 of 64 cells had no score here, and sorted before all others."""
    tokens = frames(64, grid=(1, 1), width=1)
    interest = torch.rand(64, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    method = QCComp(clip=1, stride=8, window=32, chunk=32, repeats=1)
    found = method.scores(64, limits(tokens, 4), looking(interest))
    torch.testing.assert_close(found, interest * sum(range(1, 1 + len(method.layers(4)))))
    chosen = method.select(tokens, limits(tokens, 4, 0.25), looking(interest))
    assert chosen.cell.tolist() == sorted(interest.topk(16).indices.tolist())


@pytest.mark.parametrize("lost", [torch.nan, torch.inf])
def test_a_score_that_is_no_number_is_refused(lost: float) -> None:
    tokens = frames(64, grid=(1, 1), width=1)
    interest = torch.ones(64, dtype=torch.float64)
    interest[40] = lost
    with pytest.raises(MethodError, match="a finite score for each of 64 cells, got none for 1 of them, first cell 40"):
        QCComp(clip=1, stride=8, window=16, chunk=16).select(tokens, limits(tokens, 4, 0.25), looking(interest))


def test_margins_and_means_by_hand() -> None:
    """Clips of 2 cells, windows of 4 every 2: the first and the last clip lie in one window, the others in two."""
    cells = torch.arange(12.0, dtype=torch.float64).view(1, 3, 4)
    found, valid = clips(cells, [(0, 4), (2, 6), (4, 8)], 4, 2)
    assert found.tolist() == [[0.5, (2.5 + 4.5) / 2, (6.5 + 8.5) / 2, 10.5]]
    assert valid.tolist() == [False, True, True, False]


def looking(interest: Tensor) -> AttentionFromQuestion:
    """An `ask` that answers with what is known of each cell, twice as much in the second of its layers."""

    def attention_from_question(
        cells: Sequence[int], *, windows: Sequence[tuple[int, int]], layers: range, **_: Any
    ) -> Tensor:
        of_cell = interest[torch.tensor(list(cells))]
        found = torch.stack([of_cell[a:b] for a, b in windows])
        return torch.stack([found * (i + 1) for i, _ in enumerate(layers)])

    return attention_from_question


def test_scores_are_summed_over_layers_and_averaged_over_passes_and_clips() -> None:
    tokens = frames(64, grid=(1, 1), width=1)
    interest = torch.rand(64, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    method = QCComp(first_layer=1, last_layer=2, repeats=1)
    found = method.scores(64, limits(tokens, 4), looking(interest))
    expected = interest.view(8, 8).mean(1).repeat_interleave(8) * 3
    torch.testing.assert_close(found, expected)
    # clips of the second pass lie 4 cells off: scores are constant on blocks of 4
    twice = QCComp(first_layer=1, last_layer=2).scores(64, limits(tokens, 4), looking(interest))
    shifted = interest.roll(-4).view(8, 8).mean(1).repeat_interleave(8).roll(4) * 3
    torch.testing.assert_close(twice, (expected + shifted) / 2)


@pytest.mark.parametrize("ratio", [0.1, 0.25, 0.5, 0.9])
def test_the_best_cells_go_on_in_time_order(ratio: float) -> None:
    tokens = frames(64, grid=(2, 2), width=1)
    interest = torch.rand(64, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    budget = limits(tokens, 4, ratio)
    chosen = QCComp(clip=1, stride=8, window=16, chunk=16).select(tokens, budget, looking(interest))
    kept = round(64 * ratio)
    best = sorted(interest.topk(kept).indices.tolist())
    assert chosen.cell.tolist() == [cell for cell in best for _ in range(4)]
    assert chosen.place.tolist() == [0, 1, 2, 3] * kept
    assert (chosen.slot.tolist(), chosen.span) == ([i for i in range(kept) for _ in range(4)], kept)
    assert torch.equal(chosen.features, tokens.features[[4 * cell + place for cell in best for place in range(4)]])
    late = QCComp(clip=1, stride=8, window=16, chunk=16, times="true_time").select(tokens, budget, looking(interest))
    assert torch.equal(late.slot, chosen.cell)
    assert late.span is None


def test_among_equals_the_first_go_on() -> None:
    tokens = frames(16, grid=(1, 1), width=1)
    chosen = QCComp(**SMALL).select(tokens, limits(tokens, 4, 0.25), looking(torch.ones(16, dtype=torch.float64)))
    assert chosen.cell.tolist() == [0, 1, 2, 3]


def test_nothing_is_asked_where_everything_goes_on() -> None:
    def never(*_: Any, **__: Any) -> Tensor:
        raise AssertionError

    tokens = frames(16, grid=(1, 1), width=1)
    assert QCComp().select(tokens, limits(tokens, 4), never) is tokens


def test_layers_are_the_released_ones_and_scale() -> None:
    assert QCComp().layers(28) == range(6, 24)
    assert QCComp().layers(6) == range(1, 5)
    assert QCComp(first_layer=0, last_layer=27).layers(28) == range(28)
    with pytest.raises(MethodError, match=r"layers in 0\.\.5"):
        QCComp(last_layer=6).layers(6)


@pytest.mark.parametrize("wrong", [{"stride": 12}, {"window": 40}, {"chunk": 40}, {"repeats": 0}, {"skip": -1}])
def test_wrong_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(MethodError, match="stride in multiples of clip"):
        QCComp(**wrong)


def test_tokens_that_were_thinned_before_are_refused(qwen2: Qwen2) -> None:
    tokens = frames(16)
    thinned = tokens.keep(torch.arange(0, 64, 2))
    with pytest.raises(MethodError, match=r"whole cells: expected 16 of \(2, 2\) tokens, got 32"):
        QCComp(**SMALL).select(thinned, limits(tokens, 6, 0.5), looking(torch.ones(16)))
    with pytest.raises(MethodError, match="reads whole cells: expected 16 cells"):
        question_attention(qwen2, thinned, QCComp())


# ---- through the engine


@dataclass(frozen=True, kw_only=True)
class Forgetful(Method):
    """Asks without saying so."""

    def select(
        self, tokens: VisualTokens, budget: Budget, attention_from_question: AttentionFromQuestion
    ) -> VisualTokens:
        attention_from_question(range(4), windows=[(0, 4)], layers=range(2))
        return tokens


GRID = [
    OperatingPoint("qccomp", QCComp(**SMALL), 0.5),
    OperatingPoint("global", QCComp(**SMALL, segment="global"), 0.25),
    OperatingPoint("xcomp", XComp(**SMALL), 0.25),
    OperatingPoint("evicting", Evicting(**SMALL), 0.5),
]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return videos.make(tmp_path_factory.mktemp("clip") / "clip.mp4", frames=60, size=(112, 112))


@pytest.mark.slow
def test_sharing_changes_nothing_and_each_frame_is_encoded_once(
    clip: Path, backbone: Qwen2VL, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[int] = []
    encode = Qwen2VL.encode

    def counting(self: Qwen2VL, pixels: np.ndarray, *, slice_cells: int) -> Tensor:
        encoded.append(len(pixels))
        return encode(self, pixels, slice_cells=slice_cells)

    monkeypatch.setattr(Qwen2VL, "encode", counting)
    questions = [question(clip, n) for n in range(3)]
    shared = answer(engine(backbone, frames=16), GRID, questions)
    assert encoded == [16]
    alone = answer(engine(backbone, frames=16, share=False), GRID, questions)
    assert {key: answer_key(a) for key, a in shared.items()} == {key: answer_key(a) for key, a in alone.items()}
    assert len({a.text for a in shared.values()}) > 3


def test_the_ledger_counts_the_passes(clip: Path, backbone: Qwen2VL) -> None:
    """16 frames are 8 cells of 16 tokens; clip, window, stride and chunk of 1, 4, 2 and 8 cells."""
    found = answer(engine(backbone, frames=16), GRID[:3], [question(clip, 0)])
    head, tail = map(len, backbone.prompt("How many objects appear?\none two", video=True))
    spent = {name: a.ledger for (name, _, _), a in found.items()}
    # two passes of a chunk with a margin of a stride on either side, or of a chunk alone
    for name, cells, kept in (("qccomp", 8 + 4, 4), ("global", 8, 2)):
        ledger = spent[name]
        assert ledger is not None
        assert (ledger.tokens_encoded, ledger.tokens_selected, ledger.ratio_achieved) == (128, 16 * kept, kept / 8)
        generated = ledger.llm_tokens_fed - 2 * (head + 16 * cells + tail) - (head + 16 * kept + tail)
        assert 0 <= generated <= 5
    ledger = spent["xcomp"]
    assert ledger is not None
    assert ledger.ratio_achieved == pytest.approx(0.25, rel=0.02)
    generated = ledger.llm_tokens_fed - 2 * (head + 16 * 12 + tail) - (head + ledger.tokens_selected + tail)
    assert 0 <= generated <= 5


def test_who_asks_must_say_so(clip: Path, backbone: Qwen2VL) -> None:
    (row,) = answer(
        engine(backbone, frames=16), [OperatingPoint("forgetful", Forgetful(), 0.5)], [question(clip, 0)]
    ).values()
    assert row.status == "failed"
    assert "Forgetful.select() calls attention_from_question(), but its `query_aware` is False" in str(row.error)
