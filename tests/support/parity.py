"""Replay traces of released reference code through the engine's own path: select, prefill_text, prefill_video, decode.

python tests/parity.py retake DIR [--tolerance 2e-5]     one line per case; exit 1 where anything differs
python tests/parity.py xcomp DIR                         likewise, and what of the folder was left out
python tests/parity.py videochat_flash DIR               likewise
python tests/parity.py zoo DIR                           likewise: methods that act before the language model
python tests/parity.py zoo_layers DIR                    likewise
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from evalkit.method import Budget, Method, no_question
from evalkit.model.families.qwen2_vl import Qwen2VL
from evalkit.model.load import load
from evalkit.types import VisualTokens
from methods.retake import ReTaKe
from tests.support import parity_videochat_flash, parity_xcomp, parity_zoo_layers
from tests.support.closeness import RTOL, apart
from tests.support.zoo_replays import zoo

FORBIDDEN = 2  # end of text, which the reference forbade while it picked the next token
INPUTS = "inputs.safetensors"  # ids and pixels, where the cases of a folder share them


@dataclass(frozen=True)
class Difference:
    """How far a replay lies from its trace."""

    logits: float  # relative, as tests/support/closeness.py has it
    cache: float  # keys and values, likewise
    lengths: bool  # exact?
    positions: bool
    selection: bool
    tokens: bool

    def within(self, tolerance: float) -> bool:
        """Close where closeness is asked for, exact where exactness is."""
        exact = self.lengths and self.positions and self.selection and self.tokens
        return exact and max(self.logits, self.cache) < tolerance


def read(file: Path) -> dict[str, torch.Tensor]:
    """A trace, and what it shares with the others of its folder."""
    beside = file.with_name(INPUTS)
    return {**(load_file(beside) if beside.exists() else {}), **load_file(file)}


def tokens_of(backbone: Qwen2VL, trace: dict[str, torch.Tensor]) -> VisualTokens:
    """The trace's pixels, encoded."""
    t, h, w = trace["video_grid_thw"][0].tolist()
    features = backbone.vision.encode_patches(trace["pixel_values_videos_int8_x16"].float() / 16, (t, h, w))
    return VisualTokens.dense(features, seconds=range(t), grid=(h // backbone.vision.merge, w // backbone.vision.merge))


def budget_of(layers: int, tokens: VisualTokens, ratio: float) -> Budget:
    """The dense budget of a trace's video."""
    return Budget.encoded(len(tokens.cell_seconds), tokens.grid, ratio=ratio, layers=layers)


@torch.inference_mode()
def replay(backbone: Qwen2VL, file: Path, method: Method, ratio: float, chunk_cells: float | None) -> Difference:
    """Run one trace and compare everything that it holds."""
    trace = read(file)
    ids = trace["input_ids"][0].tolist()
    dense = tokens_of(backbone, trace)
    budget = budget_of(backbone.layers, dense, ratio)
    tokens = method.select(dense, budget, no_question)
    start = ids.index(backbone.model.config.video_token_id)
    tail = ids[start + len(dense) :]
    context = backbone.new_state()
    backbone.prefill_text(context, ids[:start])
    backbone.prefill_video(context, tokens, method, budget, chunk_cells=chunk_cells, suffix_ids=tail)
    hidden = backbone.prefill_text(context, tail)

    lengths, cache, positions = True, 0.0, True
    for i, layer in enumerate(context.layers):
        for mine, theirs in ((layer.keys, trace[f"prefill_key.{i}"]), (layer.values, trace[f"prefill_value.{i}"])):
            lengths &= mine.shape == theirs.shape
            cache = max(cache, apart(mine, theirs))
        stored = trace.get(f"prefill_position.{i}")
        positions &= stored is None or torch.equal(context.positions[i], stored[:, 0])

    steps, picked = [], []
    for _ in range(len(trace["step_logits"])):
        logits = backbone.logits(hidden)
        steps.append(logits)
        allowed = logits.clone()
        allowed[FORBIDDEN] = -torch.inf
        picked.append(int(allowed.argmax()))
        hidden = backbone.prefill_text(context, picked[-1:], decoding=True)
    return Difference(
        logits=apart(torch.stack(steps), trace["step_logits"]),
        cache=cache,
        lengths=lengths,
        positions=positions,
        selection=_selected(tokens, method, trace),
        tokens=picked == trace["generated_ids"][0].tolist(),
    )


def _selected(tokens: VisualTokens, method: Method, trace: dict[str, torch.Tensor]) -> bool:
    """DPSelect's cells and, where it hands them on, its peaks, (T', P) each; True where the trace has none."""
    frames, peaks = trace.get("dpselect.frame_index"), trace.get("dpselect.keypatch_mask")
    places = tokens.grid[0] * tokens.grid[1]
    same = frames is None or torch.equal(tokens.cell.view(-1, places), frames)
    protected = peaks is None or not getattr(method, "protect", True)
    return same and (protected or torch.equal(tokens.protected.view(-1, places), peaks.bool()))


def retake_method(settings: dict[str, Any]) -> ReTaKe:
    """The method that a case's own settings describe."""
    select = settings.get("visual_compression_kwargs") if settings.get("visual_compression") else None
    cache = settings["kvcache_compression_kwargs"]
    budget: dict[str, Any] = {"kv_ratio": cache.get("compression_ratio")}
    if cache["dynamic_compression_ratio"]:
        budget = {"max_input_length": cache["max_input_length"]}
    return ReTaKe(
        patch_sync=select["patch_sync"] if select else True,
        select_ratio=select["compression_ratio"] if select else 1.0,
        protect=bool(select and select["return_keyframe_mask"]),
        pivots="released",
        reforge=cache["pos_embed_reforge"],
        **budget,
    )


def retake(folder: Path) -> dict[str, Difference]:
    """Every case of a folder: model/, cases.json and a trace each."""
    backbones: dict[str, Qwen2VL] = {}
    found = {}
    for name, case in json.loads((folder / "cases.json").read_text()).items():
        rope = f"yarn{case['yarn_factor']:g}" if case["yarn_factor"] else "none"
        if rope not in backbones:
            backbones[rope] = load(str(folder / "model"), device="cpu", rope=rope)
        method = retake_method(case["longvideo_kwargs"])
        # tokens of a chunk, as the reference reads its own setting: min(frames, T) · H · W / 8
        cells = min(case["chunk_frames"], case["grid"][0]) / 2
        ratio = min(method.select_ratio or 1.0, 1.0)
        found[name] = replay(backbones[rope], folder / f"{name}.safetensors", method, ratio, cells)
    return found


def retake_lines(folder: Path, tolerance: float) -> dict[str, tuple[bool, str]]:
    """Every case: whether it holds, and its numbers."""
    lines = {}
    for name, d in retake(folder).items():
        exact = [f"{k} {'exact' if v else 'WRONG'}" for k, v in vars(d).items() if k not in ("logits", "cache")]
        lines[name] = (d.within(tolerance), f"logits {d.logits:.1e}  cache {d.cache:.1e}  {', '.join(exact)}")
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a table; 1 where a case differs. `arguments`: those of the command line, None: sys.argv."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paper", choices=["retake", "xcomp", "videochat_flash", "zoo", "zoo_layers"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tolerance", type=float, default=RTOL, help="relative, of retake's logits and cache")
    args = parser.parse_args(arguments)
    left_out: list[str] = []
    if args.paper == "retake":
        found = retake_lines(args.folder, args.tolerance)
    elif args.paper == "xcomp":
        found, left_out = parity_xcomp.xcomp(args.folder)
    elif args.paper == "zoo":
        found, left_out = zoo(args.folder)
    elif args.paper == "zoo_layers":
        found, left_out = parity_zoo_layers.zoo_layers(args.folder)
    else:
        found, left_out = parity_videochat_flash.videochat_flash(args.folder)
    for name, (holds, numbers) in found.items():
        print(f"{'ok' if holds else 'DIFFERS':8}{name:35} {numbers}")
    for line in left_out:
        print(f"left out {line}")
    return 0 if found and all(holds for holds, _ in found.values()) else 1
