"""The registry of families: each names a released backbone, whose options any other checkpoint of the family takes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from evalkit.config import build, choices, named
from evalkit.errors import ConfigError
from evalkit.model.families.registry import FAMILIES
from evalkit.model.families.videochat_flash import VideoChatFlash
from tests.support.configs import composed

RELEASED = {
    "llava": "llava_video_7b",
    "llava_onevision": "llava_onevision_7b",
    "llava_qwen": "llava_video_7b",
    "qwen2_5_vl": "qwen2_5_vl_7b",
    "qwen2_vl": "qwen2_vl_7b",
    "qwen3_vl": "qwen3_vl_8b",
    "videochat_flash_qwen": "videochat_flash_2b",
}


def checkpoint(folder: Path, model_type: str) -> Path:
    """A folder with settings alone; nothing is read from weights before a question is asked."""
    settings = {"model_type": model_type, "torch_dtype": "bfloat16"}
    if RELEASED[model_type] == "llava_video_7b":
        settings["mm_newline_position"] = "grid"
    (folder / "config.json").write_text(json.dumps(settings))
    return folder


def test_every_family_has_a_released_backbone_of_its_own() -> None:
    own = [name for name, entry in FAMILIES.entries.items() if not entry.foreign]
    # by the class itself: one that it inherits is another family's
    assert {name: vars(FAMILIES[name]).get("released_backbone") for name in own} == RELEASED
    assert set(RELEASED.values()) <= set(choices.files("backbone"))


@pytest.mark.slow
@pytest.mark.parametrize("model_type", RELEASED)
def test_a_checkpoint_takes_its_options(model_type: str, tmp_path: Path) -> None:
    found = named.backbone(str(checkpoint(tmp_path, model_type)), device="cpu")
    cfg = composed(f"backbone={RELEASED[model_type]}")
    assert found.sampling == build.sampling(cfg)
    assert (found.chunk_cells, found.encode_cells) == (cfg.backbone.chunk_cells, cfg.backbone.encode_cells)
    assert (found.dtype, found.checkpoint.revision) == ("bfloat16", None)


def test_a_family_without_one_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As another package's may be."""
    monkeypatch.setattr(VideoChatFlash, "released_backbone", None)
    with pytest.raises(ConfigError, match=r"class of its family, VideoChatFlash, to name the backbone .*, one of "):
        named.backbone(str(checkpoint(tmp_path, "videochat_flash_qwen")))
