"""One video's loop: sharing changes nothing, and every kind of failure becomes a recorded row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from evalkit.data import video as video_file
from evalkit.errors import ConfigError
from evalkit.method import AttentionFromQuestion, Budget, Method, OperatingPoint, PruneView
from evalkit.model.families.qwen2_vl import Qwen2VL
from evalkit.model.question_attention import QuestionAttention
from evalkit.model.video_feed import VideoFeed
from evalkit.testing.loop import FirstLetterProtocol
from evalkit.types import Evicted, FramePlan, LayerChunk, Pruned, Question, Reply, Video, VisualTokens
from methods.controls import Blind, LowRes, RandomFrames, Shuffled, Single
from methods.uniform import Uniform
from tests.support import clips, scarce_memory
from tests.support.loop import DENSE, answer, answer_key, engine, exact_key, question


@dataclass(frozen=True, kw_only=True)
class Crop(Method):
    """Half of the tokens after the encoder, half of the rest after each layer: every later verb at work."""

    def select(
        self, tokens: VisualTokens, budget: Budget, attention_from_question: AttentionFromQuestion
    ) -> VisualTokens:
        return tokens.keep(torch.arange(0, len(tokens), 2))

    def evict(self, chunk: LayerChunk) -> Evicted | None:
        return Evicted(index=torch.arange(chunk.layer % 2, chunk.keys.shape[1], 2))


GRID = [
    DENSE,
    OperatingPoint("uniform", Uniform(), 0.5),
    OperatingPoint("random", RandomFrames(), 0.25),
    OperatingPoint("lowres", LowRes(), 0.5),
    OperatingPoint("single", Single(), 0.5),
    OperatingPoint("shuffled", Shuffled(), 0.5),
    OperatingPoint("blind", Blind(), 0.5),
    OperatingPoint("crop", Crop(), 0.25),
]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clips.make(tmp_path_factory.mktemp("clip") / "clip.mp4", frames=120, size=(112, 112))


def test_sharing_never_changes_an_answer(clip: Path, backbone: Qwen2VL) -> None:
    """Bit for bit: the texts, and every count, of a whole grid against each cell run alone."""
    questions = [question(clip, n) for n in range(3)]
    quick: dict[str, Any] = {"frames": 16, "new_tokens": 3}
    shared = answer(engine(backbone, **quick), GRID, questions)
    alone = answer(engine(backbone, share=False, **quick), GRID, questions)
    assert len(shared) == len(GRID) * 3
    assert {key: exact_key(a) for key, a in shared.items()} == {key: exact_key(a) for key, a in alone.items()}
    backwards = answer(engine(backbone, **quick), GRID[::-1], questions[::-1])
    assert {key: exact_key(a) for key, a in shared.items()} == {key: exact_key(a) for key, a in backwards.items()}
    assert len({a.text for a in shared.values()}) > len(GRID)  # the grid is not all one answer


@dataclass(frozen=True, kw_only=True)
class Asks(Method):
    """Keeps all tokens of a question whose attention to the first cell is below a limit, else half of them."""

    limit: float

    @property
    def query_aware(self) -> bool:
        return True

    def select(
        self, tokens: VisualTokens, budget: Budget, attention_from_question: AttentionFromQuestion
    ) -> VisualTokens:
        looked = float(attention_from_question(range(2), windows=[(0, 2)], layers=range(2))[0, 0, 0])
        return tokens if looked < self.limit else tokens.keep(torch.arange(0, len(tokens), 2))


@dataclass(frozen=True, kw_only=True)
class AsksAndCuts(Asks):
    """Cuts the cache, too, which may depend on the question's length."""

    def evict(self, chunk: LayerChunk) -> Evicted | None:
        return Evicted(index=torch.arange(chunk.keys.shape[1] - 1))


