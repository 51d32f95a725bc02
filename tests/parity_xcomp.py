"""Replay XComp's traces through the engine's own path: feed_text, feed_video, decode; and the engine's `ask`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import Qwen2Config, Qwen2ForCausalLM

from evalkit.method import Ask, Budget, Method
from evalkit.model import attention
from evalkit.model.ask import Asker
from evalkit.model.context import Context
from evalkit.model.families.qwen2 import Qwen2
from evalkit.types import VisualTokens
from methods.lpcomp import LPComp, counts
from methods.qccomp import clips
from methods.xcomp import XComp

IMAGE = -200  # stands for the video in the traces' ids
GRID = (4, 4)  # 16 tokens a frame
LOGITS_TOLERANCE = 1e-4  # absolute; of hidden states, too
SCORES_TOLERANCE = 1e-5  # relative
INVALID = 1e8  # traces mark clips that fewer windows cover with 1e9


@dataclass(frozen=True)
class Difference:
    """How far a replay lies from its trace."""

    hidden: float  # what enters every layer
    logits: float  # prompt and answer at once
    decoding: float  # logits while decoding with the cache
    loss: float
    positions: bool  # exact?
    lengths: bool
    decode_positions: bool
    tokens: bool

    def within(self, tolerance: float) -> bool:
        """Close where closeness is asked for, exact where exactness is."""
        exact = self.positions and self.lengths and self.decode_positions and self.tokens
        return exact and max(self.hidden, self.logits, self.decoding, self.loss) < tolerance


def backbone_of(folder: Path) -> Qwen2:
    """The traces' language model."""
    settings = json.loads((folder / "lp_comp" / "meta.json").read_text())["config"]
    with torch.device("meta"):
        model = Qwen2ForCausalLM(Qwen2Config(**settings, attn_implementation=attention.register()))
    model = model.to_empty(device="cpu")
    model.load_state_dict(load_file(folder / "lp_comp" / "weights.safetensors"))
    # to_empty leaves the rotary frequencies behind: they are no weights
    model.model.rotary_emb = type(model.model.rotary_emb)(model.config)
    return Qwen2(model.eval())


def frames_of(features: Tensor) -> VisualTokens:
    """Features (F, 16, D) of F frames."""
    return VisualTokens.dense(features.flatten(0, 1), seconds=range(len(features)), grid=GRID)


def budget_of(backbone: Qwen2, frames: int, ratio: float = 1.0) -> Budget:
    """The dense budget of a trace, one frame a cell."""
    numbers = tuple(range(frames))
    return Budget(
        ratio=ratio,
        frames=numbers,
        sample=lambda n: numbers[:n],
        cell_frames=1,
        height=GRID[0],
        width=GRID[1],
        unit=1,
        layers=backbone.layers,
        seed=0,
    )


def method_of(meta: dict[str, Any]) -> LPComp | None:
    """The method that a variant's own settings describe; None where it has settings that we have not."""
    env = meta["env"]
    stages, stride = json.loads(env["EXTRA_PARAM_INNER_CONDENSER_ID"]), env["EXTRA_PARAM_INNER_STRIDE"]
    cosine = env.get("EXTRA_PARAM_OVERWRITE_DROP_SCHEDULE") == "Cosine"
    keep = "suffix" if env.get("EXTRA_PARAM_ALWAYS_SUFFIX") == "True" else "uniform"
    if cosine:
        return LPComp(schedule="cosine", keep=keep, frame_ratio=1.0)
    if min(stages) >= len(meta["seq_len_per_layer"]):
        return LPComp(schedule="identity", frame_ratio=1.0)
    known = stages == [10, 20] and stride == "4" and keep == "uniform"
    return LPComp(schedule="stepwise", keep=keep, frame_ratio=1.0) if known else None


@contextmanager
def watched(backbone: Qwen2) -> Iterator[list[list[Tensor]]]:
    """What enters each layer after tokens were dropped, and last what leaves the final norm: (S, D) a feed."""
    seen: list[list[Tensor]] = [[] for _ in range(backbone.layers + 1)]
    spots = [layer.input_layernorm for layer in backbone.text.layers]
    handles = [
        spot.register_forward_pre_hook(lambda _, args, i=i: seen[i].append(args[0][0])) for i, spot in enumerate(spots)
    ]
    handles.append(backbone.text.norm.register_forward_hook(lambda _, __, out: seen[-1].append(out[0])))
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def read(
    backbone: Qwen2, ids: list[int], video: VisualTokens, method: Method, chunk_cells: int | None
) -> tuple[Context, Tensor]:
    """Head, video and tail; the context and the last hidden state."""
    at, budget = ids.index(IMAGE), budget_of(backbone, len(video.cell_seconds))
    context = backbone.context()
    backbone.feed_text(context, ids[:at])
    backbone.feed_video(context, video, method, budget, chunk_cells=chunk_cells)
    return context, backbone.feed_text(context, ids[at + 1 :])


