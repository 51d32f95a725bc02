"""Every method on Qwen2.5-VL: the contract, the operations that torch counts, sharing."""

from __future__ import annotations

from pathlib import Path

import pytest

from evalkit.model.families.qwen2_vl import Qwen25VL
from evalkit.model.load import load
from tests.support import clips, family_checks, qwen2_vl
from tests.support.methods import WITHIN

QUICK = ("retake", "xcomp")
DEFINED = [*WITHIN, "visionzip"]
MARKED = [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in DEFINED]


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Qwen25VL:
    found = load(str(qwen2_vl.tiny_2_5(tmp_path_factory.mktemp("backbone") / "qwen25", layers=4)), device="cpu")
    assert isinstance(found, Qwen25VL)
    return found


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clips.make(tmp_path_factory.mktemp("clip") / "clip.mp4", frames=family_checks.FRAMES, size=(84, 140))


@pytest.mark.slow
@pytest.mark.parametrize("name", WITHIN)
def test_the_contract(name: str, family: Qwen25VL, monkeypatch: pytest.MonkeyPatch) -> None:
    family_checks.keeps_the_contract(name, family, monkeypatch)


@pytest.mark.parametrize("name", MARKED)
def test_operations_and_sharing(name: str, family: Qwen25VL, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = family_checks.operations_and_sharing(name, family, clip, monkeypatch)
    assert found.kv_separators == 0  # nothing stands between the cells
