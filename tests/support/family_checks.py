"""What every method is held to on a family of its own: the contract's checks, torch's count, sharing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from evalkit.ledger import Ledger
from evalkit.model.video_llm import VideoLLM
from evalkit.testing import method_contract
from evalkit.testing.loop import scores
from evalkit.types import Question
from tests.support.flop_counter import counted, total
from tests.support.loop import engine, exact_key, question
from tests.support.methods import built

FRAMES = 64  # of the clips


def _asked(clip: Path, number: int) -> Question:
    return question(clip, number, frame_scores=scores(range(FRAMES), seed=number))


def keeps_the_contract(name: str, family: VideoLLM, monkeypatch: pytest.MonkeyPatch) -> None:
    """The contract's checks that depend on the backbone."""
    monkeypatch.setattr(method_contract, "backbone", lambda: family)
    method_contract.answers_are_those_of_the_ratio(built(name).method)
    method_contract.nothing_is_changed(built(name).method)


def operations_and_sharing(name: str, family: VideoLLM, clip: Path, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    """Operations in closed form are those that torch counts; two questions together are answered as each alone."""
    point, questions = replace(built(name), ratio=0.5), [_asked(clip, number) for number in range(2)]
    small = engine(family, frames=6 * family.clip_frames, new_tokens=3, chunk_cells=4)
    together = [a for _, a in small.answers({point: questions})]
    with counted(monkeypatch) as counter:
        ((_, alone),) = small.answers({point: questions[1:]})
    assert total(alone) == counter.get_total_flops()
    assert exact_key(together[1]) == exact_key(alone)
    assert together[1].ledger is not None
    assert alone.ledger is not None
    assert together[1].ledger.flops == alone.ledger.flops
    return alone.ledger
