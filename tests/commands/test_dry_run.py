"""The estimate before a run counts what stands between visual tokens, without weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from evalkit.commands import dry_run
from evalkit.data.sampling import Sampling
from evalkit.engine.frame_encoder import FrameEncoder
from evalkit.method import OperatingPoint
from evalkit.model import load
from evalkit.types import Video
from methods.pivotkv import PivotKV
from methods.uniform import Uniform
from tests.support import llava

SAMPLING = Sampling(preset="lmms_eval", frames=8, min_pixels=2025, max_pixels=2025)
VIDEO = Video(path=Path("unread.mp4"), duration_s=10.0, frames=100, fps=10.0, width=64, height=48)


@pytest.fixture(scope="module")
def llava_video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return llava.write(tmp_path_factory.mktemp("video"), llava.random_video(), llava.video_settings())


def estimated(folder: Path, point: OperatingPoint) -> dict[str, float]:
    encoder = FrameEncoder(backbone=load.skeleton(str(folder)), sampling=SAMPLING)
    return dry_run._video(point, VIDEO, 1, encoder, 1e9)


def test_newlines_of_llava_video(llava_video: Path) -> None:
    """8 frames of 3 × 3 tokens: a newline behind each of 24 rows, in cache and operations."""
    point = OperatingPoint(name="uniform", method=Uniform(), ratio=1.0)
    found = estimated(llava_video, point)
    assert (found["tokens"], found["separators"]) == (72, 24)
    model = load.skeleton(str(llava_video))
    assert found["KV MB"] == pytest.approx((72 + 24) * model.layers * model.kv_entry_bytes / 1e6)
    bare = model.encode_flops(8, (3, 3)) + model.flops(dry_run._work(model.layers, 72, 72, 1))
    assert found["TFLOPs"] > bare / 1e12
    half = estimated(llava_video, replace(point, ratio=0.5))  # 4 frames
    assert (half["tokens"], half["separators"]) == (36, 12)


def test_a_newline_needs_a_token_of_its_row(llava_video: Path) -> None:
    """At most as many newlines as tokens are left; what is fed has all of them."""
    found = estimated(llava_video, OperatingPoint(name="pivotkv", method=PivotKV(), ratio=0.125))
    assert (found["tokens"], found["separators"]) == (9, 9)


def test_times_of_qwen3_vl(qwen3: Path) -> None:
    """A vision start and end beside each cell, and a time of an assumed length, as there is no tokenizer."""
    count = dry_run.separators(load.skeleton(str(qwen3)), 3, (2, 2))
    assert count == (0, 3 * (2 + dry_run.TIME_TOKENS))


def test_a_family_without_separators_has_none(checkpoint: Path) -> None:
    model = load.skeleton(str(checkpoint))
    assert sum(dry_run.separators(model, 3, (2, 2))) == sum(dry_run.separators(model, 0, (2, 2))) == 0
