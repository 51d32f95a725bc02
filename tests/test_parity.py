"""The dense path against traces of the released reference code."""

from __future__ import annotations

from pathlib import Path

import pytest
from parity import TOLERANCE, replay, retake

from evalkit.method import Method
from evalkit.model.families.qwen2_vl import Qwen2VL
from evalkit.model.load import load


@pytest.fixture(scope="module")
def reference(golden: Path) -> Qwen2VL:
    return load(str(golden / "retake" / "model"), device="cpu")


@pytest.mark.parametrize("chunk_cells", [1, 4, 5, None], ids=["one cell", "the golden's", "uneven", "whole video"])
def test_identity_chunked(reference: Qwen2VL, golden: Path, chunk_cells: int | None) -> None:
    found = replay(reference, golden / "retake" / "identity_chunked.safetensors", Method(), 1.0, chunk_cells)
    assert found.within(TOLERANCE)


def test_text_inside_the_video_span_is_another_model(
    reference: Qwen2VL, golden: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Negative control: the layout of transformers' own get_rope_index, which starts text at start + max(h, w)."""
    monkeypatch.setattr(Qwen2VL, "ids_after", lambda _, tokens: max(tokens.grid))
    found = replay(reference, golden / "retake" / "identity_chunked.safetensors", Method(), 1.0, 4)
    assert found.logits > 0.1
    assert not found.positions


def test_every_retake_case(golden: Path) -> None:
    found = retake(golden / "retake")
    assert len(found) >= 11
    assert not [name for name, difference in found.items() if not difference.within(TOLERANCE)]
