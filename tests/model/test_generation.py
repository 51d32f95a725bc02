"""A checkpoint's generation_config: our decoding against `generate` as lmms-eval's Qwen classes call it."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GenerationConfig, Qwen2VLForConditionalGeneration

from evalkit.config.build import WEIGHTS
from evalkit.errors import ConfigError
from evalkit.method import Method
from evalkit.model.families.qwen2_vl import Qwen2VL
from evalkit.model.generation import applied
from evalkit.model.load import check, load
from tests.support.checkpoints import published
from tests.support.loop import replied
from tests.support.parity import budget_of
from tests.support.visual_tokens import visual

PROMPTS = [[5, 6, 7, 5, 6], [40, 41, 42], list(range(100, 130))]
COUNT = 12
NEUTRAL = {"pad_token_id": 931, "eos_token_id": [933, 931]}


@pytest.fixture(scope="module")
def stock(checkpoint: Path) -> Qwen2VLForConditionalGeneration:
    return Qwen2VLForConditionalGeneration.from_pretrained(checkpoint, dtype=torch.float32).eval()


def ours(backbone: Qwen2VL, fields: dict[str, Any]) -> list[list[int]]:
    model = copy.copy(backbone.model)
    model.generation_config = GenerationConfig(**{**NEUTRAL, **fields})
    family = Qwen2VL(model, None)
    with torch.inference_mode():
        return [replied(family, family.new_state(), prompt, COUNT) for prompt in PROMPTS]


def theirs(stock: Qwen2VLForConditionalGeneration, fields: dict[str, Any]) -> list[list[int]]:
    """`generate` with the arguments that lmms-eval's classes pass."""
    stock.generation_config = GenerationConfig(**{**NEUTRAL, **fields})
    ends, found = stock.generation_config.eos_token_id, []
    for prompt in PROMPTS:
        ids = torch.tensor([prompt])
        given: dict[str, Any] = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None, "num_beams": 1}
        out = stock.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=COUNT, use_cache=True, **given)
        reply = out[0, len(prompt) :].tolist()
        found.append(reply[:-1] if reply[-1] in ends else reply)
    return found


@pytest.fixture(scope="module")
def plain(stock: Qwen2VLForConditionalGeneration) -> list[list[int]]:
    return theirs(stock, {})


def test_as_generate(backbone: Qwen2VL, stock: Qwen2VLForConditionalGeneration, plain: list[list[int]]) -> None:
    """Every field that is applied, alone; the plain reply is the negative control."""
    assert ours(backbone, {}) == plain
    first, second = plain[0][:2]
    cases: dict[str, Any] = {
        "repetition_penalty": 1.3,
        "no_repeat_ngram_size": 1,
        "bad_words_ids": [[first], [plain[1][0]]],
        "suppress_tokens": [first, plain[2][-1]],
        "begin_suppress_tokens": [first],
        "sequence_bias": [[[second], 9.0]],
    }
    for name, value in cases.items():
        expected = theirs(stock, {name: value})
        assert ours(backbone, {name: value}) == expected, name
        assert expected != plain, name


def test_a_reply_of_at_least_some_tokens(
    backbone: Qwen2VL, stock: Qwen2VLForConditionalGeneration, plain: list[list[int]]
) -> None:
    """What begins the first reply is made the token that ends one."""
    fields: dict[str, Any] = {"eos_token_id": [plain[0][0], 931]}
    assert ours(backbone, fields)[0] == theirs(stock, fields)[0] == []
    fields["min_new_tokens"] = 3
    found = ours(backbone, fields)
    assert found == theirs(stock, fields)
    assert len(found[0]) >= 3


def test_all_at_once(backbone: Qwen2VL, stock: Qwen2VLForConditionalGeneration, plain: list[list[int]]) -> None:
    """Processors come in transformers' order."""
    fields = {"repetition_penalty": 0.7, "sequence_bias": [[[plain[0][1]], -2.0]], "no_repeat_ngram_size": 3}
    assert ours(backbone, fields) == theirs(stock, fields)


def test_the_published_penalty_is_read_from_the_file(checkpoint: Path, tmp_path: Path) -> None:
    folder = published(checkpoint, tmp_path / "theirs")
    backbone = load(str(folder), device="cpu")
    assert check(str(folder)) == backbone.processors.fields == {"repetition_penalty": 1.05}
    assert backbone.processors.ends == {931, 933}


def test_what_was_read_is_what_the_penalty_sees(backbone: Qwen2VL) -> None:
    """Head, one placeholder for each visual token, tail, reply; rewinding forgets the last two."""
    tokens = visual(backbone)
    pad = backbone.tokenizer.convert_tokens_to_ids("<|video_pad|>")
    with torch.inference_mode():
        context = backbone.new_state()
        backbone.prefill_text(context, [1, 2])
        backbone.prefill_video(context, tokens, Method(), budget_of(backbone.layers, tokens, 1.0), chunk_cells=2)
        mark, read = context.mark(), [1, 2] + [pad] * len(tokens)
        for _ in range(2):
            reply = replied(backbone, context, [3, 4, 5], 4)
            assert context.read.tolist() == [*read, 3, 4, 5, *reply[:-1]]
            assert context.replied == len(reply) - 1
            context.rewind(mark)
            assert (context.read.tolist(), context.replied) == (read, 0)


def test_the_built_in_model_decodes_as_ever() -> None:
    assert check(str(WEIGHTS)) == {}


@pytest.mark.parametrize(
    "fields", [{"min_length": 5}, {"guidance_scale": 2.0}, {"forced_eos_token_id": 3}, {"stop_strings": ["x"]}]
)
def test_what_cannot_be_applied_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(fields))):
        applied(GenerationConfig(**fields))


def test_what_changes_nothing_is_no_setting() -> None:
    neutral = {"repetition_penalty": 1.0, "no_repeat_ngram_size": 0, "min_length": 0, "num_return_sequences": 1}
    sampling = {"do_sample": True, "temperature": 0.1, "top_k": 1, "top_p": 0.001}
    assert applied(GenerationConfig(**neutral, **sampling)) == {}
    assert applied(GenerationConfig()) == {}
