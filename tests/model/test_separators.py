"""Tokens between visual tokens: where they stand, when they go, what counts them, and that no method sees them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor
from transformers import Qwen2ForCausalLM

from evalkit.method import Budget, Method, PruneView
from evalkit.model.decoder import Decoder
from evalkit.model.positions import RopePositions, rotate
from evalkit.model.prefill_state import PrefillState
from evalkit.model.question_attention import QuestionAttention
from evalkit.model.separators import SequenceLayout, ending, newlines
from evalkit.tune import forward, states
from evalkit.types import Evicted, LayerChunk, Pruned, VisualTokens
from methods.lpcomp import LPComp
from methods.pivotkv import PivotKV
from tests.support.flop_counter import counted
from tests.support.separated import WORDS, Entry, Separated, by_hand, separated
from tests.support.small_qwen2 import HEAD, TAIL, attached, frames, limits, plain

CHUNK = 2  # cells
EMPTY_ROW = 3  # row of the video that is dropped whole: the second of frame 1


@pytest.fixture(scope="module")
def stock() -> Qwen2ForCausalLM:
    return plain()


@pytest.fixture(scope="module")
def decoder(stock: Qwen2ForCausalLM) -> Separated:
    return separated(stock)


@pytest.fixture(scope="module")
def video() -> VisualTokens:
    return frames(5, grid=(2, 3))


def fed(
    decoder: Decoder, video: VisualTokens, method: Method, ratio: float = 1.0, chunk_cells: int | None = CHUNK
) -> PrefillState:
    state = decoder.new_state()
    with torch.inference_mode():
        decoder.prefill_text(state, HEAD)
        decoder.prefill_video(state, video, method, limits(video, decoder.layers, ratio), chunk_cells=chunk_cells)
    return state


def logits(decoder: Decoder, state: PrefillState) -> Tensor:
    with torch.inference_mode():
        return decoder.logits(decoder.prefill_text(state, TAIL))


def stock_logits(
    stock: Qwen2ForCausalLM, entries: list[Entry], hidden: Callable[[int, Entry, Entry], bool] | None = None
) -> Tensor:
    """Of the last entry, by one plain forward; `hidden`: (layer, looking, looked at) -> whether it may not look."""
    size, handles = len(entries), []
    for number, layer in enumerate(stock.model.layers):
        seen = torch.ones(size, size).tril().bool()
        if hidden is not None:
            seen &= ~torch.tensor([[hidden(number, a, b) for b in entries] for a in entries])
        mask = torch.zeros(size, size).masked_fill(~seen, -torch.inf)[None, None]
        handles.append(
            layer.register_forward_pre_hook(
                lambda _, args, kwargs, mask=mask: (args, {**kwargs, "attention_mask": mask}), with_kwargs=True
            )
        )
    try:
        with torch.inference_mode():
            return stock(inputs_embeds=torch.stack([e.embed for e in entries])[None]).logits[0, -1]
    finally:
        for handle in handles:
            handle.remove()


@pytest.mark.parametrize("chunk_cells", [None, 1, 2, 3])
def test_the_sequence_is_that_of_a_plain_forward(
    stock: Qwen2ForCausalLM, decoder: Separated, video: VisualTokens, chunk_cells: int | None
) -> None:
    state = fed(decoder, video, Method(), chunk_cells=chunk_cells)
    entries = by_hand(stock, video, 1)
    assert state.next_id == len(entries) - len(TAIL)
    found = logits(decoder, state)
    torch.testing.assert_close(found, stock_logits(stock, entries), rtol=0, atol=1e-4)
    # negative controls: newlines in front of their rows; none of it
    swapped = [*entries]
    first = next(i for i, e in enumerate(entries) if e.row == 0)
    swapped[first : first + 4] = [swapped[first + 3], *swapped[first : first + 3]]
    assert (found - stock_logits(stock, swapped)).abs().max() > 1e-3
    assert (found - logits(attached(stock), fed(attached(stock), video, Method()))).abs().max() > 1e-3


def test_order_rows_and_ids_by_hand(decoder: Separated, video: VisualTokens) -> None:
    part = video.keep(torch.tensor([0, 1, 2, 5, 6, 24, 28]))  # rows 0, 1, 2, 8, 9 of frames 0, 0, 1, 4, 4
    between = decoder.separators(part)
    assert between is not None
    words, n = list(WORDS), 63
    expected = [*words, -1, -1, -1, n, -1, n, *words, -1, n, *words, -1, n, -1, n]
    found = between.read_as(len(part), 99)
    assert [99 if token == -1 else token for token in expected] == found
    assert between.read_as(len(part), None) == [token for token in expected if token != -1]
    layout = SequenceLayout.of(part, between)
    assert layout.visual.tolist() == [token == -1 for token in expected]
    # tokens 1 and 5 of 7 stay: rows 0 and 8 with their newlines, and all words
    stay = layout.entries(torch.tensor([1, 5]))
    assert stay.tolist() == [0, 1, 3, 5, 8, 9, 12, 13, 14, 15]
    assert layout.keep(stay).entries(torch.tensor([1])).tolist() == [0, 1, 4, 5, 6, 7, 8, 9]
    assert between.beside(torch.tensor([3, 4])).read_as(2, 99) == [99, n, *words, 99, n]
    assert between.positions_beside(torch.tensor([3, 4])).tolist() == [6, 7, 8, 9, 10, 11]


def test_newlines_and_one_at_the_end(video: VisualTokens) -> None:
    lines, last = newlines(video, torch.ones(32)), ending(video, torch.ones(32))
    assert lines.anchor.tolist() == list(range(2, 30, 3))
    assert (last.order(30).tolist()[-1], len(last)) == (0, 1)
    layout = SequenceLayout.of(video, last)
    assert layout.entries(torch.tensor([4])).tolist() == [4, 30]  # it stays whatever is dropped


@dataclass(frozen=True, kw_only=True)
class DropRow(Method):
    """From layer `at` on without one row, and without every other token of the rest."""

    at: int
    renumber: bool = False
    seen: list[int] = field(default_factory=list, compare=False)  # tokens that each call was shown

    @staticmethod
    def keeps(tokens: VisualTokens) -> Tensor:
        row = tokens.slot * tokens.grid[0] + tokens.place // tokens.grid[1]
        return (row != EMPTY_ROW) & ((tokens.place % 2 == 0) | (row % 3 == 0))

    def prune(self, layer: int, layers: int, tokens: VisualTokens, budget: Budget, view: PruneView) -> Pruned | None:
        self.seen.append(len(tokens))
        if layer != self.at:
            return None
        return Pruned(index=self.keeps(tokens).nonzero()[:, 0], renumber=self.renumber)


def test_a_newline_goes_with_its_row_where_tokens_are_pruned(
    stock: Qwen2ForCausalLM, decoder: Separated, video: VisualTokens
) -> None:
    kept = set(DropRow.keeps(video).nonzero()[:, 0].tolist())
    lines = {n // 3 for n in kept}
    assert EMPTY_ROW not in lines
    assert len(lines) == 9

    def gone(layer: int, at: Entry, newline_stays: bool = False) -> bool:
        if layer < 3:
            return False
        return at.token not in kept if at.token is not None else at.row == EMPTY_ROW and not newline_stays

    method = DropRow(at=3)
    state = fed(decoder, video, method)
    assert set(method.seen) <= {12, 6, *range(3, 12)}  # visual tokens of chunks of two cells and one
    entries = by_hand(stock, video, CHUNK)
    found = logits(decoder, state)
    expected = stock_logits(stock, entries, lambda layer, a, b: a is not b and gone(layer, b))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
    wrong = stock_logits(stock, entries, lambda layer, a, b: a is not b and gone(layer, b, newline_stays=True))
    assert (found - wrong).abs().max() > 1e-4  # negative control
    assert state.visual == [30] * 3 + [len(kept)] * 3
    assert state.separators == [20] * 3 + [19] * 3


def test_pruned_before_the_first_layer_it_is_as_if_never_there(
    stock: Qwen2ForCausalLM, decoder: Separated, video: VisualTokens
) -> None:
    """Numbered anew: the plain forward over what is left; so is what `select` hands over."""
    keeps = DropRow.keeps(video)
    entries = by_hand(stock, video, CHUNK, set(keeps.nonzero()[:, 0].tolist()))
    expected = stock_logits(stock, entries)
    found = logits(decoder, fed(decoder, video, DropRow(at=0, renumber=True)))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
    selected = video.keep(keeps.nonzero()[:, 0])
    torch.testing.assert_close(logits(decoder, fed(decoder, selected, Method())), expected, rtol=0, atol=1e-4)


@dataclass(frozen=True, kw_only=True)
class EvictRow(Method):
    """Layer l's cache loses the places l modulo 3 of each chunk; layer 2 its second chunk's first row, too."""

    seen: list[tuple[int, ...]] = field(default_factory=list, compare=False)

    @staticmethod
    def keeps(layer: int, size: int) -> Tensor:
        places = torch.arange(size)
        return (places % 3 != layer % 3) & ((places >= 3) | (layer != 2))

    def evict(self, chunk: LayerChunk) -> Evicted | None:
        size = chunk.keys.shape[1]
        self.seen.append((size, chunk.queries.shape[1], chunk.positions.shape[1], len(chunk.protected), chunk.max_keep))
        return Evicted(index=self.keeps(chunk.layer, size).nonzero()[:, 0])


def test_a_newline_goes_with_its_row_where_the_cache_is_cut(
    stock: Qwen2ForCausalLM, decoder: Separated, video: VisualTokens
) -> None:
    def gone(layer: int, a: Entry, b: Entry, rows: bool = True) -> bool:
        if b.chunk in (-1, 10**6) or a.chunk == b.chunk or b.row is None:
            return False
        first = b.chunk * CHUNK * 6
        if b.token is not None:
            return not bool(EvictRow.keeps(layer, 12)[b.token - first])
        return rows and layer == 2 and b.row == first // 3

    method = EvictRow()
    state = fed(decoder, video, method)
    entries = by_hand(stock, video, CHUNK)
    found = logits(decoder, state)
    torch.testing.assert_close(found, stock_logits(stock, entries, gone), rtol=0, atol=1e-4)
    wrong = stock_logits(stock, entries, lambda layer, a, b: gone(layer, a, b, rows=False))
    assert (found - wrong).abs().max() > 1e-4  # negative control
    # the method saw visual tokens alone, at a budget of visual tokens alone
    assert set(method.seen) == {(12,) * 5, (6,) * 5}
    assert state.visual == [20, 20, 14, 20, 20, 20]
    assert state.separators == [20, 20, 17, 20, 20, 20]
    assert state.lengths[2] == len(HEAD) + 14 + 17 + len(TAIL)


def test_new_ids_of_separators_by_hand() -> None:
    positions = RopePositions(None)
    visual = torch.tensor([False, True, True, False, True, False, False, True, False, False])
    old = torch.tensor([[10, 12, 13, 15, 18, 20, 21, 28, 30, 33]])
    # squeezed to half from 12 on: 12, 12, 15, 20
    new = torch.tensor([[12, 12, 15, 20]])
    # 10 stands before; 15 at 2/5 from 12 to 15: 13; 20 and 21 at 2/10 and 3/10 from 15 to 20: 16, 16; then on
    expected = [[10, 12, 12, 13, 15, 16, 16, 20, 21, 22]]
    assert positions.with_separators(old, visual, new).tolist() == expected
    assert positions.with_separators(old, visual, old[:, visual]).tolist() == old.tolist()
    lower = positions.with_separators(old, visual, new - 4)
    assert lower[0, :2].tolist() == [8, 8]  # never behind the first visual token


@pytest.mark.parametrize("ratio", [0.5, 0.3])
def test_keys_of_separators_are_rotated_to_their_new_ids(
    stock: Qwen2ForCausalLM, decoder: Separated, video: VisualTokens, ratio: float
) -> None:
    """In the first layer a key depends on its own embedding and id alone."""
    state = fed(decoder, video, PivotKV(), ratio)
    between = decoder.separators(video)
    assert between is not None
    layer = stock.model.layers[0]
    with torch.inference_mode():
        embeds = torch.cat([stock.model.embed_tokens(torch.tensor(HEAD)), between.interleave(video.features)])
        keys = layer.self_attn.k_proj(layer.input_layernorm(embeds)).view(len(embeds), 2, 8).transpose(0, 1)
        ids = state.positions[0]
        cos, sin = stock.model.rotary_emb(keys, ids)
        stored = state.layers[0].keys[0]
        # which entry each stored key is: the one whose rotation to the stored id fits
        for at in range(ids.shape[1]):
            turned = rotate(keys, cos[:, at].expand(len(embeds), -1), sin[:, at].expand(len(embeds), -1))
            assert float((turned - stored[:, at : at + 1]).abs().amax((0, 2)).min()) < 1e-4
    assert bool((ids[0, 1:] >= ids[0, :-1]).all())
    assert state.visual[0] == round(30 * ratio)
    assert state.separators[0] < 20
    assert sum(state.visual) == int(state.visual_per_cell.sum())


def test_what_follows_continues_after_them(decoder: Separated, video: VisualTokens) -> None:
    state = fed(decoder, video, PivotKV(), 0.5)
    last, mark = [int(p[0, -1]) for p in state.positions], state.mark()
    counts = list(state.separators)
    logits(decoder, state)
    assert [int(p[0, -len(TAIL)]) for p in state.positions] == [n + 1 for n in last]
    state.rewind(mark)
    assert (state.separators, state.separators_fed) == (counts, 20)


@pytest.mark.parametrize(
    ("method", "ratio"), [(Method(), 1.0), (LPComp(), 0.4), (DropRow(at=2), 1.0), (PivotKV(), 0.3)], ids=str
)
def test_operations_are_those_that_torch_counts(
    decoder: Separated, video: VisualTokens, method: Method, ratio: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    with torch.inference_mode(), counted(monkeypatch) as counter:
        state = fed(decoder, video, method, ratio)
        decoder.next_token(state, decoder.prefill_text(state, TAIL))
    assert decoder.flops(state.op_counts) == counter.get_total_flops()


@dataclass(frozen=True, kw_only=True)
class Asking(Method):
    """May ask."""

    @property
    def query_aware(self) -> bool:
        return True


@pytest.mark.parametrize("positions", ["renumber", "keep"])
@pytest.mark.parametrize("keep", ["suffix", "uniform"])
def test_tuning_reads_the_same_sequence(decoder: Separated, video: VisualTokens, keep: str, positions: str) -> None:
    method = LPComp(keep=keep, positions=positions, frame_ratio=1.0)  # type: ignore[arg-type]
    budget = limits(video, decoder.layers)
    with torch.inference_mode():
        schedule = forward.prune_schedule(
            decoder, method, video, budget, n_prefix=len(HEAD), suffix_shape=(1, len(TAIL))
        )
        fed_once = forward.sequence(decoder, video)[None]
        embeds = forward.embed(decoder, torch.tensor(HEAD), fed_once, torch.tensor([[TAIL]]))
        found = decoder.logits(forward.forward(decoder, schedule, embeds)[0, 0, -1])
        # negative control: the newlines' embeddings are swapped with zeros
        blank = embeds.masked_fill((embeds == Separated.newline).all(-1, keepdim=True), 0.0)
        wrong = decoder.logits(forward.forward(decoder, schedule, blank)[0, 0, -1])
    expected = logits(decoder, fed(decoder, video, method, chunk_cells=None))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
    torch.testing.assert_close(logits(decoder, fed(decoder, video, method, chunk_cells=1)), expected, rtol=0, atol=1e-4)
    assert (found - wrong).abs().max() > 1e-3
    assert schedule.counts[0] == 50
    assert schedule.counts[-1] == 5 + 15  # one token a frame, two words, one newline


def test_a_question_attends_to_visual_tokens_alone(
    stock: Qwen2ForCausalLM, decoder: Separated, video: VisualTokens
) -> None:
    asks = QuestionAttention(decoder, video, Asking(), limits(video, decoder.layers), chunk_cells=CHUNK)
    asks.set_question(HEAD, TAIL, header=len(TAIL))
    with torch.inference_mode():
        read = asks._shared.passes[asks._pass([3, 0, 1], range(2))]
        embeds = torch.cat([stock.model.embed_tokens(torch.tensor(HEAD)), read_features(video, [3, 0, 1])])
        layer = stock.model.layers[0]
        keys = layer.self_attn.k_proj(layer.input_layernorm(embeds)).view(len(embeds), 2, 8).transpose(0, 1)
        found = asks([3, 0, 1], windows=[(0, 3)], layers=range(2))
    torch.testing.assert_close(read.keys[0], keys, rtol=0, atol=1e-4)
    assert read.n_tokens == len(HEAD) + 18 + 12  # three frames with two words and two newlines each
    assert asks.fed == read.n_tokens + len(TAIL)
    assert found.shape == (2, 1, 3)
    # the deeper layer has seen the separators: without them it attends otherwise
    bare = QuestionAttention(attached(stock), video, Asking(), limits(video, decoder.layers), chunk_cells=CHUNK)
    bare.set_question(HEAD, TAIL, header=len(TAIL))
    with torch.inference_mode():
        other = bare([3, 0, 1], windows=[(0, 3)], layers=range(2))
    assert not torch.allclose(found[1], other[1], atol=1e-5)


def read_features(video: VisualTokens, cells: list[int]) -> Tensor:
    return torch.cat([video.features[6 * cell : 6 * cell + 6] for cell in cells])


def relative(found: Tensor, target: Tensor) -> Tensor:
    return (found - target).square().mean() / target.square().mean()


def test_in_tuning_on_states_separators_are_a_kind_of_their_own(decoder: Separated, video: VisualTokens) -> None:
    depth, method = 4, LPComp(frame_ratio=1.0)
    budget = limits(video, decoder.layers)
    schedule, dense = (
        forward.prune_schedule(decoder, m, video, budget, n_prefix=len(HEAD), suffix_shape=(1, len(TAIL)))
        for m in (method, Method())
    )
    own = torch.eye(6).expand(1, 5, 6, 6)  # every visual token's target is its own state
    with torch.no_grad():
        embeds = forward.embed(
            decoder, torch.tensor(HEAD), forward.sequence(decoder, video)[None], torch.tensor([[TAIL]])
        )
        frozen = states.frozen_layers(decoder, depth)
        found = states.loss(decoder, frozen, (schedule, dense), embeds, own, torch.ones(1, 1, len(TAIL)).bool())
        layers = list(frozen)
        goals = [*forward.layer_states(decoder, dense, embeds, layers)][1:]
        seen = [*forward.layer_states(decoder, schedule, embeds, layers)][1:]
    kept, expected = torch.arange(50), torch.zeros(())
    for number, (state, goal) in enumerate(zip(seen, goals, strict=True), 1):
        index = schedule.kept_index[number]
        kept = kept if index is None else kept[index]
        visual = schedule.visual[kept]
        video_goal, video_state = goal[:, 5:55][:, kept], state[:, 5:-4]
        kinds = [(video_state[:, visual], video_goal[:, visual]), (video_state[:, ~visual], video_goal[:, ~visual])]
        kinds += [(state[:, :5], goal[:, :5]), (state[:, -4:], goal[:, -4:])]
        expected = expected + sum(relative(*kind) for kind in kinds)
    torch.testing.assert_close(found, expected)
    assert found > 0
