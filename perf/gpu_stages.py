"""Stages of a whole video on a GPU, and how long the GPU waits: Qwen2-VL-7B's shape with random bf16 weights.

python perf/gpu_stages.py [--frames 256 512 1024 2048] [--videos 6]     needs a CUDA device; a table for RESULTS.md
python perf/gpu_stages.py --rehearse                                    the same code on a toy shape and the CPU

Videos of 640×360 from a file are decoded ahead by a child process, encoded by the real vision tower's shape, and
answered by Uniform at ratio 1 and ReTaKe at 1/4. The GPU's work is counted by torch's profiler on one video alone; what
is left of the wall time of a video in a run is idle.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

sys.path.insert(0, str(Path(__file__).parents[1]))

import gpu_retake
from gpu_retake import SHAPE, TOY
from measure import record
from pipeline import AHEAD, links
from read_video import clip

from evalkit.data.decoding.process import DecodeInChild
from evalkit.data.decoding.source import FrameSource
from evalkit.data.sampling import Sampling
from evalkit.engine.answer import Engine
from evalkit.engine.encoded_video import Pending
from evalkit.engine.frame_encoder import FrameEncoder
from evalkit.ledger import Ledger
from evalkit.method import OperatingPoint
from evalkit.model.families.qwen2_vl import Qwen2VL
from evalkit.testing.loop import FirstLetterProtocol, question
from evalkit.tiny import tokenizer
from evalkit.types import Answer
from methods.retake import ReTaKe
from methods.uniform import Uniform

PIXELS = 252 * 448  # of a frame: 9 × 16 tokens a cell
# source: huggingface.co/Qwen/Qwen2-VL-7B-Instruct, config.json
TOWER = {"depth": 32, "embed_dim": 1280, "num_heads": 16, "mlp_ratio": 4}
TOY_TOWER = {"depth": 2, "embed_dim": 64, "num_heads": 2, "mlp_ratio": 2}
ROLES = {"image_token_id": "image_pad", "video_token_id": "video_pad"}
ROLES |= {"vision_start_token_id": "vision_start", "vision_end_token_id": "vision_end"}
ENDS = {"pad_token_id": "endoftext", "bos_token_id": "im_end", "eos_token_id": "im_end"}
POINTS = [OperatingPoint("uniform", Uniform(), 1.0), OperatingPoint("retake", ReTaKe(), 0.25)]
IDLE = 0.1  # of the wall time that the GPU may wait
NOTE = """
{name}. Random bf16 weights; videos of {minutes:g} minutes (640×360, {fps} frames a second), frames of at most 252×448
pixels, {points} operating points, one question of each. Seconds a video: decode is the child's, encode both points'
together, the others of each point. Wall: a run over {videos} videos, decoded ahead. GPU: kernels of one video by
torch's profiler. Idle: what is left of the wall time; bar {idle:g}.
"""
FPS = 10


def model(shape: dict[str, int], tower: dict[str, int], device: torch.device) -> Qwen2VL:
    """Random weights, the built-in model's tokenizer."""
    built = tokenizer.build()
    ids = {name: built.convert_tokens_to_ids(f"<|{role}|>") for name, role in ROLES.items()}
    ends = {name: built.convert_tokens_to_ids(f"<|{role}|>") for name, role in ENDS.items()}
    own = {**shape, **ends, "vocab_size": max(shape["vocab_size"], len(built))}
    return gpu_retake.model(own, device, tower, built, **ids)


def engine(backbone: Qwen2VL, frames: int, source: FrameSource) -> Engine:
    """With at most so many frames a video."""
    sampling = Sampling(preset="lmms_eval", frames=frames, min_pixels=PIXELS // 16, max_pixels=PIXELS)
    encoder = FrameEncoder(backbone=backbone, sampling=sampling)
    return Engine(
        frame_encoders=lambda adapters: dict.fromkeys(adapters, encoder),
        protocol=FirstLetterProtocol(8),
        source=source,
    )


def answers(own: Engine, work: Sequence[Pending]) -> list[tuple[OperatingPoint, Answer]]:
    """All videos, as the executor asks for them."""
    pairs = zip(work, [*work[1:], None], strict=True)
    return [given for pending, following in pairs for given in own.answers(pending, following)]


def ledger(answer: Answer) -> Ledger:
    """SystemExit for an answer that failed."""
    if answer.ledger is None:
        raise SystemExit(f"no answer, nothing is measured: {answer.error}")
    return answer.ledger


def gpu_seconds(own: Engine, work: Sequence[Pending]) -> float:
    """Of all kernels."""
    with profile(activities=[ProfilerActivity.CUDA]) as run:
        answers(own, work)
    return sum(event.self_device_time_total for event in run.key_averages()) / 1e6


def measured(backbone: Qwen2VL, frames: int, work: Sequence[Pending]) -> dict[str, object]:
    """One row."""
    source = DecodeInChild(limit=AHEAD)
    own = engine(backbone, frames, source)
    answers(own, work[:1])  # a warm-up
    busy = gpu_seconds(own, work[:1]) if backbone.device.type == "cuda" else float("nan")
    start = time.perf_counter()
    given = answers(own, work)
    wall = (time.perf_counter() - start) / len(work)
    source.close()
    spent = {point.name: [ledger(answer) for of, answer in given if of == point] for point in POINTS}

    def mean(name: str, stage: str) -> float:
        return sum(getattr(one.seconds, stage) for one in spent[name]) / len(spent[name])

    first = POINTS[0].name
    parts = {f"{stage} s": mean(first, stage) for stage in ("decode", "encode")}
    for name in spent:
        parts |= {f"{name}: {stage} s": mean(name, stage) for stage in ("select", "prefill", "generate")}
    return {
        "frames": spent[first][0].frames_decoded,
        "tokens": spent[first][0].tokens_encoded,
        **parts,
        "wall s": wall,
        "GPU s": busy,
        "idle": 1 - busy / wall,
    }


def main() -> None:
    """The table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, nargs="+", default=[256, 512, 1024, 2048])
    parser.add_argument("--videos", type=int, default=6)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--rehearse", action="store_true")
    args = parser.parse_args()
    if args.rehearse:
        args.frames, args.videos, args.minutes = [16], 2, 0.1
    elif not torch.cuda.is_available():
        sys.exit("no CUDA device: nothing is measured (--rehearse runs the same code on a toy shape)")
    device = torch.device("cpu" if args.rehearse else "cuda")
    backbone = model(TOY if args.rehearse else SHAPE, TOY_TOWER if args.rehearse else TOWER, device)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = list(links(folder, clip(folder / "clip.mp4", args.minutes, fps=FPS), args.videos))
        work = [{point: [question(path, 0)] for point in POINTS} for path in paths]
        rows = [measured(backbone, frames, work) for frames in args.frames]
    for row in rows:
        row[f"≤ {IDLE:g}"] = "held" if float(str(row["idle"])) <= IDLE else "missed"
    if args.rehearse:
        print(rows)
        return
    note = NOTE.format(
        name=torch.cuda.get_device_name(),
        minutes=args.minutes,
        fps=FPS,
        points=len(POINTS),
        videos=args.videos,
        idle=IDLE,
    )
    print(record("Stages end to end on Qwen2-VL-7B's shape (CUDA)", rows, note.strip()))


if __name__ == "__main__":
    main()
