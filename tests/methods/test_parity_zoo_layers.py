"""Traces of AKS, BOLT, FastV, PyramidDrop, FrameFusion, HoliTom's and FlashVID's inner stages, InfiniPot-V and
AdaReTaKe, replayed; and what a replay must see: each mistake of the specification's list fails.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from evalkit.method import Budget, Method, PruneView
from evalkit.model.decoder import Decoder
from evalkit.types import Pruned, VisualTokens
from methods import holitom_inner
from methods.fastv import FastV
from methods.framefusion import FrameFusion
from methods.holitom_inner import HoliTomInner
from methods.pyramiddrop import PyramidDrop
from tests.support import parity
from tests.support.parity_prune import WEIGHTS, decoder_of, replay
from tests.support.parity_zoo_layers import zoo_layers


def test_the_part_in_the_project(small_golden: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert parity.main(["zoo_layers", str(small_golden / "zoo_layers")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 9
    assert all(line.startswith("ok") for line in lines)


@pytest.mark.slow
def test_the_whole(whole_golden: Path) -> None:
    found, left_out = zoo_layers(whole_golden / "zoo_layers")
    assert [name for name, (holds, _) in found.items() if not holds] == []
    assert len(found) >= 48
    assert left_out == []


def test_a_changed_trace_is_seen(small_golden: Path, tmp_path: Path) -> None:
    folder = tmp_path / "zoo_layers"
    shutil.copytree(small_golden / "zoo_layers", folder)
    file = folder / "fastv" / "k2_r50.safetensors"
    trace = load_file(file)
    kept = trace["kept"].clone()
    kept[-1] = int(next(i for i in range(384) if i not in set(kept.tolist())))
    save_file({**trace, "kept": kept}, file)
    (folder / "other").mkdir()
    found, left_out = zoo_layers(folder)
    assert [name for name, (holds, _) in found.items() if not holds] == ["fastv/k2_r50"]
    assert left_out == ["other: no method here has these traces"]


# ---- negative controls


@dataclass(frozen=True, kw_only=True)
class RenumberedFastV(FastV):
    """Ids without gaps: a mistake."""

    def prune(self, layer: int, layers: int, tokens: VisualTokens, budget: Budget, view: PruneView) -> Pruned | None:
        pruned = super().prune(layer, layers, tokens, budget, view)
        return None if pruned is None else replace(pruned, renumber=True)


@dataclass(frozen=True, kw_only=True)
class KeptIdsPyramidDrop(PyramidDrop):
    """Ids as they were: a mistake."""

    def prune(self, layer: int, layers: int, tokens: VisualTokens, budget: Budget, view: PruneView) -> Pruned | None:
        pruned = super().prune(layer, layers, tokens, budget, view)
        return None if pruned is None else replace(pruned, renumber=False)


@dataclass(frozen=True, kw_only=True)
class LateFrameFusion(FrameFusion):
    """No round before layer 0: a mistake."""

    def prune(self, layer: int, layers: int, tokens: VisualTokens, budget: Budget, view: PruneView) -> Pruned | None:
        return super().prune(layer, layers, tokens, budget, view) if view.between else None


PUBLISHED = {"cost": 0.3, "layers": 28}
HOLITOM = HoliTomInner(layer=5, merged=0.5)


@pytest.fixture(scope="module")
def reference(whole_golden: Path) -> Decoder:
    return decoder_of(whole_golden / "zoo_layers" / WEIGHTS, None)


@pytest.mark.parametrize(
    ("case", "mistake"),
    [
        ("fastv/k2_r50", RenumberedFastV(layer=2, dropped=0.5)),
        ("fastv/k2_r50", FastV(layer=3, dropped=0.5)),
        ("pyramiddrop/l246_halves", KeptIdsPyramidDrop(stages=((2, 0.5), (4, 0.25), (6, 0.125)))),
        ("holitom_inner/k5_r50_released", HOLITOM),
        ("framefusion/cost30", LateFrameFusion(similarity=0.6, **PUBLISHED)),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_a_mistake_is_seen(case: str, mistake: Method, reference: Decoder, whole_golden: Path) -> None:
    file = whole_golden / "zoo_layers" / f"{case}.safetensors"
    assert not replay(reference, file, mistake).within()


def test_plain_means_are_seen(reference: Decoder, whole_golden: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """HoliTom with the mean of a group in place of one after the other."""
    file = whole_golden / "zoo_layers" / "holitom_inner" / "k5_r50_causal.safetensors"
    assert replay(reference, file, HOLITOM).within()

    def means(chosen: torch.Tensor, joining: torch.Tensor, into: torch.Tensor) -> torch.Tensor:
        total = chosen.clone().index_add(0, into, joining)
        return total / (1 + torch.bincount(into, minlength=len(chosen)))[:, None]

    monkeypatch.setattr(holitom_inner, "averaged_in", means)
    assert not replay(reference, file, HOLITOM).within()
