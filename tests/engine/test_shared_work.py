"""What operating points on one video share: clips, prefixes, caches, replies and what questions looked at."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from evalkit.engine.stage_times import Meter
from evalkit.errors import MethodError
from evalkit.method import AttentionFromQuestion, Budget, Method, OperatingPoint
from evalkit.model.decoder import Decoder
from evalkit.model.families.qwen2_vl import Qwen2VL
from evalkit.model.hooks import LayerHooks
from evalkit.model.prefill_loop import PrefillLoop
from evalkit.model.question_attention import QuestionAttention
from evalkit.model.video_feed import VideoFeed
from evalkit.types import Answer, Evicted, LayerChunk, VisualTokens
from methods.controls import Blind, LowRes, RandomFrames, Shuffled, Single
from methods.infinipot_v import InfiniPotV
from methods.pivotkv import PivotKV
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
    for owner, name in ((VideoFeed, "read"), (Decoder, "generate"), (QuestionAttention, "_read_question")):
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
    assert (calls["read"], calls["generate"], calls["prefix"]) == (1, 3, 1)
    assert keys(shared) == {key: alone[key] for key in shared}
    assert {one.method for one in shared.values()} == {"uniform", "random", "lowres", "qccomp"}


def test_what_differs_is_not_shared(clip: Path, backbone: Qwen2VL, alone: dict[Any, Any], calls: Counter[str]) -> None:
    shared = answer(engine(backbone, frames=16), SAME + OTHERS, asked(clip))
    # one for those that are the same, one for each question-blind other, one for each question of the others
    read, passes = 1 + 3 + 2 * 3, 2
    assert calls["read"] == read + passes
    assert calls["prefix"] == 2  # with a video after it, and without
    assert calls["generate"] == 3 * (1 + 3 + 2 + 1)
    assert keys(shared) == alone
    assert alone["uniform", 1.0, "q0"] != alone["uniform", 0.5, "q0"]


@dataclass(frozen=True, kw_only=True)
class CutsTheSelected(Method):
    """Selects all tokens, or by the ratio, and keeps the first ones of each chunk, at half of the layers by the ratio.

    `fails_at`: of this ratio nothing can be cut.
    """

    by_ratio: bool = False
    fails_at: float | None = None

    def select(self, tokens: VisualTokens, budget: Budget, attention_from_question: AttentionFromQuestion) -> Any:
        return tokens.keep(torch.arange(int(len(tokens) * budget.ratio))) if self.by_ratio else tokens

    def evict(self, chunk: LayerChunk) -> Evicted | None:
        size = chunk.keys.shape[1]
        if self.fails_at is not None and chunk.max_keep == int(self.fails_at * size):
            raise MethodError("nothing can be cut")
        return Evicted(index=torch.arange(chunk.max_keep)) if chunk.layer % 2 else None


RATIOS = (1.0, 0.5, 0.25, 0.125)


@pytest.mark.parametrize(
    ("method", "chunks"),
    [
        (ReTaKe(), 4 * 2 - 3),  # 4 ratios of 2 chunks, of which the first is read once
        (PivotKV(reforge=False), 4 * 2 - 3),
        (InfiniPotV(block=4, left=2), 4 * 3 - 3),  # which has chunks of its own
        (CutsTheSelected(), 4 * 2 - 3),
        (CutsTheSelected(by_ratio=True), 2 + 1 + 1 + 1),  # nothing in common, and fewer tokens
    ],
    ids=lambda value: repr(value) if isinstance(value, Method) else "",
)
@pytest.mark.parametrize(
    "order", [RATIOS, pytest.param(RATIOS[::-1], marks=pytest.mark.slow)], ids=["falling", "rising"]
)
def test_ratios_share_the_first_chunk_up_to_what_is_cut_of_it(
    method: Method, chunks: int, order: Sequence[float], clip: Path, backbone: Qwen2VL, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    run = PrefillLoop.run

    def counting(self: PrefillLoop, hooks: LayerHooks, embeds: Tensor) -> Tensor:
        if hooks.chunk is not None:
            read.append(len(hooks.chunk.tokens))
        return run(self, hooks, embeds)

    monkeypatch.setattr(PrefillLoop, "run", counting)
    selected: Counter[str] = Counter()
    monkeypatch.setattr(type(method), "select", _counting(type(method).select, selected, "select"))
    points = [OperatingPoint("cuts", method, ratio) for ratio in order]
    # other methods between two ratios, which have a first chunk in common with them, too
    between = [OperatingPoint("retake", ReTaKe(pivots="released"), ratio) for ratio in order]
    mixed = [point for pair in zip(points, between, strict=True) for point in pair]
    one = asked(clip)[:1]
    together = keys(answer(engine(backbone, frames=16, chunk_cells=4), points, one))
    assert len(read) == chunks
    assert selected["select"] == 4
    shared = keys(answer(engine(backbone, frames=16, chunk_cells=4), mixed, one))
    assert len(read) == 2 * chunks + 4 * 2 - 3
    alone = keys(answer(engine(backbone, frames=16, chunk_cells=4, share=False), mixed, one))
    assert shared == alone
    assert together == {key: alone[key] for key in together}


def test_a_ratio_that_fails_costs_no_other(clip: Path, backbone: Qwen2VL) -> None:
    points = [OperatingPoint("cuts", CutsTheSelected(fails_at=0.25), ratio) for ratio in RATIOS]
    shared, alone = (
        answer(engine(backbone, frames=16, chunk_cells=4, share=one), points, asked(clip)) for one in (True, False)
    )
    failed = {key: shared.pop(key).error for key in list(shared) if shared[key].status == "failed"}
    assert failed == dict.fromkeys([("cuts", 0.25, f"q{n}") for n in range(3)], "MethodError: nothing can be cut")
    assert keys(shared) == keys({key: alone[key] for key in shared})


class Feeds(Meter):
    """Counts feeds of the language model in place of seconds."""

    def __init__(self) -> None:
        super().__init__(torch.device("cpu"))
        self.count = 0

    def now(self) -> float:
        return float(self.count)


def test_what_shares_a_chunk_counts_it_in_full(clip: Path, backbone: Qwen2VL, monkeypatch: pytest.MonkeyPatch) -> None:
    meter, run = Feeds(), PrefillLoop.run

    def counting(self: PrefillLoop, hooks: LayerHooks, embeds: Tensor) -> Tensor:
        meter.count += 1
        return run(self, hooks, embeds)

    monkeypatch.setattr(PrefillLoop, "run", counting)
    points = [OperatingPoint("retake", ReTaKe(), ratio) for ratio in RATIOS]
    found = answer(engine(backbone, frames=16, chunk_cells=4, gauge=meter), points, asked(clip)[:1])
    spent = [one.ledger.seconds.prefill for one in found.values() if one.ledger is not None]
    assert spent == [4.0] * 4  # the text before the video, two chunks and the question


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
