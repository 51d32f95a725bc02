"""FLOPs in the ledger against torch's own counter, for every method of conf/method and both families."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from evalkit.commands import dry_run
from evalkit.method import AttentionFromQuestion, Budget, Method, OperatingPoint, PruneView
from evalkit.model import flops
from evalkit.model.families.qwen2_vl import Qwen2VL
from evalkit.model.flops import OpCounts
from evalkit.model.load import load
from evalkit.testing.loop import scores
from evalkit.types import Answer, Evicted, LayerChunk, Pruned, Question, VisualTokens
from tests.support import clips
from tests.support.flop_counter import counted, total
from tests.support.loop import engine, question
from tests.support.methods import BEFORE_LLM, NAMES, built

FRAMES = 64  # of the clip, a quarter of which are looked at
QUICK: dict[str, Any] = {"frames": 16, "new_tokens": 3, "chunk_cells": 3}


def asked(clip: Path, number: int = 0) -> Question:
    return question(clip, number, frame_scores=scores(range(FRAMES), seed=number))


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clips.make(tmp_path_factory.mktemp("clip") / "clip.mp4", frames=FRAMES, size=(168, 112))


def spent(backbone: Qwen2VL, point: OperatingPoint, clip: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Answer, int]:
    with counted(monkeypatch) as counter:
        ((_, answer),) = engine(backbone, **QUICK).answers({point: [asked(clip)]})
    return answer, counter.get_total_flops()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "ratio"), [(name, ratio) for name in NAMES for ratio in (1.0, 0.25) if ratio < 1 or name not in BEFORE_LLM]
)
def test_closed_form_equals_the_counter(
    name: str, ratio: float, clip: Path, shallow: Qwen2VL, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer, theirs = spent(shallow, replace(built(name), ratio=ratio), clip, monkeypatch)
    assert total(answer) == theirs


@dataclass(frozen=True, kw_only=True)
class Chooser(Method):
    """A matrix product of its own at every verb that sees tokens; `counted` is what it counts of each."""

    counted: int

    def select(
        self, tokens: VisualTokens, budget: Budget, attention_from_question: AttentionFromQuestion
    ) -> VisualTokens:
        _ = tokens.features[:4] @ tokens.features[:4].T
        return replace(tokens, flops=self.counted * 4 * 4 * tokens.features.shape[1])

    def prune(self, layer: int, layers: int, tokens: VisualTokens, budget: Budget, view: PruneView) -> Pruned:
        _ = tokens.features[:4] @ tokens.features[:4].T
        index = torch.arange(len(tokens) - 1) if len(tokens) > 8 else torch.arange(len(tokens))
        return Pruned(index=index, flops=self.counted * 4 * 4 * tokens.features.shape[1])

    def evict(self, chunk: LayerChunk) -> Evicted:
        _ = chunk.keys @ chunk.keys.transpose(1, 2)
        size = chunk.keys.shape[1]
        return Evicted(index=torch.arange(size), flops=self.counted * chunk.keys.numel() * size)


@pytest.mark.parametrize(("counted", "equal"), [(2, True), (0, False)])
def test_what_a_method_computes_itself(
    counted: int, equal: bool, clip: Path, shallow: Qwen2VL, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted where the method says it; where it does not, torch's counter sees more."""
    answer, theirs = spent(shallow, OperatingPoint("chooser", Chooser(counted=counted), 1.0), clip, monkeypatch)
    assert (total(answer) == theirs) == equal
    assert total(answer) <= theirs


@pytest.mark.parametrize("size", [(112, 112), (224, 140), (84, 196)])
def test_windowed_vision(size: tuple[int, int], qwen25: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Qwen2.5-VL: whole windows, and grids that windows do not divide."""
    family = load(str(qwen25), device="cpu")
    pixels = np.random.default_rng(0).integers(0, 255, (8, *size, 3), dtype=np.uint8)
    with torch.inference_mode(), counted(monkeypatch) as counter:
        family.encode(pixels, slice_cells=2)
    grid = (size[0] // family.pixels_per_token, size[1] // family.pixels_per_token)
    assert family.encode_flops(4, grid) == counter.get_total_flops()
    monkeypatch.setattr(family.model.config.vision_config, "fullatt_block_indexes", [0, 1])
    assert family.encode_flops(4, grid) > counter.get_total_flops()


def test_by_hand() -> None:
    """Width 8, 2 heads and 1 for keys of width 4, MLP 16, 10 words: one token of a layer, one pair, one score."""
    config = SimpleNamespace(
        hidden_size=8, num_attention_heads=2, num_key_value_heads=1, intermediate_size=16, vocab_size=10
    )
    costs = flops.decoder_costs(config)
    assert flops.decoder(costs, OpCounts(projected=1)) == 2 * (8 * 8 + 8 * 4 + 8 * 4 + 8 * 8)
    assert flops.decoder(costs, OpCounts(pairs=1)) == 2 * 2 * 8
    assert flops.decoder(costs, OpCounts(transformed=1)) == 2 * 3 * 8 * 16
    assert flops.decoder(costs, OpCounts(scored=1, extra=5)) == 2 * 8 * 10 + 5
    assert flops.windows(5, 4, 4) == [16, 4]
    assert OpCounts(pairs=3) + OpCounts(pairs=2, extra=1) - OpCounts(extra=1) == OpCounts(pairs=5)


def test_the_estimate_before_a_run_by_hand() -> None:
    """3 layers, 10 tokens whose cache grows to 4 entries, 2 questions."""
    text = dry_run.TEXT_TOKENS
    assert dry_run._work(3, 10, 4, 2) == OpCounts(
        projected=3 * (10 + 2 * text),
        pairs=3 * (10 * 4 // 2 + 2 * text * (4 + text)),
        transformed=3 * (10 + 2 * text),
        scored=2,
    )


def test_shared_work_counts_in_full_for_each_question(clip: Path, shallow: Qwen2VL) -> None:
    """Alone or beside others, shared or not: a question's operations are its own."""
    questions = [asked(clip, n) for n in range(3)]
    for name in ("pivotkv", "qccomp"):
        point = replace(built(name), ratio=0.25)
        together = [a for _, a in engine(shallow, **QUICK).answers({point: questions})]
        apart = [a for _, a in engine(shallow, share=False, **QUICK).answers({point: questions})]
        assert [a.ledger.flops for a in together if a.ledger] == [a.ledger.flops for a in apart if a.ledger]
        assert len({total(a) for a in together}) == 3  # the questions differ in length
