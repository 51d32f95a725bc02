"""What tuning's tests share: an operating point that drops tokens between layers, and a frame encoder."""

from __future__ import annotations

import csv
import json
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor

from evalkit.data.sampling import Sampling
from evalkit.engine.frame_encoder import FrameEncoder
from evalkit.method import OperatingPoint
from evalkit.model.families.qwen2_vl import Qwen2VL
from evalkit.tune import train
from methods.lpcomp import LPComp
from tests.support import clips

POINT = OperatingPoint("lpcomp", LPComp(frame_ratio=1.0), 1.0)


def frame_encoder(backbone: Qwen2VL) -> FrameEncoder:
    """Of 128 frames, as the built-in experiment samples them."""
    return FrameEncoder(
        backbone=backbone, sampling=Sampling(preset="lmms_eval", frames=128, min_pixels=3136, max_pixels=112 * 112)
    )


def conversations(folder: Path, rows: int, size: tuple[int, int], asked: str = "<video>Which place is shown?") -> Path:
    """A file of conversations, one question each, about a clip beside it, height and width in pixels."""
    clips.make(folder / "clip.mp4", frames=24, size=size)
    talk = [{"from": "human", "value": asked}, {"from": "gpt", "value": "A"}]
    file = folder / "rows.json"
    file.write_text(json.dumps([{"id": f"r{n}", "video": "clip.mp4", "conversations": talk} for n in range(rows)]))
    return file


def curve(folder: Path) -> list[dict[str, str]]:
    """Rows of the learning curve."""
    with (folder / train.CURVE).open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def tuned(folder: Path) -> dict[str, Tensor]:
    """What was saved, by name."""
    (file,) = (folder / train.WEIGHTS).glob("*.safetensors")
    return load_file(file)
