"""Tokens of several replies that are fed at once are, bit for bit, tokens that are fed one by one."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import GenerationConfig

from evalkit.method import OperatingPoint
from evalkit.model import reply_ahead
from evalkit.model.decoder import Decoder
from evalkit.model.families.qwen2_vl import Qwen2VL
from evalkit.model.load import load
from evalkit.model.prefill_state import PrefillState
from evalkit.model.reply_ahead import read_ahead
from evalkit.model.reply_tokens import Chain, row_by_row
from methods.uniform import Uniform
from tests.support import clips
from tests.support.fed_text import FAMILIES, QUESTIONS, begun, facts
from tests.support.loop import answer_key, engine, question

LIMIT = 6
REPLIES = [[5, 9], [6, 5], [5, 5], [11, 2]]  # to QUESTIONS


@pytest.fixture(params=[*FAMILIES, "qwen3_vl"])
def family(request: pytest.FixtureRequest, tmp_path: Path) -> Decoder:
    name: str = request.param
    folder = request.getfixturevalue("qwen3") if name == "qwen3_vl" else FAMILIES[name](tmp_path / name)
    return load(str(folder), device="cpu")


def moved(state: PrefillState) -> None:
    """As after an eviction with new ids: what follows continues from the last stored one."""
    state.reindexed = [True] * len(state.reindexed)
    state.next_id += 7


@pytest.mark.slow
@pytest.mark.parametrize("reindexed", [False, True], ids=["as laid out", "moved"])
@torch.inference_mode()
def test_they_are_those_of_a_feed_of_their_own(family: Decoder, reindexed: bool) -> None:
    """Two tokens of each reply: keys, values, ids, counts and hidden states; until its turn nothing is in the state."""
    assert family.replies_together
    state = begun(family)
    if reindexed:
        moved(state)
    before, mark = facts(state), state.mark()
    chains = [[tail] for tail in family.read_tails(state, QUESTIONS)]
    for step in range(2):
        found = family.read_tokens(state, chains, [reply[step] for reply in REPLIES])
        chains = [[*chain, tail] for chain, tail in zip(chains, found, strict=True)]
    assert facts(state) == before
    for ids, reply, (asked, *tokens) in zip(QUESTIONS, REPLIES, chains, strict=True):
        family.prefill_text(state, ids)
        hidden = [family.prefill_text(state, [token], decoding=True) for token in reply]
        alone = [*facts(state), state.replied]
        state.rewind(mark)
        family.append_tail(state, asked)
        for one, token in zip(hidden, tokens, strict=True):
            assert torch.equal(family.append_tail(state, token, decoding=True), one)
        assert [*facts(state), state.replied] == alone
        state.rewind(mark)


@torch.inference_mode()
def test_a_reply_does_not_see_another(backbone: Qwen2VL) -> None:
    state = begun(backbone)
    chains = [[tail] for tail in backbone.read_tails(state, QUESTIONS)]
    first = backbone.read_tokens(state, chains, [5, 6, 7, 8])[0].hidden
    assert torch.equal(backbone.read_tokens(state, chains[:2], [5, 9])[0].hidden, first)
    assert not torch.equal(backbone.read_tokens(state, chains[:2], [4, 6])[0].hidden, first)  # negative control


@pytest.mark.parametrize("biased", [False, True])
@torch.inference_mode()
def test_products_with_weights_are_made_row_by_row(biased: bool) -> None:
    layer, states = torch.nn.Linear(8, 6, bias=biased), torch.randn(1, 5, 8)
    handle = layer.register_forward_hook(row_by_row)
    found = layer(states)
    handle.remove()
    assert torch.equal(found, torch.cat([layer(states[:, i : i + 1]) for i in range(5)], 1))


def test_they_are_not_fed_at_once_where_a_row_depends_on_the_others(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    normalized = F.silu
    monkeypatch.setattr(F, "silu", lambda x, **options: normalized(x, **options) * (1 + 1e-6 * x.numel()))
    other = load(str(checkpoint), device="cpu")
    assert not other.replies_together


# ---- read ahead


@pytest.fixture
def fed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Tokens of replies that are fed alone."""
    found: list[int] = []
    feed = Decoder.prefill_text

    def counting(self: Decoder, state: PrefillState, ids: Any, **options: Any) -> Tensor:
        if options.get("decoding"):
            found.extend(ids)
        return feed(self, state, ids, **options)

    monkeypatch.setattr(Decoder, "prefill_text", counting)
    return found