@torch.inference_mode()
def replay(backbone: Qwen2, folder: Path, name: str, method: Method, chunk_cells: int | None = None) -> Difference:
    """Run one variant and compare everything that it holds."""
    meta = json.loads((folder / "meta.json").read_text())[name]
    trace, inputs = load_file(folder / f"{name}.safetensors"), load_file(folder / "inputs.safetensors")
    ids, labels, video = inputs["input_ids"].tolist(), inputs["labels"], frames_of(inputs["image_features"])
    with watched(backbone) as seen:
        whole, _ = read(backbone, ids, video, method, chunk_cells)
    states = [torch.cat(parts) for parts in seen]
    logits = backbone.model.lm_head(states[-1])
    answer = labels[labels >= 0]
    loss = torch.nn.functional.cross_entropy(logits[-len(answer) - 1 : -1], answer)

    prompt = ids[: len(ids) - len(answer)]
    context, hidden = read(backbone, prompt, video, method, chunk_cells)
    lengths = list(context.lengths)
    steps, picked, where = [], [], []
    for _ in range(len(trace["decode_logits"])):
        picked.append(int(backbone.logits(hidden).argmax()))
        hidden = backbone.feed_text(context, picked[-1:], decoding=True)
        steps.append(backbone.logits(hidden))  # a trace's step begins with the token it feeds
        where.append([int(p[0, -1]) for p in context.positions])
    return Difference(
        hidden=max(_apart(states[i], trace[f"layer_in.{i}"]) for i in range(backbone.layers)),
        logits=_apart(logits, trace["logits"]),
        decoding=_apart(torch.stack(steps), trace["decode_logits"]),
        loss=abs(loss.item() - meta["loss"]),
        positions=all(torch.equal(whole.positions[i][0], trace[f"layer_pos.{i}"]) for i in range(backbone.layers)),
        lengths=lengths == meta["kv_len_after_prefill"],
        decode_positions=where == meta["decode_position_ids_per_step_per_layer"],
        tokens=picked == meta["greedy_tokens"],
    )


def lp_comp(folder: Path) -> tuple[dict[str, Difference], list[str]]:
    """Every variant of a folder that has tensors, and those that were left out, with the reason."""
    backbone, found, left_out = backbone_of(folder), {}, []
    for name, meta in json.loads((folder / "lp_comp" / "meta.json").read_text()).items():
        if not isinstance(meta, dict) or "env" not in meta:
            continue
        method, has_trace = method_of(meta), (folder / "lp_comp" / f"{name}.safetensors").exists()
        if method is None or not has_trace:
            left_out.append(f"{name}: {'no tensors' if method else 'settings that no method here has'}")
        else:
            found[name] = replay(backbone, folder / "lp_comp", name, method)
    return found, left_out


@dataclass(frozen=True)
class Scores:
    """How far clip scores lie from a trace's."""

    error: float  # largest relative one
    edges: bool  # are the same clips left out?

    def within(self, tolerance: float) -> bool:
        """Close enough?"""
        return self.edges and self.error < tolerance


def asker_of(backbone: Qwen2, video: VisualTokens, ids: list[int], at: int, header: int) -> Asker:
    """What asks the question of a trace: `at` and `header` are positions of the video and of the assistant's header."""
    method = XComp(frame_ratio=1.0)
    asker = Asker(backbone, video, method, budget_of(backbone, len(video.cell_seconds)), chunk_cells=None)
    asker.question(ids[:at], ids[at + 1 :], header - at - 1)
    return asker


@torch.inference_mode()
def clip_scores(backbone: Qwen2, file: Path, *, causal: bool = False) -> dict[str, Scores]:
    """Every set of windows of a trace of clip scores: `default` (global) and `segments_<clips>_<stride>`."""
    meta, trace = json.loads(file.with_suffix(".json").read_text()), load_file(file)
    video, frames, clip = frames_of(trace["image_features"]), meta["frames"], meta["clip_frames"]
    ids = trace["input_ids"].tolist()
    ask = asker_of(backbone, video, ids, meta["image_position"], meta["assistant_index"])
    found = {}
    for key in sorted(k for k in trace if k.startswith("clip_scores.")):
        name = key.removeprefix("clip_scores.")
        width, stride = (frames, frames) if name == "default" else (clip * int(n) for n in name.split("_")[1:])
        windows = [(start, start + width) for start in range(0, frames - width + 1, stride)]
        found[f"{file.stem} {name}"] = compared(ask, trace[key], range(frames), windows, meta, causal=causal)
    return found


