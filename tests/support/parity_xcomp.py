"""Replay XComp's traces through the engine's own path: prefill_text, prefill_video, decode; and the engine's `ask`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import Qwen2Config, Qwen2ForCausalLM

from evalkit.method import AttentionFromQuestion, Budget, Method
from evalkit.model import attention
from evalkit.model.families.qwen2 import Qwen2
from evalkit.model.prefill_state import PrefillState
from evalkit.model.question_attention import QuestionAttention
from evalkit.types import VisualTokens
from methods.lpcomp import LPComp, counts
from methods.qccomp import clips
from methods.xcomp import XComp
from tests.support import closeness, parity_select
from tests.support.closeness import RTOL

IMAGE = -200  # stands for the video in the traces' ids
GRID = (4, 4)  # 16 tokens a frame
SCORES_TOLERANCE = 1e-5  # relative
CHUNK = 64  # cells of a prefill chunk in a whole selection, whose passes are long
INVALID = 1e8  # traces mark clips that fewer windows cover with 1e9


@dataclass(frozen=True)
class Difference:
    """How far a replay lies from its trace: relative, as tests/support/closeness.py; None where a trace has none."""

    hidden: float  # what enters the layers
    logits: float | None  # prompt and answer at once
    decoding: float | None  # logits while decoding with the cache
    loss: float | None
    positions: bool  # exact?
    lengths: bool
    decode_positions: bool
    tokens: bool | None

    def within(self, tolerance: float) -> bool:
        """Close where closeness is asked for, exact where exactness is."""
        exact = self.positions and self.lengths and self.decode_positions and self.tokens is not False
        return exact and all(v is None or v < tolerance for v in (self.hidden, self.logits, self.decoding, self.loss))


def backbone_of(folder: Path) -> Qwen2:
    """The traces' language model. Layers whose weights a folder has not are zero, and let everything pass unchanged."""
    settings = json.loads((folder / "lp_comp" / "meta.json").read_text())["config"]
    with torch.device("meta"):
        model = Qwen2ForCausalLM(Qwen2Config(**settings, attn_implementation=attention.register()))
    model = model.to_empty(device="cpu")
    zeros = {name: torch.zeros_like(weight) for name, weight in model.state_dict().items()}
    model.load_state_dict({**zeros, **load_file(folder / "lp_comp" / "weights.safetensors")})
    # to_empty leaves the rotary frequencies behind: they are no weights
    model.model.rotary_emb = type(model.model.rotary_emb)(model.config)
    return Qwen2(model.eval())


def frames_of(features: Tensor) -> VisualTokens:
    """Features (F, 16, D) of F frames."""
    return VisualTokens.dense(features.flatten(0, 1), seconds=range(len(features)), grid=GRID)


def budget_of(backbone: Qwen2, frames: int) -> Budget:
    """The dense budget of a trace, one frame a cell."""
    return Budget.encoded(frames, GRID, ratio=1.0, layers=backbone.layers, cell_frames=1, pixels_per_token=1)


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
) -> tuple[PrefillState, Tensor]:
    """Head, video and tail; the context and the last hidden state."""
    at, budget = ids.index(IMAGE), budget_of(backbone, len(video.cell_seconds))
    context = backbone.new_state()
    backbone.prefill_text(context, ids[:at])
    backbone.prefill_video(context, video, method, budget, chunk_cells=chunk_cells)
    return context, backbone.prefill_text(context, ids[at + 1 :])


@torch.inference_mode()
def replay(backbone: Qwen2, folder: Path, name: str, method: Method, chunk_cells: int | None = None) -> Difference:
    """Run one variant and compare everything that it holds."""
    meta = json.loads((folder / "meta.json").read_text())[name]
    trace, inputs = load_file(folder / f"{name}.safetensors"), load_file(folder / "inputs.safetensors")
    ids, labels, video = inputs["input_ids"].tolist(), inputs["labels"], frames_of(inputs["image_features"])
    with watched(backbone) as seen:
        whole, _ = read(backbone, ids, video, method, chunk_cells)
    states = [torch.cat(parts) for parts in seen]
    answer = labels[labels >= 0]
    logits, loss = None, None
    if "logits" in trace:
        mine = backbone.model.lm_head(states[-1])
        found = torch.nn.functional.cross_entropy(mine[-len(answer) - 1 : -1], answer).item()
        logits, loss = closeness.apart(mine, trace["logits"]), abs(found - meta["loss"]) / meta["loss"]

    prompt = ids[: len(ids) - len(answer)]
    context, hidden = read(backbone, prompt, video, method, chunk_cells)
    lengths = list(context.lengths)
    steps, picked, where = [], [], []
    for _ in meta["greedy_tokens"]:
        picked.append(int(backbone.logits(hidden).argmax()))
        hidden = backbone.prefill_text(context, picked[-1:], decoding=True)
        steps.append(backbone.logits(hidden))  # a trace's step begins with the token it feeds
        where.append([int(p[0, -1]) for p in context.positions])
    decoded = trace.get("decode_logits")
    return Difference(
        hidden=max(_entering(states[i], trace, i) for i in range(backbone.layers) if f"layer_in.{i}" in trace),
        logits=logits,
        decoding=None if decoded is None else closeness.apart(torch.stack(steps), decoded),
        loss=loss,
        positions=[len(whole.positions[i][0]) for i in range(backbone.layers)] == meta["seq_len_per_layer"]
        and all(
            torch.equal(whole.positions[int(k.split(".")[1])][0], trace[k].long()) for k in trace if "layer_pos" in k
        ),
        lengths=lengths == meta["kv_len_after_prefill"],
        decode_positions=where == meta["decode_position_ids_per_step_per_layer"],
        tokens=None if decoded is None else picked == meta["greedy_tokens"],
    )


