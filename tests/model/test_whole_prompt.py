"""Prefix, video and question in one feed: the answer of a chunked one, and what `prune` may look at there."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from torch import Tensor
from transformers import Qwen2ForCausalLM

from evalkit.errors import MethodError
from evalkit.method import Budget, Method, OperatingPoint, PruneView
from evalkit.model.decoder import Decoder
from evalkit.model.load import load
from evalkit.model.prefill_state import PrefillState
from evalkit.types import Evicted, LayerChunk, Pruned, VisualTokens
from methods.fastv import FastV
from methods.pivotkv import PivotKV
from tests.support import clips
from tests.support.closeness import RTOL, apart
from tests.support.loop import engine, question
from tests.support.separated import separated
from tests.support.small_qwen2 import HEAD, TAIL, attached, frames, limits
from tests.support.visual_tokens import visual


@dataclass(frozen=True, kw_only=True)
class Whole(Method):
    """Everything, in one feed."""

    whole: ClassVar[bool] = True


@dataclass(frozen=True, kw_only=True)
class Looking(Whole):
    """Drops nothing, and keeps what it is shown."""

    between: ClassVar[bool] = True
    ahead: list[Tensor] = field(default_factory=list, compare=False)
    ran: list[Tensor] = field(default_factory=list, compare=False)

    def prune(self, layer: int, layers: int, tokens: VisualTokens, budget: Budget, view: PruneView) -> Pruned | None:
        (self.ran if view.between else self.ahead).append(
            view.last_attention() if view.between else view.next_attention()
        )
        assert view.states.shape == (len(tokens), tokens.features.shape[1])
        return None


@dataclass(frozen=True, kw_only=True)
class DropBetween(Whole):
    """Drops the first token before the MLP of layer 1."""

    between: ClassVar[bool] = True

    def prune(self, layer: int, layers: int, tokens: VisualTokens, budget: Budget, view: PruneView) -> Pruned | None:
        return Pruned(index=torch.arange(1, len(tokens)), renumber=False) if view.between and layer == 1 else None


def fed(decoder: Decoder, tokens: VisualTokens, method: Method) -> tuple[PrefillState, Tensor]:
    """State and logits after the prompt."""
    state = decoder.new_state()
    with torch.inference_mode():
        if method.whole:
            hidden = decoder.prefill_whole(state, HEAD, tokens, TAIL, method, budget(decoder, tokens))
        else:
            decoder.prefill_text(state, HEAD)
            decoder.prefill_video(state, tokens, method, budget(decoder, tokens), chunk_cells=2)
            hidden = decoder.prefill_text(state, TAIL)
        return state, decoder.logits(hidden)


def budget(decoder: Decoder, tokens: VisualTokens) -> Budget:
    return limits(tokens, decoder.layers)


@pytest.fixture(params=["qwen2", "separated", "qwen3"])
def decoder_and_tokens(request: pytest.FixtureRequest) -> tuple[Decoder, VisualTokens]:
    """RoPE; RoPE with separators; M-RoPE with text between cells, deepstack features and normed queries."""
    if request.param == "qwen3":
        family = load(str(request.getfixturevalue("qwen3")), device="cpu")
        return family, visual(family, frames=6)
    stock: Qwen2ForCausalLM = request.getfixturevalue("stock")
    return (attached(stock) if request.param == "qwen2" else separated(stock)), frames()


def test_equals_a_chunked_feed(decoder_and_tokens: tuple[Decoder, VisualTokens]) -> None:
    decoder, tokens = decoder_and_tokens
    whole, mine = fed(decoder, tokens, Whole())
    chunked, theirs = fed(decoder, tokens, Method())
    assert apart(mine, theirs) < RTOL
    assert all(map(torch.equal, whole.positions, chunked.positions))
    assert (whole.visual, whole.separators, whole.next_id) == (chunked.visual, chunked.separators, chunked.next_id)
    assert torch.equal(whole.read, chunked.read)
    assert torch.equal(whole.visual_per_cell, chunked.visual_per_cell)


def test_attention_ahead_is_what_the_layer_then_computes(decoder_and_tokens: tuple[Decoder, VisualTokens]) -> None:
    """From a layer's own weights and from what it did: two ways to one row, with all text in its softmax."""
    decoder, tokens = decoder_and_tokens
    method = Looking()
    _, logits = fed(decoder, tokens, method)
    assert apart(logits, fed(decoder, tokens, Method())[1]) < RTOL
    assert len(method.ahead) == len(method.ran) == decoder.layers
    for ahead, ran in zip(method.ahead, method.ran, strict=True):
        assert ahead.shape == (len(tokens),)
        assert torch.allclose(ahead, ran, atol=1e-6)
        assert 0 < float(ran.sum()) < 1


