"""Replay traces of released reference code through the engine's own path: feed_text, feed_video, decode."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file

from evalkit.method import Budget, Method
from evalkit.model.families.qwen2_vl import Qwen2VL
from evalkit.types import VisualTokens

FORBIDDEN = 2  # end of text, which the reference forbade while it picked the next token


@dataclass(frozen=True)
class Difference:
    """How far a replay lies from its trace."""

    logits: float
    keys: float
    values: float
    lengths: bool  # exact?
    positions: bool
    tokens: bool


def tokens_of(backbone: Qwen2VL, trace: dict[str, torch.Tensor]) -> VisualTokens:
    """The trace's pixels, encoded."""
    t, h, w = trace["video_grid_thw"][0].tolist()
    rows, columns = h // backbone.merge, w // backbone.merge
    features = backbone.encode_patches(trace["pixel_values_videos_int8_x16"].float() / 16, (t, h, w))
    cell = torch.arange(t).repeat_interleave(rows * columns)
    return VisualTokens(
        features=features,
        cell=cell,
        place=torch.arange(rows * columns).repeat(t),
        slot=cell,
        pinned=torch.zeros(len(cell), dtype=torch.bool),
        cell_seconds=torch.arange(t, dtype=torch.float64),
        grid=(rows, columns),
    )


def budget_of(tokens: VisualTokens, unit: int, ratio: float) -> Budget:
    """The dense budget of a trace's video."""
    frames = tuple(range(2 * len(tokens.cell_seconds)))
    rows, columns = tokens.grid
    return Budget(
        ratio=ratio,
        frames=frames,
        sample=lambda n: frames[:n],
        cell_frames=2,
        height=rows * unit,
        width=columns * unit,
        unit=unit,
        seed=0,
    )


@torch.inference_mode()
def replay(backbone: Qwen2VL, file: Path, method: Method, ratio: float, chunk_cells: int | None) -> Difference:
    """Run one trace and compare everything that it holds."""
    trace = load_file(file)
    ids = trace["input_ids"][0].tolist()
    tokens = tokens_of(backbone, trace)
    start = ids.index(backbone.model.config.video_token_id)
    context = backbone.context()
    backbone.feed_text(context, ids[:start])
    backbone.feed_video(context, tokens, method, budget_of(tokens, backbone.unit, ratio), chunk_cells=chunk_cells)
    hidden = backbone.feed_text(context, ids[start + len(tokens) :])

    lengths, keys, values, positions = True, 0.0, 0.0, True
    for i, layer in enumerate(context.cache.layers):
        key, value = trace[f"prefill_key.{i}"], trace[f"prefill_value.{i}"]
        lengths &= layer.keys.shape == key.shape
        keys = max(keys, (layer.keys - key).abs().max().item())
        values = max(values, (layer.values - value).abs().max().item())
        positions &= torch.equal(context.positions[i], trace[f"prefill_position.{i}"][:, 0])

    steps, picked = [], []
    for _ in range(len(trace["step_logits"])):
        logits = backbone.logits(hidden)
        steps.append(logits)
        allowed = logits.clone()
        allowed[FORBIDDEN] = -torch.inf
        picked.append(int(allowed.argmax()))
        hidden = backbone.feed_text(context, picked[-1:], decoding=True)
    difference = (torch.stack(steps) - trace["step_logits"]).abs().max().item()
    return Difference(difference, keys, values, lengths, positions, picked == trace["generated_ids"][0].tolist())
