"""lmms-eval in a process of its own, as `against_lmms_eval.py` and `harness.py` start it.

python perf/lmms_child.py TASKS TASK OUT.json plain [--warm 1] [--frames 128] [--positions right] [--reader evalkit]
python perf/lmms_child.py TASKS TASK OUT.json dummy

`plain` does for each question what lmms-eval's classes for Qwen2-VL do, on the built-in checkpoint: read the video,
processor, `generate`. Into OUT.json go the replies, CPU and wall seconds when answering begins, after the first
`--warm` questions and at the end, and those of the whole evaluation.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import torch
from lmms_eval import evaluator
from lmms_eval.api.model import lmms
from lmms_eval.models import get_model
from lmms_eval.models.model_utils.load_video import read_video
from lmms_eval.tasks import TaskManager
from measure import Mark, mark
from transformers import AutoProcessor, Qwen2VLForConditionalGeneration

from evalkit.config.build import WEIGHTS
from evalkit.data import video as video_file
from evalkit.data.sampling import cut_linspace
from evalkit.types import FramePlan

PIXELS = {"min_pixels": 3136, "max_pixels": 12544}  # as conf/sampling/builtin.yaml
SYSTEM = "You are a helpful assistant."  # as lmms-eval's classes for Qwen2-VL


class Plain(lmms):  # type: ignore[misc]
    """One question after the other: read, process, generate."""

    is_simple = True

    def __init__(self, *, warm: int, frames: int, positions: str, reader: str) -> None:
        super().__init__()
        self.model = Qwen2VLForConditionalGeneration.from_pretrained(WEIGHTS, dtype="auto").eval()
        self.processor = AutoProcessor.from_pretrained(WEIGHTS, cap_pixels_per_frame=False, **PIXELS)
        self.warm, self.frames, self.positions = warm, frames, positions
        self.read = {"evalkit": read_by_evalkit, "lmms_eval": read_by_lmms_eval}[reader]
        self.replies: list[str] = []  # by document
        self.marks: list[Mark] = []  # when answering begins, after the first `warm` questions, at the end

    def generate_until(self, requests: list[Any]) -> list[str]:
        """Replies in the order of the requests, which is that of the documents."""
        self.marks.append(mark())
        for context, generation, doc_to_visual, doc_id, task, split in (request.args for request in requests):
            (path,) = doc_to_visual(self.task_dict[task][split][doc_id])
            self.replies.append(self._reply(context, generation, path))
            if len(self.replies) == self.warm:
                self.marks.append(mark())
        self.marks.append(mark())
        return self.replies

    def _reply(self, context: str, generation: dict[str, Any], path: str) -> str:
        content = [{"type": "video"}, {"type": "text", "text": context}]
        messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": content}]
        text = self.processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        video = torch.from_numpy(self.read(path, self.frames)).permute(0, 3, 1, 2)
        inputs = self.processor(text=[text], videos=[video], padding=True, return_tensors="pt")
        if self.positions == "right":
            inputs["position_ids"] = right_positions(inputs, self.model.config)
        tokenizer = self.processor.tokenizer
        ids = self.model.generate(
            **inputs,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            do_sample=False,
            num_beams=1,
            max_new_tokens=generation["max_new_tokens"],
            use_cache=True,
        )
        (reply,) = self.processor.batch_decode(ids[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        return until(reply, generation.get("until") or ())

    def loglikelihood(self, requests: list[Any]) -> list[Any]:
        """Not offered."""
        raise NotImplementedError

    def generate_until_multi_round(self, requests: list[Any]) -> list[Any]:
        """Not offered."""
        raise NotImplementedError


def read_by_evalkit(path: str, frames: int) -> np.ndarray:
    """The frames of lmms-eval's linspace in the size of the file, by evalkit's own reader (PyAV)."""
    video = video_file.probe(Path(path))
    indices = tuple(cut_linspace(video.frames, min(frames, video.frames)))
    plan = FramePlan(indices=indices, height=video.height, width=video.width)
    return np.stack([frame.rgb for frame in video_file.raw_frames(video, [plan])])


def read_by_lmms_eval(path: str, frames: int) -> np.ndarray:
    """The same frames by lmms-eval's default reader, which decodes all frames up to the last one."""
    found: np.ndarray = read_video(path, num_frm=frames)
    return found


def right_positions(inputs: Any, config: Any) -> torch.Tensor:
    """Ids (3, 1, S) in which text goes on after the largest id of the video, as the model was trained.

    transformers 5.17 goes on at the video's start + max(rows, columns), inside its span of time.
    """
    (ids,) = inputs["input_ids"]
    is_video = ids == config.video_token_id
    start, count = int(is_video.nonzero()[0]), int(is_video.sum())
    merge = config.vision_config.spatial_merge_size
    time_, height, width = inputs["video_grid_thw"][0].tolist()
    sides = [torch.arange(size) for size in (time_, height // merge, width // merge)]
    video = torch.stack(torch.meshgrid(*sides, indexing="ij")).flatten(1) + start
    after = torch.arange(len(ids) - start - count) + int(video.max()) + 1
    return torch.cat([torch.arange(start).expand(3, -1), video, after.expand(3, -1)], dim=1)[:, None]


def until(reply: str, stops: str | Sequence[str]) -> str:
    """The reply up to the first of the task's stop strings."""
    for stop in [stops] if isinstance(stops, str) else stops:
        reply = reply.split(stop)[0]
    return reply


def main() -> None:
    """Evaluate one task, and write what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", type=Path)
    parser.add_argument("task")
    parser.add_argument("out", type=Path)
    parser.add_argument("model", choices=["plain", "dummy"])
    parser.add_argument("--warm", type=int, default=1)
    parser.add_argument("--frames", type=int, default=128)
    parser.add_argument("--positions", choices=["right", "transformers"], default="right")
    parser.add_argument("--reader", choices=["evalkit", "lmms_eval"], default="evalkit")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    manager = TaskManager(include_path=str(args.tasks), include_defaults=False)
    asked = {"warm": args.warm, "frames": args.frames, "positions": args.positions, "reader": args.reader}
    model = Plain(**asked) if args.model == "plain" else get_model(args.model)()
    before = mark()
    found = evaluator.simple_evaluate(model=model, tasks=[args.task], task_manager=manager, bootstrap_iters=0)
    out: dict[str, Any] = {"evaluation": [before, mark()], "documents": len(found["samples"][args.task])}
    if isinstance(model, Plain):
        out |= {"marks": model.marks, "replies": model.replies}
    args.out.write_text(json.dumps(out), encoding="utf-8")


if __name__ == "__main__":
    main()
