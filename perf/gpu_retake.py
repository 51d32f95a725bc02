"""Prefill time and peak memory of ReTaKe on Qwen2-VL-7B's real shape with random bf16 weights; needs a CUDA device.

python perf/gpu_retake.py [--tokens 16384 32768 65536 131072] [--out results/gpu]
python perf/gpu_retake.py --rehearse                                  the same code on a toy shape and the CPU

Operating points: the dense chunked prefill; PivotKV at 1/2 and 1/4; DPSelect at 1/2; and, for PivotKV's overhead, a
prefill whose cache is cut to the same length without scoring. CUDA events, 3 warm-ups, 10 runs, medians. TTFT: prefill
and question. The bound is the ratio of closed-form FLOPs: what the operating point could gain if arithmetic were all.
"""

from __future__ import annotations

import argparse
import datetime
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration

sys.path.insert(0, str(Path(__file__).parents[1]))

from evalkit.method import Budget, Method, no_question
from evalkit.model import attention
from evalkit.model.families.qwen2_vl import Qwen2VL
from evalkit.types import Evicted, LayerChunk, VisualTokens
from methods.dpselect import DPSelect
from methods.pivotkv import PivotKV

GRID = (9, 16)  # places of a cell: 252 × 448 pixels
CHUNK_CELLS = 16
# source: huggingface.co/Qwen/Qwen2-VL-7B-Instruct, config.json
SHAPE = {"hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28, "num_attention_heads": 28}
SHAPE |= {"num_key_value_heads": 4, "vocab_size": 152064}
TOY = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
TOY |= {"num_key_value_heads": 2, "vocab_size": 512}
STUB = {"depth": 1, "embed_dim": 32, "num_heads": 2, "mlp_ratio": 1}  # of a vision tower
ENDS = {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2}


@dataclass(frozen=True, kw_only=True)
class CutOnly(Method):
    """The cache of PivotKV without its scoring: the first tokens of each chunk."""

    def evict(self, chunk: LayerChunk) -> Evicted | None:
        """No choice at all."""
        return Evicted(index=torch.arange(chunk.max_keep), positions=chunk.positions[:, : chunk.max_keep])


ARMS: dict[str, tuple[Method, float]] = {
    "dense": (Method(), 1.0),
    "pivotkv 1/2": (PivotKV(), 0.5),
    "cut only 1/2": (CutOnly(), 0.5),
    "pivotkv 1/4": (PivotKV(), 0.25),
    "cut only 1/4": (CutOnly(), 0.25),
    "dpselect 1/2": (DPSelect(), 0.5),
}


def model(
    shape: dict[str, int], device: torch.device, vision: dict[str, int] = STUB, tokenizer: Any = None, **ids: int
) -> Qwen2VL:
    """Random bf16 weights. `vision`: of the tower, a stub where features are given; `ids`: of tokens for vision."""
    width = shape["hidden_size"] // shape["num_attention_heads"]
    rope = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [width // 8, width // 16 * 3, width // 16 * 3]}
    torch.manual_seed(0)
    with device:
        inner = Qwen2VLForConditionalGeneration._from_config(
            Qwen2VLConfig(
                text_config={**ENDS, **shape, "rope_parameters": rope},
                vision_config={**vision, "hidden_size": shape["hidden_size"]},
                **ids,
            ),
            dtype=torch.bfloat16,
            attn_implementation={"text_config": attention.register(), "vision_config": "sdpa"},
        )
    return Qwen2VL(inner.to(device).eval(), tokenizer)


def video(tokens: int, width: int, device: torch.device) -> VisualTokens:
    """Random features of whole cells."""
    cells = tokens // (GRID[0] * GRID[1])
    features = torch.randn(cells * GRID[0] * GRID[1], width, device=device, dtype=torch.bfloat16)
    return VisualTokens.dense(features, seconds=range(cells), grid=GRID)


@torch.inference_mode()
def first_token(backbone: Qwen2VL, tokens: VisualTokens, method: Method, ratio: float, steps: int) -> None:
    """Head, video, question of 64 tokens, and `steps` tokens of an answer."""
    budget = Budget.encoded(len(tokens.cell_seconds), tokens.grid, ratio=ratio, layers=backbone.layers)
    context = backbone.new_state()
    backbone.prefill_text(context, list(range(3, 18)))
    backbone.prefill_video(context, method.select(tokens, budget, no_question), method, budget, chunk_cells=CHUNK_CELLS)
    hidden = backbone.prefill_text(context, list(range(3, 67)))
    for _ in range(steps):
        hidden = backbone.prefill_text(context, [int(backbone.logits(hidden).argmax())], decoding=True)


def seconds(call: Callable[[], None], device: torch.device, runs: int) -> float:
    """Median of `runs` after 3 warm-ups."""
    times = []
    for run in range(runs + 3):
        if device.type == "cuda":
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            call()
            end.record()
            torch.cuda.synchronize()
            spent = start.elapsed_time(end) / 1e3
        else:
            begun = time.perf_counter()
            call()
            spent = time.perf_counter() - begun
        if run >= 3:
            times.append(spent)
    return statistics.median(times)


def flops(shape: dict[str, int], tokens: int, ratio: float, select: float) -> float:
    """Closed form of a chunked prefill: weights of every fed token, and attention to what each chunk finds."""
    d, layers = shape["hidden_size"], shape["num_hidden_layers"]
    keys = shape["num_key_value_heads"] * d // shape["num_attention_heads"]
    weights = layers * (2 * d * d + 2 * d * keys + 3 * d * shape["intermediate_size"])
    fed, chunk = int(tokens * select), CHUNK_CELLS * GRID[0] * GRID[1]
    seen = sum(min(chunk, fed - s) * (ratio / select * s + chunk / 2) for s in range(0, fed, chunk))
    return 2 * fed * weights + 4 * layers * d * seen


def kernels(backbone: Qwen2VL, tokens: VisualTokens) -> list[str]:
    """Names of the attention kernels that a chunk after a cache really runs."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as run:
        first_token(backbone, tokens, Method(), 1.0, 0)
    names = {event.key for event in run.key_averages()}
    return sorted(n for n in names if any(word in n.lower() for word in ("flash", "fmha", "attention", "softmax")))


def main() -> None:
    """The table, printed and written."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, nargs="+", default=[16384, 32768, 65536, 131072])
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--out", type=Path, default=Path("results/gpu"))
    parser.add_argument("--rehearse", action="store_true")
    args = parser.parse_args()
    if not args.rehearse and not torch.cuda.is_available():
        sys.exit("no CUDA device: nothing is measured (--rehearse runs the same code on a toy shape)")
    device = torch.device("cpu" if args.rehearse else "cuda")
    shape = TOY if args.rehearse else SHAPE
    backbone = model(shape, device)
    rows = []
    for count in [4608] if args.rehearse else args.tokens:
        tokens = video(count, shape["hidden_size"], device)
        dense = 0.0
        for name, (method, ratio) in ARMS.items():
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats()
            ttft = seconds(partial(first_token, backbone, tokens, method, ratio, 0), device, args.runs)
            longer = seconds(partial(first_token, backbone, tokens, method, ratio, 8), device, args.runs)
            dense = dense or ttft
            select = ratio if isinstance(method, DPSelect) else 1.0
            row = {"tokens": len(tokens), "operating point": name, "TTFT s": ttft, "s per token": (longer - ttft) / 8}
            row |= {"speed-up": dense / ttft, "bound": flops(shape, count, 1, 1) / flops(shape, count, ratio, select)}
            row["peak GB"] = torch.cuda.max_memory_allocated() / 1e9 if device.type == "cuda" else float("nan")
            rows.append(row)
            print(rows[-1], flush=True)
    text = pd.DataFrame(rows).to_markdown(index=False, floatfmt=".3g")
    if not args.rehearse:
        found = "\n".join(f"- `{name}`" for name in kernels(backbone, video(4608, shape["hidden_size"], device)))
        day = datetime.datetime.now(tz=datetime.UTC).date()
        machine = f"{torch.cuda.get_device_name()}, torch {torch.__version__}, {day}"
        text = f"# ReTaKe on Qwen2-VL-7B's shape, random bf16 weights\n\n{machine}\n\n{text}\n\nKernels:\n\n{found}\n"
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / "retake.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
