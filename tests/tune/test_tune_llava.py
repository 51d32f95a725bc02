"""Tuning on the families that have separators: it runs, leaves the vision tower, and what it saves is loaded."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from evalkit.__main__ import main
from evalkit.model.load import load
from evalkit.tune import train
from tests.support.llava import random_onevision, random_video, video_settings, write
from tests.support.tuning import conversations, curve, tuned

pytestmark = pytest.mark.slow

QUICK = ("method=lpcomp", "method.frame_ratio=1", "backbone.device=cpu", "backbone.dtype=float32", "sampling.frames=6")
LEARN = ("steps=2", "accumulate=1", "log_every=1", "rate=1e-3", "projector=true")


@pytest.fixture(scope="module", params=["llava_onevision", "llava_video"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint, with a file of conversations and its video."""
    folder = tmp_path_factory.mktemp("tuned") / str(request.param)
    if request.param == "llava_video":
        write(folder, random_video(), video_settings())
    else:
        write(folder, random_onevision())
    conversations(folder, 2, (64, 48), "<video>\nWhich place is shown?")
    return folder


@pytest.mark.parametrize("how", ["lora", "full"])
def test_it_learns_and_what_is_saved_is_loaded(folder: Path, tmp_path: Path, how: str) -> None:
    data = [f"data={folder / 'rows.json'}", f"videos={folder}", f"out={tmp_path}", f"tuned={how}"]
    assert main(["tune", f"backbone={folder.name}_7b", f"backbone.path={folder}", *data, *QUICK, *LEARN]) == 0
    assert len(curve(tmp_path)) == 2
    names = tuned(tmp_path)
    assert any("projector" in name for name in names)
    assert not any("vision_tower" in name or "image_newline" in name for name in names)
    before = load(str(folder), device="cpu").model.state_dict()
    after = load(str(folder), device="cpu", adapter=str(tmp_path / train.WEIGHTS)).model.state_dict()
    changed = {name for name, weight in after.items() if name not in before or not torch.equal(weight, before[name])}
    assert changed
    assert not [name for name in changed if "vision_tower" in name or "image_newline" in name]