@pytest.mark.parametrize(
    ("method", "expected"), [(Asks(limit=1.0), 1), (Asks(limit=0.0), 1), (AsksAndCuts(limit=1.0), 3)]
)
def test_questions_for_which_the_same_tokens_were_chosen_share_a_cache(
    method: Method, expected: int, clip: Path, backbone: Qwen2VL, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefills: list[int] = []
    read = VideoFeed.read

    def counting(self: VideoFeed) -> None:
        if self.method == method:  # no pass of the attention from the question
            prefills.append(len(self.tokens))
        read(self)

    monkeypatch.setattr(VideoFeed, "read", counting)
    questions, point = [question(clip, n) for n in range(3)], OperatingPoint("asks", method, 0.5)
    shared = answer(engine(backbone), [point], questions)
    assert len(prefills) == expected
    alone = answer(engine(backbone, share=False), [point], questions)
    assert {key: answer_key(a) for key, a in shared.items()} == {key: answer_key(a) for key, a in alone.items()}


@dataclass(frozen=True, kw_only=True)
class AsksHalfOfTheLayers(Asks):
    """Drops tokens between layers, after the first ones or by the budget."""

    by_ratio: bool

    def prune(self, layer: int, layers: int, tokens: VisualTokens, budget: Budget, view: PruneView) -> Pruned | None:
        step = 4 if self.by_ratio and budget.ratio < 0.5 else 2
        return Pruned(index=torch.arange(0, len(tokens), step)) if layer == 1 else None


@pytest.mark.parametrize(("by_ratio", "expected"), [(False, 1), (True, 2)])
def test_ratios_at_which_the_same_tokens_stay_share_the_pass(
    by_ratio: bool, expected: int, clip: Path, backbone: Qwen2VL, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes: list[Sequence[int]] = []
    read = QuestionAttention._read

    def counting(self: QuestionAttention, cells: Sequence[int], *args: Any) -> Any:
        passes.append(cells)
        return read(self, cells, *args)

    monkeypatch.setattr(QuestionAttention, "_read", counting)
    method = AsksHalfOfTheLayers(limit=1.0, by_ratio=by_ratio)
    questions, points = [question(clip, n) for n in range(2)], [OperatingPoint("asks", method, r) for r in (0.5, 0.25)]
    shared = answer(engine(backbone), points, questions)
    assert len(passes) == expected
    alone = answer(engine(backbone, share=False), points, questions)
    assert {key: answer_key(a) for key, a in shared.items()} == {key: answer_key(a) for key, a in alone.items()}


def test_tokens_are_the_same_only_where_all_of_them_are() -> None:
    """Negative control of the above: one feature, position or mark that differs is another cache."""
    tokens = VisualTokens.dense(torch.arange(16.0).reshape(8, 2), seconds=(0.0, 1.0), grid=(2, 2))
    assert tokens.same(replace(tokens, flops=3, slot=tokens.slot.clone()))
    changed = tokens.features.clone()
    changed[3, 1] += 1e-6
    others = (
        replace(tokens, features=changed),
        replace(tokens, slot=tokens.slot + 1),
        replace(tokens, protected=~tokens.protected),
        replace(tokens, span=2),
        replace(tokens, slot_seconds=tokens.cell_seconds),
        tokens.keep(torch.arange(7)),
    )
    assert not any(tokens.same(other) or other.same(tokens) for other in others)


def test_a_grid_decodes_once_and_encodes_each_set_of_frames_once(
    clip: Path, backbone: Qwen2VL, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes: list[int] = []
    encoded: list[int] = []
    decode, encode = video_file.sized_frames, Qwen2VL.encode

    def counted(video: Video, plans: Sequence[FramePlan], reader: str = "pyav") -> Iterator[video_file.SizedFrame]:
        passes.append(len(set(plans)))
        return decode(video, plans, reader)

    def counting(self: Qwen2VL, pixels: np.ndarray, *, slice_cells: int) -> torch.Tensor:
        encoded.append(len(pixels))
        return encode(self, pixels, slice_cells=slice_cells)

    monkeypatch.setattr(video_file, "sized_frames", counted)
    monkeypatch.setattr(Qwen2VL, "encode", counting)
    questions = [question(clip, n) for n in range(3)]
    points = [
        DENSE,
        OperatingPoint("uniform", Uniform(), 1.0),
        OperatingPoint("crop", Crop(), 0.25),
        OperatingPoint("half", Uniform(), 0.5),
    ]
    answer(engine(backbone, frames=16, new_tokens=1), points, questions)
    assert passes == [2]
    assert sorted(encoded) == [8, 16]
    passes.clear()
    answer(engine(backbone, frames=16, new_tokens=1, share=False), points, questions)
    assert passes == [1] * len(points) * len(questions)


def test_the_ledger_by_hand(clip: Path, backbone: Qwen2VL) -> None:
    found = answer(engine(backbone), [DENSE, OperatingPoint("crop", Crop(), 0.25)], [question(clip, 0)])
    dense, crop = (found[name, ratio, "q0"].ledger for name, ratio in (("dense", 1.0), ("crop", 0.25)))
    assert dense is not None
    assert crop is not None
    assert (dense.frames_decoded, dense.cells, dense.tokens_dense, dense.tokens_encoded) == (32, 16, 256, 256)
    assert dense.kv_tokens_per_layer == (256,) * backbone.layers
    assert (crop.tokens_encoded, crop.tokens_selected, crop.kv_tokens_per_layer[0]) == (256, 128, 64)
    assert crop.ratio_achieved == 0.25
    # keys and values, 2 heads of 32, 4 bytes
    assert crop.kv_bytes == 64 * backbone.layers * 2 * 2 * 32 * 4
    head, tail = backbone.prompt("How many objects appear?\none two", video=True)
    words = len(backbone.tokenizer(found["crop", 0.25, "q0"].text, add_special_tokens=False)["input_ids"])
    fed = crop.llm_tokens_fed - len(head) - len(tail) - 128
    assert 0 <= fed <= 5
    assert words == 0 or fed > 0
    assert dense.llm_tokens_fed >= 256 + len(head) + len(tail)
    assert dense.peak_bytes > 0
    assert min(vars(dense.seconds).values()) >= 0


def test_shuffled_and_single_show_what_they_say(clip: Path, backbone: Qwen2VL) -> None:
    loop = engine(backbone).frame_encoder
    video = video_file.probe(clip)
    seen = {}
    for name, method in (("uniform", Uniform()), ("shuffled", Shuffled()), ("single", Single())):
        plan = loop.plan(OperatingPoint(name, method, 0.5), video).frames
        (frames,) = video_file.decode(video, [plan])
        seen[name] = [clips.number(frames.pixels[slot]) for slot in plan.slots]
    pairs = {tuple(seen["uniform"][i : i + 2]) for i in range(0, 16, 2)}
    assert {tuple(seen["shuffled"][i : i + 2]) for i in range(0, 16, 2)} == pairs
    assert seen["shuffled"] != seen["uniform"]
    assert len(seen["single"]) == 16
    assert len(set(seen["single"])) == 1
    assert 50 < seen["single"][0] < 70


def test_a_missing_video_is_recorded(tmp_path: Path, backbone: Qwen2VL) -> None:
    found = answer(engine(backbone), GRID[:2], [question(tmp_path / "no.mp4", n) for n in range(2)])
    assert len(found) == 4
    for row in found.values():
        assert (row.status, row.correct, row.ledger) == ("failed", None, None)
        assert "no.mp4" in str(row.error)


def test_wrong_settings_end_the_run_at_any_stage(
    clip: Path, backbone: Qwen2VL, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: Any, **__: Any) -> Any:
        raise ConfigError("no tokenizer")

    monkeypatch.setattr(Qwen2VL, "prompt", refused)
    with pytest.raises(ConfigError, match="no tokenizer"):
        answer(engine(backbone), [DENSE], [question(clip, 0)])


@pytest.mark.parametrize("content", [b"", b"not a video at all" * 99])
def test_a_broken_video_is_recorded(content: bytes, tmp_path: Path, backbone: Qwen2VL) -> None:
    (tmp_path / "bad.mp4").write_bytes(content)
    (row,) = answer(engine(backbone), [DENSE], [question(tmp_path / "bad.mp4", 0)]).values()
    assert row.status == "failed"
    assert "bad.mp4" in str(row.error)


class Generous(FirstLetterProtocol):
    def read(self, question: Question, text: str) -> Reply:
        return replace(super().read(question, text), correct=True)


def test_a_protocol_that_contradicts_itself_scores_nothing(clip: Path, backbone: Qwen2VL) -> None:
    generous = replace(engine(backbone), protocol=Generous())
    (row,) = answer(generous, [DENSE], [question(clip, 0, answer="no letter")]).values()
    assert (row.status, row.correct) == ("failed", None)
    assert "protocol=plain: expected correct to be False or None for letter" in str(row.error)
    (row,) = answer(engine(backbone), [DENSE], [question(clip, 0, answer="no letter")]).values()
    assert row.correct is False


def test_a_failing_method_costs_only_its_own_rows(clip: Path, backbone: Qwen2VL) -> None:
    @dataclass(frozen=True, kw_only=True)
    class Broken(Method):
        def select(
            self, tokens: VisualTokens, budget: Budget, attention_from_question: AttentionFromQuestion
        ) -> VisualTokens:
            raise RuntimeError("no such luck")

    found = answer(engine(backbone), [OperatingPoint("broken", Broken(), 1.0), DENSE], [question(clip, 0)])
    assert found["broken", 1.0, "q0"].error == "RuntimeError: no such luck"
    assert found["dense", 1.0, "q0"].status != "failed"


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"),
        MemoryError(),
    ],
)
def test_running_out_of_memory_in_the_encoder_takes_smaller_slices(
    error: Exception, clip: Path, backbone: Qwen2VL, monkeypatch: pytest.MonkeyPatch
) -> None:
    plenty = answer(engine(backbone), [DENSE], [question(clip, 0)])
    tried = scarce_memory.scarce(monkeypatch, error)
    scarce = answer(engine(backbone, encode_cells=16), [DENSE], [question(clip, 0)])
    assert tried == [16, 8, 4, 4, 4, 4]
    assert [answer_key(a) for a in scarce.values()] == [answer_key(a) for a in plenty.values()]


def test_out_of_memory_elsewhere_is_recorded_and_the_next_question_answered(
    clip: Path, backbone: Qwen2VL, monkeypatch: pytest.MonkeyPatch
) -> None:
    generate, calls = Qwen2VL.generate, []

    def second_fails(self: Qwen2VL, *args: Any, **kwargs: Any) -> list[int]:
        calls.append(1)
        if len(calls) == 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return generate(self, *args, **kwargs)

    questions = [question(clip, n) for n in range(3)]
    whole = answer(engine(backbone), [DENSE], questions)
    monkeypatch.setattr(Qwen2VL, "generate", second_fails)
    found = answer(engine(backbone), [DENSE], questions)
    assert found["dense", 1.0, "q1"].status == "failed"
    assert "OutOfMemoryError" in str(found["dense", 1.0, "q1"].error)
    for id_ in ("q0", "q2"):  # the context was cut back although the question failed
        assert answer_key(found["dense", 1.0, id_]) == answer_key(whole["dense", 1.0, id_])


@pytest.mark.parametrize("wrong", [{"indices": (3, 1)}, {"indices": (1, 1)}, {"height": 100}, {"order": ()}])
def test_an_unsound_plan_is_refused(wrong: dict[str, Any], clip: Path, backbone: Qwen2VL) -> None:
    @dataclass(frozen=True, kw_only=True)
    class Unsound(Method):
        def frames(self, video: Video, budget: Budget) -> FramePlan:
            return replace(super().frames(video, budget), **wrong)

    (row,) = answer(engine(backbone), [OperatingPoint("unsound", Unsound(), 1.0)], [question(clip, 0)]).values()
    assert row.status == "failed"
    assert "frames() must return" in str(row.error)


def test_duration_comes_from_the_file_where_the_rows_have_none(clip: Path, backbone: Qwen2VL) -> None:
    plain, own = question(clip, 0), question(clip, 1, groups={"duration": ("long",)})
    found = answer(engine(backbone), [DENSE], [plain, own])
    assert found["dense", 1.0, "q0"].groups == {"duration": ("<2 min",), "task_type": ("count",)}
    assert found["dense", 1.0, "q1"].groups == {"duration": ("long",)}