def endless(backbone: Qwen2VL, **fields: Any) -> Qwen2VL:
    """Replies go on until their limit, unless `fields` of its generation_config say otherwise."""
    model = copy.copy(backbone.model)
    model.generation_config = GenerationConfig(**{"eos_token_id": [], **fields})
    return Qwen2VL(model, None)


@pytest.mark.parametrize("fields", [{}, {"repetition_penalty": 1.5}], ids=["plain", "processed"])
@torch.inference_mode()
def test_a_reply_is_that_without_reading_ahead(backbone: Qwen2VL, fed: list[int], fields: dict[str, Any]) -> None:
    """Nothing is fed again, unless what was read ahead is not the reply."""
    decoder = endless(backbone, **fields)
    state = begun(decoder)
    assert decoder.replies_together
    mark, asked = state.mark(), decoder.read_tails(state, QUESTIONS)
    ahead = read_ahead(decoder, state, asked, LIMIT, ())
    for tail, own in zip(asked, ahead, strict=True):
        found = []
        for given in (own, own[:2], own[:0], [asked[0]]):
            fed.clear()
            first = decoder.next_token(state, decoder.append_tail(state, tail))
            found.append((decoder.generate(state, first, LIMIT, ahead=given), facts(state)))
            assert len(fed) == LIMIT - 1 - len([one for one in given if one is not asked[0]])
            state.rewind(mark)
        assert found == found[:1] * 4


@torch.inference_mode()
def test_reading_ahead_ends_with_the_replies(backbone: Qwen2VL, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that goes on alone is not read ahead."""
    state = begun(backbone)
    asked = backbone.read_tails(state, QUESTIONS)
    lasts = iter([3, 1, 2, 2])
    lengths = {id(tail): next(lasts) for tail in asked}
    replies: list[int] = []

    def chosen(_: Decoder, __: PrefillState, chain: Chain) -> int:
        return 9 if len(chain) == lengths[id(chain[0])] else 5

    monkeypatch.setattr(Decoder, "choose_after", chosen)
    monkeypatch.setattr(Decoder, "is_over", lambda _, ids, limit, stop: replies.append(limit) or ids[-1] == 9)
    assert [len(own) for own in read_ahead(backbone, state, asked, LIMIT, ())] == [1, 0, 1, 1]
    assert set(replies) == {LIMIT}


@pytest.mark.parametrize(
    ("ids", "limit", "stop", "over"),
    [([5], 2, (), False), ([5, 5], 2, (), True), ([933], 2, (), True), ([5], 2, ("\n",), False)],
    ids=["goes on", "limit", "end", "no stop"],
)
def test_what_ends_a_reply(backbone: Qwen2VL, ids: list[int], limit: int, stop: tuple[str, ...], over: bool) -> None:
    assert 933 in backbone.stop_ids()
    assert backbone.is_over(ids, limit, stop) == over
    if not over:
        text = backbone.tokenizer.decode(ids)
        assert backbone.is_over(ids, limit, (text,))


# ---- in the engine


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clips.make(tmp_path_factory.mktemp("clip") / "clip.mp4", frames=24, size=(112, 112))


def answers(backbone: Qwen2VL, clip: Path, **options: Any) -> list[tuple[Any, ...]]:
    point = OperatingPoint("uniform", Uniform(), 1.0)
    asked = [question(clip, number) for number in range(3)]
    return [answer_key(one) for _, one in engine(backbone, **options).answers({point: asked})]


def test_replies_on_one_cache_are_read_ahead(backbone: Qwen2VL, clip: Path, fed: list[int]) -> None:
    assert backbone.replies_together
    fed.clear()
    together = answers(backbone, clip)
    assert fed == []
    assert answers(backbone, clip, share=False) == together
    assert len(fed) > 3  # negative control


def test_they_are_not_where_that_gives_other_bits(
    backbone: Qwen2VL, clip: Path, fed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = answers(backbone, clip)
    monkeypatch.setitem(vars(backbone), "replies_together", False)
    fed.clear()
    assert answers(backbone, clip) == expected
    assert len(fed) > 3


@pytest.mark.parametrize(("new_tokens", "times"), [(1, 0), (2, 1)])
def test_nothing_is_read_ahead_of_a_reply_of_one_token(
    backbone: Qwen2VL, clip: Path, monkeypatch: pytest.MonkeyPatch, new_tokens: int, times: int
) -> None:
    calls: list[int] = []

    def counting(*args: Any) -> list[Chain]:
        calls.append(1)
        return read_ahead(*args)

    monkeypatch.setattr(reply_ahead, "read_ahead", counting)
    assert len(answers(backbone, clip, new_tokens=new_tokens)) == 3
    assert len(calls) == times
