"""What operating points on one video share: clips, prefixes, caches, replies and what questions looked at."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor

from evalkit.method import OperatingPoint
from evalkit.model.decoder import Decoder
from evalkit.model.families.qwen2_vl import Qwen2VL
from evalkit.model.question_attention import QuestionAttention
from evalkit.types import Answer
from methods.controls import Blind, LowRes, RandomFrames, Shuffled, Single
from methods.qccomp import QCComp
from methods.retake import ReTaKe
from methods.uniform import Uniform
from tests.support import clips
from tests.support.loop import answer, answer_key, engine, question

SMALL: dict[str, Any] = {"clip": 2, "window": 8, "stride": 4, "chunk": 16}  # frames, for a video of a few cells
SAME = [  # the same frames and tokens, nothing cut
    OperatingPoint("uniform", Uniform(), 1.0),
    OperatingPoint("random", RandomFrames(), 1.0),
    OperatingPoint("lowres", LowRes(), 1.0),
    OperatingPoint("qccomp", QCComp(**SMALL), 1.0),
]
OTHERS = [
    OperatingPoint("retake", ReTaKe(), 1.0),  # its cache may be cut, even where it is not
    OperatingPoint("retake", ReTaKe(), 0.5),
    OperatingPoint("qccomp", QCComp(**SMALL), 0.5),
    OperatingPoint("qccomp", QCComp(**SMALL), 0.25),
    OperatingPoint("uniform", Uniform(), 0.5),
    OperatingPoint("blind", Blind(), 1.0),
    OperatingPoint("blind", Blind(), 0.5),
]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clips.make(tmp_path_factory.mktemp("clip") / "clip.mp4", frames=60, size=(112, 112))


@pytest.fixture(scope="module")
def alone(clip: Path, backbone: Qwen2VL) -> dict[Any, tuple[Any, ...]]:
    return keys(answer(engine(backbone, frames=16, share=False), SAME + OTHERS, asked(clip)))


@pytest.fixture
def calls(clip: Path, backbone: Qwen2VL, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often something was fed, once the backbone has tried whether questions may be read together."""
    answer(engine(backbone, frames=2), SAME[:1], asked(clip))
    found: Counter[str] = Counter()
    for owner, name in ((Decoder, "prefill_video"), (Decoder, "generate"), (QuestionAttention, "_read_question")):
        monkeypatch.setattr(owner, name, _counting(getattr(owner, name), found, name))
    text = Decoder.prefill_text

    def prefill_text(self: Decoder, state: Any, ids: Sequence[int], **options: Any) -> Any:
        found["prefix" if not max(state.lengths) and "observe" not in options else "text"] += 1
        return text(self, state, ids, **options)

    monkeypatch.setattr(Decoder, "prefill_text", prefill_text)
    return found


def _counting(called: Any, found: Counter[str], name: str) -> Any:
    def counting(*args: Any, **options: Any) -> Any:
        found[name] += 1
        return called(*args, **options)

    return counting


def asked(clip: Path) -> list[Any]:
    return [question(clip, n) for n in range(3)]


def keys(found: dict[Any, Answer]) -> dict[Any, tuple[Any, ...]]:
    """All that sharing must not change, margins and operations included."""
    return {
        key: (*answer_key(one), one.margin, one.ledger and (one.ledger.flops, one.ledger.own_flops))
        for key, one in found.items()
    }


@pytest.mark.parametrize("backwards", [False, True])
def test_a_cache_that_points_share_answers_for_all_of_them(
    backwards: bool, clip: Path, backbone: Qwen2VL, alone: dict[Any, Any], calls: Counter[str]
) -> None:
    points = SAME[::-1] if backwards else SAME
    shared = answer(engine(backbone, frames=16), points, asked(clip))
    assert (calls["prefill_video"], calls["generate"], calls["prefix"]) == (1, 3, 1)
    assert keys(shared) == {key: alone[key] for key in shared}
    assert {one.method for one in shared.values()} == {"uniform", "random", "lowres", "qccomp"}


def test_what_differs_is_not_shared(clip: Path, backbone: Qwen2VL, alone: dict[Any, Any], calls: Counter[str]) -> None:
    shared = answer(engine(backbone, frames=16), SAME + OTHERS, asked(clip))
    # one for those that are the same, one for each question-blind other, one for each question of the others
    read, passes = 1 + 3 + 2 * 3, 2
    assert calls["prefill_video"] == read + passes
    assert calls["prefix"] == 2  # with a video after it, and without
    assert calls["generate"] == 3 * (1 + 3 + 2 + 1)
    assert keys(shared) == alone
    assert alone["uniform", 1.0, "q0"] != alone["uniform", 0.5, "q0"]


def test_ratios_share_what_a_question_looked_at(clip: Path, backbone: Qwen2VL, calls: Counter[str]) -> None:
    """Two passes a question, whatever the number of ratios; what it took counts for each."""
    points = [OperatingPoint("qccomp", QCComp(**SMALL), ratio) for ratio in (0.5, 0.25, 0.125)]
    found = answer(engine(backbone, frames=16), points, asked(clip))
    assert calls["_read_question"] == 2 * 3
    spent = [found["qccomp", point.ratio, "q1"].ledger for point in points]
    assert len({one.flops.select for one in spent if one is not None and one.flops is not None}) == 1
    assert all(one is not None and one.seconds.select > 0 for one in spent)


def test_a_clip_is_encoded_once_for_all_sets_of_frames(
    clip: Path, backbone: Qwen2VL, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cells of random frames and shuffled ones are among those of the dense run; other sizes and frames are not."""
    encoded: list[int] = []
    encode = Qwen2VL.encode

    def counting(self: Qwen2VL, pixels: np.ndarray, *, slice_cells: int) -> Tensor:
        encoded.append(len(pixels) // 2)
        return encode(self, pixels, slice_cells=slice_cells)

    monkeypatch.setattr(Qwen2VL, "encode", counting)
    points = [
        OperatingPoint("uniform", Uniform(), 1.0),
        OperatingPoint("shuffled", Shuffled(), 1.0),
        OperatingPoint("random", RandomFrames(), 0.5),
        OperatingPoint("lowres", LowRes(), 0.5),
        OperatingPoint("single", Single(), 1.0),
        OperatingPoint("single", Single(), 0.5),
    ]
    for cells in (32, 2):  # of a slice
        encoded.clear()
        shared = answer(engine(backbone, frames=16, encode_cells=cells), points, asked(clip)[:1])
        low = shared["lowres", 0.5, "q0"].ledger
        assert low is not None
        # eight cells of a single frame are one slice, all encoded; or four slices, of which the first is
        assert sum(encoded) == 8 + low.cells + min(cells, 8)
        alone = answer(engine(backbone, frames=16, encode_cells=cells, share=False), points, asked(clip)[:1])
        assert keys(shared) == keys(alone)
        assert all(one.ledger is not None and one.ledger.seconds.encode > 0 for one in shared.values())