def test_attention_is_that_of_the_stock_model(stock: Qwen2ForCausalLM) -> None:
    tokens, method = frames(), Looking()
    fed(attached(stock), tokens, method)
    embed = stock.model.embed_tokens
    with torch.inference_mode():
        prompt = torch.cat([embed(torch.tensor(HEAD)), tokens.features, embed(torch.tensor(TAIL))])
        found = stock(inputs_embeds=prompt[None], output_attentions=True).attentions
    for ran, theirs in zip(method.ran, found, strict=True):
        assert torch.allclose(ran, theirs[0, :, -1, len(HEAD) : -len(TAIL)].mean(0), atol=1e-6)


def test_a_cut_before_the_mlp(stock: Qwen2ForCausalLM) -> None:
    """The layer's cache has the token, its MLP and later layers do not; the rest is as if it had been masked away."""
    tokens = frames()
    state, logits = fed(attached(stock), tokens, DropBetween())
    entries = len(HEAD) + len(tokens) + len(TAIL)
    assert state.lengths == (entries, entries, *(entries - 1,) * 4)
    assert state.op_counts.transformed == 6 * entries - 5
    assert state.op_counts.projected == 6 * entries - 4
    embed, dropped = stock.model.embed_tokens, len(HEAD)
    prompt = torch.cat([embed(torch.tensor(HEAD)), tokens.features, embed(torch.tensor(TAIL))])

    def masked(layer: int) -> Tensor:
        mask = torch.full((entries, entries), -torch.inf).triu(1)
        if layer > 1:
            mask[dropped + 1 :, dropped] = -torch.inf
        return mask[None, None]

    with torch.inference_mode():
        hidden, ids = prompt[None], torch.arange(entries)[None]
        rotary = stock.model.rotary_emb(hidden, ids)
        for i, layer in enumerate(stock.model.layers):
            hidden = layer(hidden, attention_mask=masked(i), position_embeddings=rotary)
        theirs = stock.lm_head(stock.model.norm(hidden))[0, -1]
    assert apart(logits, theirs) < RTOL


@dataclass(frozen=True, kw_only=True)
class NotDeclared(Method):
    """Reads attention in a chunked feed."""

    def prune(self, layer: int, layers: int, tokens: VisualTokens, budget: Budget, view: PruneView) -> Pruned | None:
        view.last_attention()
        return None


@dataclass(frozen=True, kw_only=True)
class TooSoon(Whole):
    """Reads what has not happened yet."""

    def prune(self, layer: int, layers: int, tokens: VisualTokens, budget: Budget, view: PruneView) -> Pruned | None:
        view.last_attention()
        return None


@dataclass(frozen=True, kw_only=True)
class WrongStates(Whole):
    """Fewer states than tokens."""

    def prune(self, layer: int, layers: int, tokens: VisualTokens, budget: Budget, view: PruneView) -> Pruned | None:
        return Pruned(index=torch.arange(len(tokens)), states=view.states[1:])


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (NotDeclared(), r"view\.last_attention\(\).*declare it: whole"),
        (TooSoon(), "before layer 0, when no attention has run"),
        (WrongStates(), "a state for each of the 20 tokens"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Method) else "",
)
def test_what_is_not_there_is_said(method: Method, message: str, stock: Qwen2ForCausalLM) -> None:
    with pytest.raises(MethodError, match=message):
        fed(attached(stock), frames(), method)


def test_each_question_has_a_feed_of_its_own(checkpoint: Path, tmp_path: Path) -> None:
    """Together as alone; the state of one question is none of the next one's."""
    backbone = load(str(checkpoint), device="cpu")
    clip = clips.make(tmp_path / "clip.mp4", frames=64, size=(112, 112))
    point, asked = OperatingPoint("fastv", FastV(), 0.5), [question(clip, n) for n in range(2)]
    together = [a for _, a in engine(backbone, frames=8).answers({point: asked})]
    apart_ = [a for _, a in engine(backbone, frames=8, share=False).answers({point: asked})]
    assert [a.error for a in together] == [None, None]
    assert [(a.text, a.margin, a.ledger and a.ledger.flops) for a in together] == [
        (a.text, a.margin, a.ledger and a.ledger.flops) for a in apart_
    ]
    assert together[0].ledger is not None
    assert together[0].ledger.flops is not None
    # nothing of a feed that has the question in it is another question's, but encoding is
    assert together[0].ledger.own_flops == together[0].ledger.flops.prefill + together[0].ledger.flops.generate


@dataclass(frozen=True, kw_only=True)
class Late(Whole):
    """Keeps every other token in each layer's cache, when all has been read."""

    def evict(self, chunk: LayerChunk) -> Evicted:
        return Evicted(index=torch.arange(0, chunk.keys.shape[1], 2))


def test_what_acts_after_the_whole_prompt_changes_no_first_token(stock: Qwen2ForCausalLM) -> None:
    decoder, tokens = attached(stock), frames()
    state, logits = fed(decoder, tokens, Late())
    assert torch.equal(logits, fed(decoder, tokens, Whole())[1])
    assert state.lengths == (len(HEAD) + len(tokens) // 2 + len(TAIL),) * 6
    assert state.visual == [len(tokens) // 2] * 6
    assert Late().vacuous
    assert not any(method.vacuous for method in (Whole(), Method(), FastV(), PivotKV()))
