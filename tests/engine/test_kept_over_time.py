"""`Answer.kept`: which cells of the video are in the cache, by their own times."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

from evalkit.method import AttentionFromQuestion, Budget, Method, OperatingPoint
from evalkit.model.families.qwen2_vl import Qwen2VL
from evalkit.types import Answer, Evicted, LayerChunk, VisualTokens
from tests.support import clips
from tests.support.loop import engine, question
from tests.support.methods import WITHIN, built


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clips.make(tmp_path_factory.mktemp("clip") / "clip.mp4", frames=160, size=(112, 112))


def answered(backbone: Qwen2VL, point: OperatingPoint, clip: Path, **changes: object) -> Answer:
    ((_, answer),) = engine(backbone, chunk_cells=4, **changes).answers({point: [question(clip, 0)]})
    assert answer.ledger is not None, answer.error
    return answer


@dataclass(frozen=True, kw_only=True)
class Picked(Method):
    """Cells 5, 2 tokens of cell 9, and cell 14, packed into the first slots; a quarter of each in odd layers."""

    def select(self, tokens: VisualTokens, budget: Budget, ask: AttentionFromQuestion) -> VisualTokens:
        places = tokens.grid[0] * tokens.grid[1]
        index = torch.cat([torch.arange(places) + 5 * places, torch.arange(2) + 9 * places])
        index = torch.cat([index, torch.arange(places) + 14 * places])
        slots = {5: 0, 9: 1, 14: 2}
        left = tokens.keep(index)
        return replace(left, slot=torch.tensor([slots[int(c)] for c in left.cell]), span=3)

    def evict(self, chunk: LayerChunk) -> Evicted | None:
        size = chunk.keys.shape[1]
        return Evicted(index=torch.arange(0, size, 4)) if chunk.layer % 2 else None


def test_by_hand(clip: Path, backbone: Qwen2VL) -> None:
    """16 places a cell, 6 layers. Odd layers keep places 0, 4, 8, 12 of cell 5 (4), the first of cell 9 (1), and of
    cell 14, which begins at position 18, those at 20, 24, 28, 32 (4).
    """
    dense = answered(backbone, OperatingPoint("dense", Method(), 1.0), clip)
    found = answered(backbone, OperatingPoint("picked", Picked(), 1.0), clip)
    assert dense.kept is not None
    assert found.kept is not None
    assert len(dense.kept.seconds) == 16
    assert dense.kept.tokens == (16.0,) * 16
    assert found.kept.seconds == tuple(dense.kept.seconds[cell] for cell in (5, 9, 14))
    assert (dense.kept.cells, found.kept.cells) == (tuple(range(16)), (5, 9, 14))
    assert found.kept.tokens == ((16 + 4) / 2, (2 + 1) / 2, (16 + 4) / 2)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*WITHIN, "visionzip"])
def test_it_sums_to_the_ledger(name: str, clip: Path, backbone: Qwen2VL) -> None:
    answer = answered(backbone, replace(built(name), ratio=0.25), clip)
    assert answer.ledger is not None
    if answer.ledger.cells == 0:
        assert answer.kept is None
        return
    assert answer.kept is not None
    layers = answer.ledger.kv_tokens_per_layer
    assert sum(answer.kept.tokens) == pytest.approx(sum(layers) / len(layers), abs=0.01 * answer.ledger.cells)
    assert len(answer.kept.seconds) == len(answer.kept.tokens) <= answer.ledger.cells
    merged, represented = answer.kept.merged, answer.ledger.tokens_represented
    if name == "visionzip":  # every token of a cell stays or goes into one that does
        assert (merged, represented) == ((16,) * 16, 256)
    elif name in ("flashvid", "holitom"):  # a token may go into several
        assert merged is not None
        assert represented is not None
        assert answer.ledger.tokens_selected < represented <= min(256, sum(merged))
    else:
        assert (merged, represented) == (None, answer.ledger.tokens_selected)
    assert list(answer.kept.seconds) == sorted(answer.kept.seconds) or name == "shuffled"
