"""Option margins by hand: which tokens say a letter, and the difference of log-probabilities between letters."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from evalkit.model.families.qwen2_vl import Qwen2VL
from evalkit.model.option_margin import letter_ids, margin
from evalkit.types import LETTERS

IDS = tuple((n, 26 + n) for n in range(26))  # of A: 0 and 26, …


class Spelled:
    """A tokenizer that gives "A" one token, and " A" a lone space before it."""

    def __call__(self, text: str, *, add_special_tokens: bool) -> dict[str, Any]:
        assert not add_special_tokens
        return {"input_ids": [99 if character == " " else LETTERS.index(character) for character in text]}


def logits(**values: float) -> torch.Tensor:
    """`A=1` without, `sA=1` with a space before; others are far below."""
    found = torch.full((60,), -50.0)
    for name, value in values.items():
        found[LETTERS.index(name[-1]) + 26 * (len(name) - 1)] = value
    return found


def test_by_hand() -> None:
    """A has 1 and 2, C has 2.5: log(e + e²) - 2.5 = 2.3133 - 2.5."""
    found = margin(logits(A=1.0, sA=2.0, B=0.0, C=2.5), IDS, "A", 3)
    assert found == pytest.approx(math.log(math.e + math.e**2) - 2.5, abs=5e-5)
    assert found == -0.1867  # rounded
    # what is no option does not count, however likely
    assert margin(logits(A=1.0, sA=2.0, B=0.0, C=2.5), IDS, "A", 2) == pytest.approx(2.3133 - 0.0, abs=1e-4)


def test_it_is_a_difference_of_log_probabilities() -> None:
    scores = torch.randn(60, generator=torch.Generator().manual_seed(1))
    logs = torch.log_softmax(scores.double(), 0)
    each = [torch.logsumexp(logs[[n, 26 + n]], 0).item() for n in range(4)]
    assert margin(scores, IDS, "C", 4) == pytest.approx(each[2] - max(each[0], each[1], each[3]), abs=6e-5)
    assert margin(scores + 7, IDS, "C", 4) == margin(scores, IDS, "C", 4)


def test_half_precision_is_compared_in_full() -> None:
    low = logits(A=10.0, B=9.9375).to(torch.bfloat16)
    assert margin(low, IDS, "A", 2) == 0.0625


@pytest.mark.parametrize(("gold", "options"), [("", 4), ("E", 4), ("A", 1), ("A", 0), ("AB", 4), ("?", 4)])
def test_none_without_a_right_option_among_several(gold: str, options: int) -> None:
    assert margin(logits(A=1.0), IDS, gold, options) is None


def test_none_without_tokens() -> None:
    assert margin(logits(A=1.0), (), "A", 4) is None
    assert margin(logits(A=1.0), ((0,), ()), "A", 2) is None
    assert letter_ids(None) == ()


def test_a_token_that_several_letters_begin_with_says_none() -> None:
    assert letter_ids(Spelled()) == tuple((n,) for n in range(26))


def test_letters_of_the_built_in_tokenizer(backbone: Qwen2VL) -> None:
    tokenizer = backbone.tokenizer
    for letter, ids in zip(LETTERS[:4], backbone.letter_ids, strict=False):
        assert {tokenizer.decode([token]) for token in ids} == {letter, f" {letter}"}
    assert len({token for ids in backbone.letter_ids for token in ids}) == sum(map(len, backbone.letter_ids))