def _entering(states: Tensor, trace: dict[str, Tensor], layer: int) -> float:
    """What enters a layer, (S, D) or the rows of it that the trace has."""
    rows = trace.get(f"layer_rows.{layer}")
    if rows is not None:
        states = states[rows[rows < len(states)]]
    return closeness.apart(states, trace[f"layer_in.{layer}"])


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


def asker_of(
    backbone: Qwen2, video: VisualTokens, ids: list[int], at: int, header: int, chunk_cells: int | None = None
) -> QuestionAttention:
    """What asks the question of a trace: `at` and `header` are positions of the video and of the assistant's header."""
    method = XComp(frame_ratio=1.0)
    question_attention = QuestionAttention(
        backbone, video, method, budget_of(backbone, len(video.cell_seconds)), chunk_cells=chunk_cells
    )
    question_attention.set_question(ids[:at], ids[at + 1 :], header - at - 1)
    return question_attention


@torch.inference_mode()
def clip_scores(backbone: Qwen2, file: Path, *, causal: bool = False) -> dict[str, Scores]:
    """Every set of windows of a trace of clip scores: `default` (global) and `segments_<clips>_<stride>`."""
    meta, trace = json.loads(file.with_suffix(".json").read_text()), load_file(file)
    video, frames, clip = frames_of(trace["image_features"]), meta["frames"], meta["clip_frames"]
    ids = trace["input_ids"].tolist()
    attention_from_question = asker_of(backbone, video, ids, meta["image_position"], meta["assistant_index"])
    found = {}
    for key in sorted(k for k in trace if k.startswith("clip_scores.")):
        name = key.removeprefix("clip_scores.")
        width, stride = (frames, frames) if name == "default" else (clip * int(n) for n in name.split("_")[1:])
        windows = [(start, start + width) for start in range(0, frames - width + 1, stride)]
        found[f"{file.stem} {name}"] = compared(
            attention_from_question, trace[key], range(frames), windows, meta, causal=causal
        )
    return found


def compared(
    attention_from_question: AttentionFromQuestion,
    theirs: Tensor,
    cells: Any,
    windows: list[tuple[int, int]],
    meta: dict[str, Any],
    *,
    causal: bool,
) -> Scores:
    """One pass over `cells` against its stored scores (layers, clips)."""
    looked = attention_from_question(
        cells,
        windows=windows,
        layers=range(len(theirs)),
        skip=meta["query_bias"],
        causal=causal,
        closing=len(windows) == 1,
    )
    return apart(looked, theirs, windows, meta["clip_frames"])


def apart(looked: Tensor, theirs: Tensor, windows: list[tuple[int, int]], clip: int) -> Scores:
    """Cell scores (layers, windows, width) of one pass against stored clip scores (layers, clips)."""
    mine, valid = clips(looked, windows, theirs.shape[1], clip)
    known = theirs < INVALID
    error = ((mine - theirs).abs() / theirs.abs())[known]
    return Scores(error=error.max().item(), edges=bool((known == valid).all()))


@dataclass(frozen=True)
class Selection:
    """A whole selection against a trace's."""

    frames: bool  # the same frames?
    starts: bool  # the same passes?
    error: float  # largest relative one of the stored clip scores; 0 where none are stored

    def within(self, tolerance: float) -> bool:
        """The same frames from close enough scores of the same passes?"""
        return self.frames and self.starts and self.error < tolerance


