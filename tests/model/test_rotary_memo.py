"""Rotary embeddings that are kept are those that the model's module gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from evalkit.model import rotary_memo
from evalkit.model.families.qwen2_vl import Qwen2VL
from evalkit.model.load import load
from evalkit.model.positions import Positions
from evalkit.model.rotary_memo import FIXED

IDS = torch.tensor([[3, 4, 900], [3, 4, 5], [3, 9, 5]])


class Counted:
    """A rotary module that counts its calls."""

    def __init__(self, rotary: Any, kind: str = "default") -> None:
        self.rotary, self.rope_type, self.calls = rotary, kind, 0

    def __call__(self, x: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
        """As the module."""
        self.calls += 1
        found: tuple[Tensor, Tensor] = self.rotary(x, ids)
        return found


def counted(backbone: Qwen2VL, kind: str = "default") -> tuple[Positions, Counted]:
    rotary = Counted(backbone.text.rotary_emb, kind)
    return type(backbone.positions)(rotary), rotary


def expected(backbone: Qwen2VL, x: Tensor, ids: Tensor) -> list[Tensor]:
    return list(backbone.text.rotary_emb(x, ids[:, None]))


def same(found: tuple[Tensor, Tensor], other: list[Tensor]) -> bool:
    return all(map(torch.equal, found, other)) and [x.dtype for x in found] == [x.dtype for x in other]


def test_it_is_made_once_for_ids_and_dtype(backbone: Qwen2VL) -> None:
    positions, rotary = counted(backbone)
    x, moved = torch.zeros(1, 3, 8), IDS + 1
    for _ in range(2):
        for ids in (IDS, moved):
            assert same(positions.rotary(x, ids), expected(backbone, x, ids))
            assert same(positions.rotary(x.bfloat16(), ids), expected(backbone, x.bfloat16(), ids))
    assert rotary.calls == 4
    assert not same(positions.rotary(x, IDS), expected(backbone, x, moved))  # negative control


def test_the_same_numbers_in_other_rows_are_other_ids(backbone: Qwen2VL) -> None:
    rotary = rotary_memo.RotaryMemo(backbone.text.rotary_emb)
    for ids in (torch.arange(6).view(3, 2), torch.arange(6).view(1, 6)):
        made = (ids.float(), ids.float())
        assert rotary(torch.zeros(1), ids, lambda made=made: made) is made


@pytest.mark.parametrize("kind", ["dynamic", "longrope", "of tomorrow"])
def test_nothing_is_kept_where_frequencies_may_change(backbone: Qwen2VL, kind: str) -> None:
    positions, rotary = counted(backbone, kind)
    for _ in range(2):
        positions.rotary(torch.zeros(1, 3, 8), IDS)
    assert rotary.calls == 2


def test_what_was_used_last_is_kept(backbone: Qwen2VL, monkeypatch: pytest.MonkeyPatch) -> None:
    positions, rotary = counted(backbone)
    x = torch.zeros(1, 3, 8)
    one = sum(part.nbytes for part in positions.rotary(x, IDS))
    monkeypatch.setattr(rotary_memo, "MOST_BYTES", 2 * one)
    for shift in (1, 0, 2, 0, 2):
        positions.rotary(x, IDS + shift)
    assert rotary.calls == 3
    positions.rotary(x, IDS + 1)
    assert rotary.calls == 4


def test_what_inference_made_is_no_part_of_training(backbone: Qwen2VL) -> None:
    states = torch.ones(1, 3, 32, requires_grad=True)
    with torch.inference_mode():
        backbone.positions.rotary(states, IDS)
    cos, _ = backbone.positions.rotary(states, IDS)
    (states[..., : cos.shape[-1]] * cos).sum().backward()
    assert states.grad is not None


def test_models_say_that_theirs_are_fixed(backbone: Qwen2VL, qwen25: Path) -> None:
    assert backbone.text.rotary_emb.rope_type in FIXED
    assert load(str(qwen25), device="cpu", rope="yarn4").text.rotary_emb.rope_type in FIXED
