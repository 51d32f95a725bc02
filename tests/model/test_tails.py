"""Questions that are read in one feed are, bit for bit, questions that are fed one by one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from evalkit.method import OperatingPoint
from evalkit.model import attention, tails
from evalkit.model.decoder import Decoder
from evalkit.model.families.qwen2_vl import Qwen2VL
from evalkit.model.load import load
from evalkit.model.prefill_state import PrefillState
from methods.uniform import Uniform
from tests.support import clips
from tests.support.fed_text import FAMILIES, QUESTIONS, begun, facts
from tests.support.loop import answer_key, engine, question


@pytest.fixture(params=[*FAMILIES, "qwen3_vl"])
def family(request: pytest.FixtureRequest, tmp_path: Path) -> Decoder:
    name: str = request.param
    folder = request.getfixturevalue("qwen3") if name == "qwen3_vl" else FAMILIES[name](tmp_path / name)
    return load(str(folder), device="cpu")


@torch.inference_mode()
def test_they_are_those_of_a_feed_of_their_own(family: Decoder) -> None:
    """Keys, values, ids, counts and the last hidden state; until its turn nothing of a question is in the state."""
    assert family.reads_together
    state = begun(family)
    before, mark = facts(state), state.mark()
    found = family.read_tails(state, QUESTIONS)
    assert facts(state) == before
    for ids, tail in zip(QUESTIONS, found, strict=True):
        hidden = family.prefill_text(state, ids)
        alone = facts(state)
        state.rewind(mark)
        assert torch.equal(family.append_tail(state, tail), hidden)
        assert facts(state) == alone
        state.rewind(mark)


@torch.inference_mode()
def test_a_question_does_not_see_another(backbone: Qwen2VL) -> None:
    state = begun(backbone)
    first, *_ = backbone.read_tails(state, QUESTIONS)
    assert torch.equal(backbone.read_tails(state, [QUESTIONS[0], [5] * 20])[0].hidden, first.hidden)
    other = [*QUESTIONS[0][:-1], 7]
    assert not torch.equal(backbone.read_tails(state, [other, [5] * 20])[0].hidden, first.hidden)  # negative control


def test_a_feed_has_at_most_so_many_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tails, "MOST", 10)
    assert tails.packs([[0] * 4, [0] * 6, [0], [0] * 30, [0] * 9, [0]]) == [[0, 1], [2], [3], [4, 5]]
    assert tails.packs([]) == []


@torch.inference_mode()
def test_a_feed_that_fails_leaves_the_state_as_it_was(backbone: Qwen2VL, monkeypatch: pytest.MonkeyPatch) -> None:
    state = begun(backbone)
    before, calls = facts(state), iter(range(100))

    def failing(*args: Any, **options: Any) -> Tensor:
        if next(calls) == 6:
            raise RuntimeError("no memory")
        return attended(*args, **options)

    attended = attention._attended
    monkeypatch.setattr(attention, "_attended", failing)
    with pytest.raises(RuntimeError, match="no memory"):
        backbone.read_tails(state, QUESTIONS)
    assert facts(state) == before


# ---- in the engine


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clips.make(tmp_path_factory.mktemp("clip") / "clip.mp4", frames=24, size=(112, 112))


@pytest.fixture
def fed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Questions of each feed that reads several."""
    found: list[int] = []
    read = Decoder.read_tails

    def counting(self: Decoder, state: PrefillState, questions: Sequence[Sequence[int]]) -> list[tails.Tail]:
        found.append(len(questions))
        return read(self, state, questions)

    monkeypatch.setattr(Decoder, "read_tails", counting)
    return found


def answers(backbone: Qwen2VL, clip: Path, questions: int = 3, **options: Any) -> list[tuple[Any, ...]]:
    point = OperatingPoint("uniform", Uniform(), 1.0)
    asked = [question(clip, number) for number in range(questions)]
    return [answer_key(one) for _, one in engine(backbone, **options).answers({point: asked})]


def test_questions_on_one_cache_are_read_together(backbone: Qwen2VL, clip: Path, fed: list[int]) -> None:
    together = answers(backbone, clip)
    assert fed == [3]
    assert answers(backbone, clip, share=False) == together
    assert fed == [3]


def test_they_are_not_where_bits_depend_on_the_rows_of_a_product(
    checkpoint: Path, clip: Path, fed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    linear = F.linear
    monkeypatch.setattr(F, "linear", lambda x, *weights: linear(x, *weights) * (1 + 1e-6 * x.numel()))
    other = load(str(checkpoint), device="cpu")
    assert not other.reads_together
    assert len(answers(other, clip)) == 3
    assert fed == []


def test_they_are_not_where_a_model_does_not_hand_the_feed_on(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its attention would take all questions for one text that stands alone."""
    monkeypatch.setattr(tails.TailFeed, "attend", lambda _self, attend, _layer, *states: attend(*states))
    assert not load(str(checkpoint), device="cpu").reads_together


def test_where_reading_together_fails_each_is_fed_alone(
    backbone: Qwen2VL, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = answers(backbone, clip)

    def failing(*_: Any) -> None:
        raise RuntimeError("no memory")

    monkeypatch.setattr(Decoder, "read_tails", failing)
    assert answers(backbone, clip) == expected
