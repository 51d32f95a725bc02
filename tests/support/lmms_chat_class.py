"""What lmms-eval's class for a Qwen model hands to the model for a video; run as a script, as its import is heavy.

python -m tests.support.lmms_chat_class qwen2_5_vl=VIDEO qwen3_vl=VIDEO … -> a JSON list per line: module of the class,
frame numbers, the numbers that their pictures carry, height, width and visual tokens.
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
from transformers import Qwen2VLVideoProcessor, Qwen3VLVideoProcessor

from tests.support.clips import number

PROCESSORS = {"qwen2_5_vl": Qwen2VLVideoProcessor, "qwen3_vl": Qwen3VLVideoProcessor}


class Seen(Exception):  # noqa: N818 – no error: ends the call where the model would begin
    """Carries what the processor was given."""


class Processor:
    """Stands where the checkpoint's processor would."""

    def apply_chat_template(self, *_: Any, **__: Any) -> list[str]:
        return [""]

    def __call__(
        self, *, videos: list[torch.Tensor], video_metadata: list[dict[str, Any]], do_resize: bool = True, **_: Any
    ) -> None:
        raise Seen(videos[0], video_metadata[0], do_resize)


def model(name: str) -> Any:
    """An object of the class that `--model` names, with its defaults and without weights."""
    cls = get_model(name)
    found = cls.__new__(cls)
    defaults = {key: p.default for key, p in inspect.signature(cls.__init__).parameters.items()}
    for key in ("min_pixels", "max_pixels", "total_pixels", "max_num_frames", "fps", "system_prompt"):
        if key in defaults:
            setattr(found, key, defaults[key])
    found.batch_size_per_gpu, found._rank, found.processor = defaults["batch_size"], 0, Processor()
    found.enable_thinking = None
    return found


def seen(name: str, model: Any, video: str) -> list[Any]:
    messages = [{"role": "user", "content": [{"type": "video", "url": video}, {"type": "text", "text": "?"}]}]
    model.task_dict = {"task": {"test": [messages]}}
    try:
        model.generate_until([SimpleNamespace(args=("?", lambda doc: doc, {}, 0, "task", "test"))])
    except Seen as found:
        frames, metadata, do_resize = found.args
    height, width = frames.shape[-2:]
    processor = PROCESSORS[name](min_pixels=model.min_pixels, max_pixels=model.max_pixels)
    out = processor(videos=[frames], do_sample_frames=False, do_resize=do_resize, cap_pixels_per_frame=False)
    numbers = [number(frame.permute(1, 2, 0).numpy()) for frame in frames]
    tokens = int(torch.as_tensor(out["video_grid_thw"]).prod()) // processor.merge_size**2
    indices = [int(index) for index in metadata["frames_indices"]]
    return [type(model).__module__, indices, numbers, height, width, tokens]


if __name__ == "__main__":
    vision_process.get_video_reader_backend = lambda: "decord"  # torchcodec needs libraries that not all machines have
    for name, path in (word.split("=", 1) for word in sys.argv[1:]):
        print(json.dumps(seen(name, model(name), path)))