def compared(
    ask: Ask,
    theirs: Tensor,
    cells: Any,
    windows: list[tuple[int, int]],
    meta: dict[str, Any],
    *,
    causal: bool,
) -> Scores:
    """One pass over `cells` against its stored scores (layers, clips)."""
    looked = ask(
        cells,
        windows=windows,
        layers=range(len(theirs)),
        skip=meta["query_bias"],
        causal=causal,
        closing=len(windows) == 1,
    )
    mine, valid = clips(looked, windows, len(cells) // meta["clip_frames"], meta["clip_frames"])
    known = theirs < INVALID
    error = ((mine - theirs).abs() / theirs.abs())[known]
    return Scores(error=error.max().item(), edges=bool((known == valid).all()))


@dataclass(frozen=True)
class Selection:
    """A whole selection against a trace's."""

    frames: bool  # the same frames?
    error: float  # largest relative one of the stored clip scores; 0 where none are stored

    def within(self, tolerance: float) -> bool:
        """The same frames from close enough scores?"""
        return self.frames and self.error < tolerance


@torch.inference_mode()
def selection(backbone: Qwen2, file: Path) -> Selection | str:
    """A trace of a whole selection, replayed; what is missing where it cannot be."""
    meta, trace = json.loads(file.with_suffix(".json").read_text()), load_file(file)
    theirs = _first(meta, trace, "selected", "selection", "select_idx", "indices", "sel")
    if theirs is None or "image_features" not in trace:
        return "no features or no selected frames"
    picked = [int(i) for i in theirs]
    video = frames_of(trace["image_features"])
    frames = len(video.cell_seconds)
    method = XComp(
        clip=int(meta.get("clip_frames", 8)),
        repeats=int(_first(meta, trace, "n_repeat", "n_rep", "repeats") or 2),
        skip=int(meta["query_bias"]),
        frame_ratio=len(picked) / frames,
    )
    ids = trace["input_ids"].tolist()
    ask = asker_of(backbone, video, ids, meta["image_position"], meta["assistant_index"])
    stored = [trace[key] for key in sorted(k for k in trace if k.startswith("clip_scores"))]
    stored = [scores for parts in stored for scores in (parts if parts.ndim == 3 else [parts])]
    errors = [0.0]

    def recorded(cells: Any, **how: Any) -> Tensor:
        if stored:
            errors.append(compared(ask, stored.pop(0), cells, how["windows"], meta, causal=False).error)
        return ask(cells, **how)

    chosen = method.select(video, budget_of(backbone, frames), recorded)
    return Selection(frames=chosen.cell.unique().tolist() == sorted(picked), error=max(errors))


def _first(meta: dict[str, Any], trace: dict[str, Tensor], *names: str) -> Any:
    """What a trace holds under the first of these names; None where it holds none of them."""
    found = [source[name] for name in names for source in (meta, trace) if name in source]
    return found[0] if found else None


def qc_comp(folder: Path) -> tuple[dict[str, Scores | Selection], list[str]]:
    """Every trace of clip scores and every selection of a folder, and what was left out, with the reason."""
    backbone, found, left_out = backbone_of(folder), {}, []
    for file in sorted((folder / "qc_comp").glob("clip_scores_*.safetensors")):
        found.update(clip_scores(backbone, file))
    for file in sorted((folder / "qc_comp").glob("select_*.safetensors")):
        outcome = selection(backbone, file)
        if isinstance(outcome, str):
            left_out.append(f"{file.stem}: {outcome}")
        else:
            found[file.stem] = outcome
    return found, left_out


def schedules(folder: Path) -> dict[str, bool]:
    """Tokens of a frame in every layer, and which ones they are, against the tables."""
    stored = json.loads((folder / "schedule" / "schedule.json").read_text())
    found = {
        f"schedule L={row['L']} N1={row['N1']} {rounding}": _from_two(counts(row["L"], row["N1"], "cosine", rounding))
        == _from_two(row[key])
        for row in stored["table"]
        for rounding, key in (("released", "code"), ("paper", "paper_ceil_robust"))
    }
    for keep in ("suffix", "uniform"):
        kept = stored[f"{keep}_kept_positions_0based"]
        found[f"kept {keep}"] = all(LPComp(keep=keep).stays(len(k), 16).nonzero()[:, 0].tolist() == k for k in kept)
    return found


def _from_two(counts: Any) -> list[int]:
    """Layers from the second on: N[1] is clamped to N1 here, which the reference's code cannot do otherwise either."""
    return list(counts)[1:]


def xcomp(folder: Path) -> tuple[dict[str, tuple[bool, str]], list[str]]:
    """Every case of a folder: whether it holds, and its numbers; and what was left out."""
    lp, without_tensors = lp_comp(folder)
    qc, unread = qc_comp(folder)
    found = {name: (same, "exact" if same else "WRONG") for name, same in schedules(folder).items()}
    for name, outcome in {**lp, **qc}.items():
        tolerance = LOGITS_TOLERANCE if name in lp else SCORES_TOLERANCE
        found[name] = (outcome.within(tolerance), _numbers(outcome))
    return found, without_tensors + unread


def _numbers(outcome: Any) -> str:
    verdicts = {True: "exact", False: "WRONG"}
    return ", ".join(
        f"{k} {verdicts[v] if isinstance(v, bool) else format(v, '.1e')}" for k, v in vars(outcome).items()
    )


def _apart(mine: Tensor, theirs: Tensor) -> float:
    return (mine - theirs).abs().max().item() if mine.shape == theirs.shape else float("inf")