@torch.inference_mode()
def selection(backbone: Qwen2, file: Path) -> tuple[Selection | None, list[str]]:
    """A trace of a whole selection, replayed from features, from stored scores, or both; and what could not be."""
    trace = parity_select.read(file)
    frames, left_out = trace.frames, list[str]()
    if frames is None and trace.scores:  # passes of whole chunks: 512 frames each, once a repeat
        frames = 512 * len(trace.scores) // trace.repeats
    if frames is None or not trace.chosen:
        return None, ["no selected frames" if frames else "neither features nor scores nor a number of frames"]
    method = XComp(clip=trace.clip, repeats=trace.repeats, skip=trace.skip, frame_ratio=1.0)
    passes = method.passes(frames, 1)
    scores = {i: padded(of_pass, len(passes[i]) // trace.clip) for i, of_pass in trace.scores.items()}
    missing = [str(i) for i in range(len(passes)) if i not in scores]
    if missing:
        left_out.append(f"clip scores of passes {', '.join(missing)}: not stored")
    sources, error = list[Tensor](), 0.0
    if not missing:
        sources.append(method.scores(frames, budget_of(backbone, frames), stored(scores, passes, trace.clip)))
    if trace.features is None or trace.ids is None:
        left_out.append("clip scores themselves: no features, so the frames are chosen from the stored scores")
    else:
        video, meta = frames_of(trace.features), {"query_bias": trace.skip, "clip_frames": trace.clip}
        attention_from_question = asker_of(backbone, video, trace.ids, trace.at, trace.header, chunk_cells=CHUNK)
        replayed = Replayed(attention_from_question, passes, scores, meta)
        sources.append(method.scores(frames, budget_of(backbone, frames), replayed))
        error = max(replayed.errors)
    if not sources:
        return None, left_out
    same = [
        sorted(scores.argsort(descending=True, stable=True)[: len(theirs)].tolist()) == theirs
        for scores in sources
        for theirs in trace.chosen.values()
    ]
    starts = trace.starts is None or trace.starts == [cells[0] for cells in passes]
    return Selection(frames=all(same), starts=starts, error=error), left_out


def padded(scores: Tensor, clips: int) -> Tensor:
    """Scores (layers, clips) with the margins marked, where only what counts was stored."""
    margin = (clips - scores.shape[1]) // 2
    return torch.nn.functional.pad(scores.double(), (margin, margin), value=10 * INVALID)


def stored(scores: dict[int, Tensor], passes: list[list[int]], clip: int) -> AttentionFromQuestion:
    """An `ask` that answers with the stored clip scores of the pass."""

    def attention_from_question(cells: Any, *, windows: Any, layers: range, **_: Any) -> Tensor:
        of_clip = scores[passes.index(list(cells))].double()
        if len(of_clip) != len(layers):  # of all layers
            of_clip = of_clip[layers.start : layers.stop]
        of_cell = of_clip.repeat_interleave(clip, 1)
        return torch.stack([of_cell[:, start:stop] for start, stop in windows], 1)

    return attention_from_question


@dataclass
class Replayed:
    """An `ask` that runs the model, and compares each pass with its stored scores on the way."""

    attention_from_question: AttentionFromQuestion
    passes: list[list[int]]
    scores: dict[int, Tensor]
    meta: dict[str, Any]
    errors: list[float] = field(default_factory=lambda: [0.0])

    def __call__(self, cells: Any, *, windows: Any, layers: range, **how: Any) -> Tensor:
        theirs = self.scores.get(self.passes.index(list(cells)))
        whole = range(len(theirs)) if theirs is not None and len(theirs) > len(layers) else layers
        looked = self.attention_from_question(cells, windows=windows, layers=whole, **how)
        if theirs is not None:
            self.errors.append(apart(looked, theirs, windows, self.meta["clip_frames"]).error)
        return looked if whole == layers else looked[layers.start : layers.stop]


def qc_comp(folder: Path) -> tuple[dict[str, Scores | Selection], list[str]]:
    """Every trace of clip scores and every selection of a folder, and what was left out, with the reason."""
    backbone, found, left_out = backbone_of(folder), {}, []
    for file in sorted((folder / "qc_comp").glob("clip_scores_*.safetensors")):
        found.update(clip_scores(backbone, file))
    for file in sorted((folder / "qc_comp").glob("select_*.safetensors")):
        outcome, missing = selection(backbone, file)
        left_out += [f"{file.stem}: {line}" for line in missing]
        if outcome is not None:
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
        tolerance = RTOL if name in lp else SCORES_TOLERANCE
        found[name] = (outcome.within(tolerance), _numbers(outcome))
    return found, without_tensors + unread


def _numbers(outcome: Any) -> str:
    verdicts = {True: "exact", False: "WRONG", None: "not stored"}
    return ", ".join(
        f"{k} {verdicts[v] if v is None or isinstance(v, bool) else format(v, '.1e')}" for k, v in vars(outcome).items()
    )
