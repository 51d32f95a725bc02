"""Little memory, and a question that is far too long: the rest is answered."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from evalkit.engine.slice_encoder import SliceSize
from tests.support import clips, scarce_memory
from tests.support.loop import DENSE, answer, answer_key, engine, question

if TYPE_CHECKING:
    from pathlib import Path

    from evalkit.model.families.qwen2_vl import Qwen2VL


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("clips")
    return [clips.make(folder / f"{name}.mp4", frames=60, size=(112, 112)) for name in "ab"]


@pytest.mark.parametrize("remembered", [True, False])
def test_the_slice_that_fits_is_remembered(
    videos: list[Path], backbone: Qwen2VL, monkeypatch: pytest.MonkeyPatch, remembered: bool
) -> None:
    """By the whole run; forgotten, each video asks for too much anew."""
    plenty = [answer(engine(backbone), [DENSE], [question(path, 0)]) for path in videos]
    tried = scarce_memory.scarce(monkeypatch, MemoryError)
    made = engine(backbone, encode_cells=16)
    scarce = []
    for path in videos:
        if not remembered:
            object.__setattr__(made.frame_encoder, "_slice_size", SliceSize(16))
        scarce.append(answer(made, [DENSE], [question(path, 0)]))
    assert tried == [16, 8, 4, 4, 4, 4] + ([] if remembered else [16, 8]) + [4, 4, 4, 4]
    for found, expected in zip(scarce, plenty, strict=True):
        assert [answer_key(a) for a in found.values()] == [answer_key(a) for a in expected.values()]


def test_a_question_of_100000_characters_fails_alone(videos: list[Path], backbone: Qwen2VL) -> None:
    short = [question(videos[0], number) for number in range(2)]
    long = replace(question(videos[0], 2), text="why " * 25_000)
    found = answer(engine(backbone), [DENSE], [short[0], long, short[1]])
    assert [one.status == "failed" for one in found.values()] == [False, True, False]
    assert "expected a prompt of at most 32,768 tokens" in str(found["dense", 1.0, long.id].error)
    alone = answer(engine(backbone), [DENSE], short)
    assert [answer_key(found[key]) for key in alone] == [answer_key(one) for one in alone.values()]
