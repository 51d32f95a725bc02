"""The estimate of memory: by hand, and its published sizes against what the presets and families do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from evalkit.config import build, choices
from evalkit.errors import ConfigError
from evalkit.model.memory_need import PublishedSizes
from evalkit.types import Video
from tests.support.configs import composed

RELEASED = [name for name in choices.files("backbone") if not name.startswith("tiny")]
SMALL: dict[str, Any] = {"licence": "none", "parameters": 100, "layers": 2, "kv_heads": 3, "head_dim": 4, "width": 5}


def published(name: str) -> PublishedSizes:
    found: Any = choices.settings("backbone", name)
    return PublishedSizes.of(found.published)


def test_by_hand() -> None:
    """7 frames are 4 cells of 10 tokens and a newline: 44 entries of 2 × 2 × 3 × 4 values, features of 40 tokens."""
    sizes = PublishedSizes(**SMALL, cell_frames=2, cell_tokens=10, cell_separators=1)
    assert sizes.tokens(7) == (40, 4)
    assert sizes.bytes_needed(7, "float32") == 4 * (100 + 44 * 48 + 40 * 5)
    assert sizes.bytes_needed(7, "bfloat16") * 2 == sizes.bytes_needed(7, "float32")
    deep = PublishedSizes(**SMALL, feature_levels=4, cell_frames=1, cell_tokens=1)
    assert deep.bytes_needed(3, "float16") == 2 * (100 + 3 * 48 + 3 * 20)


def test_cells_share_the_tokens_of_a_video() -> None:
    sizes = PublishedSizes(**SMALL, cell_frames=1, cell_tokens=10, video_tokens=60, least_cell_tokens=4)
    assert [sizes.tokens(frames)[0] for frames in (2, 6, 10, 20)] == [20, 60, 60, 80]


def test_wrong_sizes_are_explained() -> None:
    with pytest.raises(ConfigError, match="head_dim"):
        PublishedSizes.of({"layers": 2})
    with pytest.raises(ConfigError, match="float8"):
        PublishedSizes(**SMALL, cell_frames=1, cell_tokens=1).bytes_needed(1, "float8")


@pytest.mark.parametrize("name", RELEASED)
def test_every_released_backbone_has_its_sizes(name: str) -> None:
    cfg = composed(f"backbone={name}")
    sizes = published(name)
    assert sizes.licence
    assert 1e9 < sizes.parameters < 1e10
    assert sizes.bytes_needed(2048, cfg.backbone.dtype) > sizes.bytes_needed(256, cfg.backbone.dtype)
    assert "revision" in cfg.backbone


@pytest.mark.slow
@pytest.mark.parametrize(("name", "side"), [("qwen2_vl_7b", 28), ("qwen2_5_vl_7b", 28), ("qwen3_vl_8b", 32)])
@pytest.mark.parametrize("frames", [256, 768, 1024, 2048])
def test_tokens_are_at_most_those_of_the_preset(name: str, side: int, frames: int) -> None:
    """Of a long video in full HD, within the rounding of sides."""
    sampling = build.sampling(composed(f"backbone={name}", f"sampling.frames={frames}"))
    video = Video(path=Path("long.mp4"), duration_s=7200.0, frames=180_000, fps=25.0, width=1920, height=1080)
    height, width = sampling.size(video, side)
    shown = (height // side) * (width // side) * (frames // 2)
    assert 0.85 < shown / published(name).tokens(frames)[0] <= 1.02
