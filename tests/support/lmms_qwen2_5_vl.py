"""What lmms-eval's class for Qwen2.5-VL hands to the model for a video; run as a script, as its import is heavy.

python -m tests.support.lmms_qwen2_5_vl VIDEO … -> a JSON list per line: module of the class, frame numbers, the numbers
that their pictures carry, height, width and visual tokens.
"""

from __future__ import annotations

import inspect
import json
import sys
from types import SimpleNamespace
from typing import Any

import torch
from lmms_eval.models import get_model
from qwen_vl_utils import vision_process
from transformers import Qwen2VLVideoProcessor

from tests.support.clips import number


class Seen(Exception):  # noqa: N818 – no error: ends the call where the model would begin
    """Carries what the processor was given."""


class Processor:
    """Stands where the checkpoint's processor would."""

    def apply_chat_template(self, *_: Any, **__: Any) -> list[str]:
        return [""]

    def __call__(self, *, videos: list[torch.Tensor], video_metadata: list[dict[str, Any]], **_: Any) -> None:
        raise Seen(videos[0], video_metadata[0])


def model() -> Any:
    """An object of the class that `--model qwen2_5_vl` names, with its defaults and without weights."""
    cls = get_model("qwen2_5_vl")
    defaults = {name: p.default for name, p in inspect.signature(cls.__init__).parameters.items()}
    found = cls.__new__(cls)
    for name in ("min_pixels", "max_pixels", "max_num_frames", "fps"):
        setattr(found, name, defaults[name])
    found.batch_size_per_gpu, found._rank, found.processor = defaults["batch_size"], 0, Processor()
    return found


def seen(model: Any, video: str) -> list[Any]:
    messages = [{"role": "user", "content": [{"type": "video", "url": video}, {"type": "text", "text": "?"}]}]
    model.task_dict = {"task": {"test": [messages]}}
    try:
        model.generate_until([SimpleNamespace(args=("?", lambda doc: doc, {}, 0, "task", "test"))])
    except Seen as found:
        frames, metadata = found.args
    height, width = frames.shape[-2:]
    processor = Qwen2VLVideoProcessor(min_pixels=model.min_pixels, max_pixels=model.max_pixels)
    out = processor(videos=[frames], do_sample_frames=False, cap_pixels_per_frame=False)
    numbers = [number(frame.permute(1, 2, 0).numpy()) for frame in frames]
    tokens = int(out["video_grid_thw"].prod()) // processor.merge_size**2
    return [type(model).__module__, metadata["frames_indices"], numbers, height, width, tokens]


if __name__ == "__main__":
    vision_process.get_video_reader_backend = lambda: "decord"  # torchcodec needs libraries that not all machines have
    asked = model()
    for path in sys.argv[1:]:
        print(json.dumps(seen(asked, path)))
