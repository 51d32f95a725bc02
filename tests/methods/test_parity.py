"""The dense path against traces of the released reference code."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from evalkit.method import Method
from evalkit.model.families.qwen2_vl import Qwen2VL
from evalkit.model.load import load
from evalkit.model.positions import MRopePositions
from tests.support import parity
from tests.support.closeness import RTOL, apart
from tests.support.parity import replay, retake


@pytest.fixture(scope="module")
def reference(golden: Path) -> Qwen2VL:
    return load(str(golden / "retake" / "model"), device="cpu")


@pytest.mark.parametrize("chunk_cells", [1, 4, 5, None], ids=["one cell", "the golden's", "uneven", "whole video"])
def test_identity_chunked(reference: Qwen2VL, golden: Path, chunk_cells: int | None) -> None:
    found = replay(reference, golden / "retake" / "identity_chunked.safetensors", Method(), 1.0, chunk_cells)
    assert found.within(RTOL)


def test_text_inside_the_video_span_is_another_model(
    reference: Qwen2VL, golden: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Negative control: the layout of transformers' own get_rope_index, which starts text at start + max(h, w)."""
    monkeypatch.setattr(MRopePositions, "ids_after", lambda _, tokens, *__: max(tokens.grid))
    found = replay(reference, golden / "retake" / "identity_chunked.safetensors", Method(), 1.0, 4)
    assert found.logits > 0.1
    assert not found.positions


@pytest.mark.slow
def test_the_command_fails_where_a_case_is_off(
    golden: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["parity.py", "retake", str(golden / "retake")])
    assert parity.main() == 0
    assert capsys.readouterr().out.count("ok ") == len(json.loads((golden / "retake" / "cases.json").read_text()))
    monkeypatch.setattr(sys, "argv", ["parity.py", "retake", str(golden / "retake"), "--tolerance", "1e-9"])
    assert parity.main() == 1
    assert "DIFFERS" in capsys.readouterr().out


def test_wrong_pivots_are_seen(golden: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: the paper's strict pivots are not what the released code computes."""
    released = parity.retake_method
    monkeypatch.setattr(parity, "retake_method", lambda settings: replace(released(settings), pivots="strict"))
    off = {name for name, difference in retake(golden / "retake").items() if not difference.within(RTOL)}
    assert off
    assert all(name.startswith("dpselect") for name in off)


def test_every_retake_case(golden: Path) -> None:
    found = retake(golden / "retake")
    assert len(found) >= 11
    assert not [name for name, difference in found.items() if not difference.within(RTOL)]


def test_closeness_is_relative_to_the_vector() -> None:
    theirs = torch.randn(4, 64, generator=torch.Generator().manual_seed(0))
    largest = theirs.abs().amax(-1)
    for scale in (1.0, 1e3):  # a residual stream of any size
        for error, holds in ((0.5 * RTOL, True), (2 * RTOL, False)):
            off = scale * theirs
            off[2, 0] += error * scale * largest[2]
            assert (apart(off, scale * theirs) < RTOL) == holds
    assert apart(theirs[:3], theirs) == float("inf")
    assert apart(theirs * 1e-12, torch.zeros(4, 64)) < RTOL
