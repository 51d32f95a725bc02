"""What tuning's tests share: an operating point that drops tokens between layers, and a frame encoder."""

from __future__ import annotations

import csv
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor

from evalkit.data.sampling import Sampling
from evalkit.engine.frame_encoder import FrameEncoder
from evalkit.method import OperatingPoint
from evalkit.model.families.qwen2_vl import Qwen2VL
from evalkit.tune import train
from methods.lpcomp import LPComp

POINT = OperatingPoint("lpcomp", LPComp(frame_ratio=1.0), 1.0)


def frame_encoder(backbone: Qwen2VL) -> FrameEncoder:
    """Of 128 frames, as the built-in experiment samples them."""
    return FrameEncoder(
        backbone=backbone, sampling=Sampling(preset="lmms_eval", frames=128, min_pixels=3136, max_pixels=112 * 112)
    )


def curve(folder: Path) -> list[dict[str, str]]:
    """Rows of the learning curve."""
    with (folder / train.CURVE).open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def tuned(folder: Path) -> dict[str, Tensor]:
    """What was saved, by name."""
    (file,) = (folder / train.WEIGHTS).glob("*.safetensors")
    return load_file(file)
