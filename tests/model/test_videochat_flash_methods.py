"""The contract on VideoChat-Flash, XComp's own backbone: the papers' methods and the controls defined there."""

from __future__ import annotations

import pytest

from evalkit.model.load import load
from evalkit.model.video_llm import VideoLLM
from tests.support import family_checks, videochat_flash

NAMES = (
    "blind",
    "dpselect",
    "heuristic_drop",
    "lpcomp",
    "pivotkv",
    "qccomp",
    "random_frames",
    "retake",
    "shuffled",
    "single",
    "uniform",
    "xcomp",
)


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> VideoLLM:
    return load(
        str(videochat_flash.random_checkpoint(tmp_path_factory.mktemp("family") / "flash", num_hidden_layers=4)),
        device="cpu",
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_contract(name: str, family: VideoLLM, monkeypatch: pytest.MonkeyPatch) -> None:
    family_checks.keeps_the_contract(name, family, monkeypatch)
