"""Numbers that are none make failed rows with that reason; float16 works where its range is enough."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from evalkit.engine.records import is_repeated
from evalkit.errors import ModelError
from evalkit.method import OperatingPoint
from evalkit.model.families.qwen2_vl import Qwen2VL
from evalkit.model.finite import check_finite
from evalkit.model.load import load
from evalkit.types import Answer
from methods.controls import Blind
from methods.uniform import Uniform
from tests.support import clips
from tests.support.loop import DENSE, FirstLetterProtocol, answer, answer_key, engine, question

LIMIT = FirstLetterProtocol().max_new_tokens("mlvu")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clips.make(tmp_path_factory.mktemp("clip") / "clip.mp4", frames=16, size=(112, 112))


def damaged(backbone: Qwen2VL, damage: Callable[[nn.Module], None], dtype: torch.dtype = torch.float32) -> Qwen2VL:
    """The backbone with other weights."""
    model = copy.deepcopy(backbone.model)
    with torch.no_grad():
        damage(model)
    return Qwen2VL(model.to(dtype), backbone.tokenizer)


def only(backbone: Qwen2VL, clip: Path, point: OperatingPoint = DENSE) -> Answer:
    (row,) = answer(engine(backbone, frames=16), [point], [question(clip, 0)]).values()
    return row


def nan_in_the_tower(model: Any) -> None:
    model.model.visual.blocks[0].mlp.fc1.weight[0, 0] = torch.nan


def infinity_in_the_tower(model: Any) -> None:
    model.model.visual.merger.mlp[-1].bias[3] = -torch.inf


def overflow_in_float16(model: Any) -> None:
    model.model.visual.merger.mlp[-1].weight *= 1e6


@pytest.mark.parametrize(
    ("damage", "dtype", "said_of_it"),
    [
        (nan_in_the_tower, torch.float32, "16384 of 16384 are NaN or infinite in torch.float32; check the weights$"),
        (infinity_in_the_tower, torch.float32, "128 of 16384 are NaN or infinite in torch.float32"),
        (overflow_in_float16, torch.float16, "are NaN or infinite in torch.float16; .* take bfloat16 or float32"),
    ],
)
def test_features_that_are_not_finite_fail_the_row(
    damage: Callable[[Any], None], dtype: torch.dtype, said_of_it: str, clip: Path, backbone: Qwen2VL
) -> None:
    row = only(damaged(backbone, damage, dtype), clip)
    assert (row.status, row.correct, row.ledger) == ("failed", None, None)
    with pytest.raises(ModelError, match=said_of_it):
        raise ModelError(row.error)
    assert str(row.error).startswith("ModelError: features of the vision encoder: expected finite numbers, ")


def test_only_what_was_shown_the_features_fails(clip: Path, backbone: Qwen2VL) -> None:
    points = [DENSE, OperatingPoint("uniform", Uniform(), 0.5), OperatingPoint("blind", Blind(), 0.5)]
    found = answer(engine(damaged(backbone, nan_in_the_tower), frames=16), points, [question(clip, 0)])
    assert {name: row.status == "failed" for (name, _, _), row in found.items()} == {
        "dense": True,
        "uniform": True,
        "blind": False,
    }


def test_one_logit_that_is_nan_fails_the_row(clip: Path, backbone: Qwen2VL) -> None:
    """argmax takes NaN for the largest: without a check the reply would be that token over and over."""
    untied = nn.Linear(backbone.model.lm_head.in_features, backbone.model.lm_head.out_features, bias=False)

    def damage(model: Any) -> None:
        untied.weight.copy_(model.lm_head.weight)
        untied.weight[7, 0] = torch.nan
        model.lm_head = untied

    row = only(damaged(backbone, damage), clip)
    assert row.status == "failed"
    assert "logits of the language model: expected finite numbers, 1 of" in str(row.error)


def test_overflow_in_the_language_model_in_float16(clip: Path, backbone: Qwen2VL) -> None:
    def damage(model: Any) -> None:
        model.model.language_model.layers[1].mlp.down_proj.weight *= 1e6

    assert only(damaged(backbone, damage), clip).status != "failed"
    row = only(damaged(backbone, damage, torch.float16), clip)
    assert row.status == "failed"
    assert "logits of the language model" in str(row.error)
    assert "torch.float16" in str(row.error)


def test_later_logits_count_too_and_the_next_question_is_answered(
    clip: Path, backbone: Qwen2VL, monkeypatch: pytest.MonkeyPatch
) -> None:
    questions = [question(clip, n) for n in range(2)]
    whole = answer(engine(backbone, frames=16), [DENSE], questions)
    logits, seen = Qwen2VL.logits, list[Tensor]()

    def kept(self: Qwen2VL, hidden: Tensor) -> Tensor:
        seen.append(hidden.clone())
        return logits(self, hidden)

    def second_is_infinite(self: Qwen2VL, hidden: Tensor) -> Tensor:
        """Whenever that token is scored: ahead, with other replies, and in its turn."""
        return logits(self, hidden) * (torch.inf if torch.equal(hidden, seen[1]) else 1)

    monkeypatch.setattr(Qwen2VL, "logits", kept)
    answer(engine(backbone, frames=16), [DENSE], questions[:1])
    monkeypatch.setattr(Qwen2VL, "logits", second_is_infinite)
    found = answer(engine(backbone, frames=16), [DENSE], questions)
    assert found["dense", 1.0, "q0"].status == "failed"
    assert answer_key(found["dense", 1.0, "q1"]) == answer_key(whole["dense", 1.0, "q1"])


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_every_kind_is_seen_at_any_place(value: float, dtype: torch.dtype) -> None:
    values = torch.randn(3, 5, generator=torch.Generator().manual_seed(0)).to(dtype)
    assert check_finite(values, "x") is values
    for place in range(15):
        bad = values.clone()
        bad.view(-1)[place] = value
        with pytest.raises(ModelError, match="x: expected finite numbers, 1 of 15 are"):
            check_finite(bad, "x")


def test_float16_is_a_dtype_like_the_others(clip: Path, checkpoint: Path, backbone: Qwen2VL) -> None:
    half = load(str(checkpoint), dtype="float16", device="cpu")
    row = only(half, clip)
    assert row.status != "failed", row.error
    assert row.ledger is not None
    assert row.ledger.kv_bytes == 128 * half.layers * 2 * 2 * 32 * 2  # keys and values, 2 heads of 32, 2 bytes
    ids = [5, 6, 7, 8, 9]
    with torch.inference_mode():
        close, exact = (m.logits(m.prefill_text(m.new_state(), ids)).float() for m in (half, backbone))
    torch.testing.assert_close(close, exact, rtol=0, atol=0.02 * float(exact.abs().max()))
    assert not torch.equal(close, exact)


# ---- one token over and over


@pytest.mark.parametrize(
    ("ids", "limit", "repeated"),
    [
        ([5, 5, 5], 3, True),
        ([5, 5], 3, False),  # it ended by itself
        ([5, 5, 6], 3, False),
        ([5, 6, 5, 6], 4, False),
        ([5], 1, False),  # a letter, where no more was allowed
        ([], 0, False),
    ],
)
def test_repeated_by_hand(ids: list[int], limit: int, repeated: bool) -> None:
    assert is_repeated(ids, limit) is repeated


def test_a_reply_of_one_token_is_marked(clip: Path, backbone: Qwen2VL, monkeypatch: pytest.MonkeyPatch) -> None:
    letter = backbone.tokenizer.convert_tokens_to_ids("A")
    monkeypatch.setattr(Qwen2VL, "choose", lambda *_: letter)
    row = only(backbone, clip)
    assert (row.text, row.status, row.repeated) == ("A" * LIMIT, "ok", True)
    assert row.to_dict()["repeated"] is True
    end = next(iter(backbone.stop_ids()))
    replies = iter([letter, letter, end])
    monkeypatch.setattr(Qwen2VL, "choose", lambda *_: next(replies))
    row = only(backbone, clip)
    assert (row.text, row.repeated) == ("AA", False)
