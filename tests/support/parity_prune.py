"""Replay traces of methods that drop or merge tokens between layers through the engine's own path: `prefill_whole`.

Shape letters: S tokens of the prompt, N visual ones, D width.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import Qwen2Config, Qwen2ForCausalLM, Qwen2VLConfig, Qwen2VLForConditionalGeneration

from evalkit.method import Budget, Method, PruneView
from evalkit.model import attention
from evalkit.model.decoder import Decoder
from evalkit.model.families.qwen2 import Qwen2
from evalkit.model.families.qwen2_vl import Qwen2VL
from evalkit.model.prefill_state import PrefillState
from evalkit.types import Pruned, VisualTokens
from methods.fastv import FastV
from methods.flashvid_inner import FlashVIDInner
from methods.framefusion import FrameFusion, Progress
from methods.holitom_inner import HoliTomInner
from methods.pyramiddrop import PyramidDrop
from tests.support.closeness import RTOL, apart

SCORES = 1e-6  # absolute
WEIGHTS = "tiny_qwen2"
INPUTS = "inputs.safetensors"  # ids and video, where the cases of all folders share them
Trace = Mapping[str, Tensor]

METHODS: Mapping[str, Callable[[dict[str, Any]], Method]] = {
    "FastV": lambda case: FastV(layer=case["k"], dropped=case["r"]),
    "PyramidDrop": lambda case: PyramidDrop(
        stages=tuple(zip(case["after_layers_1based"], case["ratios"], strict=True))
    ),
    "FrameFusion": lambda case: FrameFusion(
        similarity=case["similarity_lower_bound"],
        least_merged=case["ratio_lower_bound"],
        cost=case["cost"],
        layers=case["layers_in_budget_rule"],
    ),
    "holitom inner": lambda case: HoliTomInner(
        layer=case["k"],
        merged=case["ratio"],
        mask="released" if (case["first_row_sees_later_tokens"] or 0) > 0.01 else "causal",
    ),
    "flashvid inner": lambda case: FlashVIDInner(layer=case["k"], kept=case["ratio"]),
}


@dataclass(frozen=True)
class Found:
    """How far a replay lies from its trace: relative for states, keys and logits, absolute for scores."""

    states: float
    logits: float
    keys: float
    scores: float
    exact: Mapping[str, bool]  # kept, lengths, positions, tokens, decode positions and lengths, events

    def within(self) -> bool:
        """Close where closeness is asked for, exact where exactness is."""
        return all(self.exact.values()) and max(self.states, self.logits, self.keys) < RTOL and self.scores < SCORES

    def __str__(self) -> str:
        close = [f"{name} {getattr(self, name):.1e}" for name in ("states", "logits", "keys", "scores")]
        return "  ".join([*close, *(f"{name} {'exact' if same else 'WRONG'}" for name, same in self.exact.items())])


def decoder_of(folder: Path, sections: list[int] | None) -> Decoder:
    """The traces' language model: a Qwen2, or with M-RoPE of these sections the one inside a Qwen2-VL.

    Layers whose weights a folder has not are zero, and let everything pass unchanged.
    """
    settings = json.loads((folder / "weights.json").read_text())["config"]
    rope: dict[str, Any] = {"rope_type": "default", "rope_theta": settings.pop("rope_theta")}
    weights, name = load_file(folder / "weights.safetensors"), attention.register()
    if sections is None:
        plain = Qwen2ForCausalLM(Qwen2Config(**settings, rope_parameters=rope, attn_implementation=name))
        zeros = {key: torch.zeros_like(weight) for key, weight in plain.state_dict().items()}
        plain.load_state_dict({**zeros, **weights})
        return Qwen2(plain.eval())
    text = {**settings, "rope_parameters": {**rope, "mrope_section": sections}}
    vision = {"depth": 1, "embed_dim": 16, "num_heads": 1, "mlp_ratio": 1, "hidden_size": settings["hidden_size"]}
    config = Qwen2VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=False, attn_implementation=name)
    model = Qwen2VLForConditionalGeneration(config)
    inside = {key.replace("model.", "model.language_model.", 1): value for key, value in weights.items()}
    missing, unexpected = model.load_state_dict(inside, strict=False)
    assert not unexpected
    assert all(".visual." in key for key in missing)
    return Qwen2VL(model.eval(), None)


# ---- what a method saw and did


@dataclass
class Call:
    """One call of `prune` that returned something."""

    layer: int
    between: bool
    n_before: int  # visual tokens
    kept: Tensor  # (K,) positions in the uncut video
    memo: object
    scores: Tensor | None  # (n,) attention that it read


@dataclass
class Watched:
    """A view that keeps the attention which the method reads."""

    view: PruneView
    scores: Tensor | None = None

    @property
    def between(self) -> bool:
        return self.view.between

    @property
    def memo(self) -> object:
        return self.view.memo

    @property
    def states(self) -> Tensor:
        return self.view.states

    def last_attention(self) -> Tensor:
        self.scores = self.view.last_attention()
        return self.scores

    def next_attention(self) -> Tensor:
        self.scores = self.view.next_attention()
        return self.scores


def recording(method: Method, calls: list[Call]) -> Method:
    """The same method, which writes its calls into `calls`."""
    kind = type(method)

    def prune(
        self: Method, layer: int, layers: int, tokens: VisualTokens, budget: Budget, view: PruneView
    ) -> Pruned | None:
        watched = Watched(view)
        pruned = kind.prune(self, layer, layers, tokens, budget, watched)
        if pruned is not None:
            places = tokens.grid[0] * tokens.grid[1]
            kept = (tokens.cell * places + tokens.place)[pruned.index]
            calls.append(Call(layer, view.between, len(tokens), kept, pruned.memo, watched.scores))
        return pruned

    made: Any = type(f"Recording{kind.__name__}", (kind,), {"prune": prune})
    found: Method = made(**{each.name: getattr(method, each.name) for each in fields(method)})
    return found


@dataclass
class Seen:
    """States of one feed, (S, D) each."""

    embeds: Tensor | None = None
    entering: dict[int, Tensor] = field(default_factory=dict)  # a layer, after its `prune`
    between: dict[int, Tensor] = field(default_factory=dict)  # a layer's MLP
    last: Tensor | None = None  # after the final norm


@contextmanager
def watching(decoder: Decoder, seen: Seen) -> Iterator[None]:
    """Fill `seen`; norms are watched after their call, when hooks before it have cut their input."""

    def keep(where: dict[int, Tensor], i: int) -> Any:
        return lambda _module, args, _out: where.__setitem__(i, args[0][0])

    text = decoder.text
    handles = [
        text.layers[0].register_forward_pre_hook(lambda _, args: setattr(seen, "embeds", args[0][0])),
        text.norm.register_forward_hook(lambda _m, _a, out: setattr(seen, "last", out[0])),
    ]
    for i, layer in enumerate(text.layers):
        handles.append(layer.input_layernorm.register_forward_hook(keep(seen.entering, i)))
        handles.append(layer.post_attention_layernorm.register_forward_hook(keep(seen.between, i)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


# ---- the replay


@torch.inference_mode()
def replay(decoder: Decoder, file: Path, method: Method | None = None) -> Found:
    """One case with the method of its settings, or another."""
    case, trace = json.loads(file.with_suffix(".json").read_text()), read(file)
    calls: list[Call] = []
    seen, state, video = Seen(), decoder.new_state(), video_of(trace)
    watched = recording(method or METHODS[case["method"]](case), calls)
    budget = Budget.encoded(len(video.cell_seconds), video.grid, ratio=1.0, layers=decoder.layers, cell_frames=1)
    head, tail = trace["head_ids"].tolist(), trace["tail_ids"].tolist()
    with watching(decoder, seen):
        hidden = decoder.prefill_whole(state, head, video, tail, watched, budget)
    assert seen.embeds is not None
    assert seen.last is not None
    positions, lengths = [p.clone() for p in state.positions], list(state.lengths)
    keys = {i: layer.keys[0, :, :8].clone() for i, layer in enumerate(state.layers)}
    states = {f"hidden.{i}": x for i, x in {**seen.entering, 0: seen.embeds}.items()}
    events = _events(case, trace, calls, states, seen, len(head))
    steps, exact = _decoded(decoder, state, hidden, case)
    full = "decode.logits" in trace  # a part of a trace whose weights are not all there has no logits
    logits = {"logits": decoder.model.lm_head(seen.last[-8:]), "decode.logits": steps}
    if not full:
        del exact["tokens"]
    theirs = case.get("lengths") or case["attention_lengths"]
    exact |= {
        "lengths": lengths == theirs,
        "positions": all(_same_ids(positions[i], trace[f"positions.{i}"]) for i in range(decoder.layers)),
        "kept": _kept(trace, calls),
        **events,
    }
    return Found(
        states=max((apart(rows(states[k]), trace[k]) for k in trace if k in states), default=0.0),
        logits=max(apart(mine, trace[k]) for k, mine in logits.items()) if full else 0.0,
        keys=max((apart(keys[i], theirs) for i, theirs in _numbered(trace, "cache.k.")), default=0.0),
        scores=max((_scores_apart(k, x, calls, len(head)) for k, x in trace.items() if "scores" in k), default=0.0),
        exact=exact,
    )


def read(file: Path) -> Trace:
    """A trace, and what it shares with those of the other methods."""
    beside = file.parents[1] / INPUTS
    return {**(load_file(beside) if beside.exists() else {}), **load_file(file)}


def video_of(trace: Trace) -> VisualTokens:
    """Its frames, one a cell; the grid is that of the ids where there are three rows of them."""
    frames, places, width = trace["video"].shape
    grid = (1, places)
    if "ids" in trace:
        start = len(trace["head_ids"])
        columns = len(trace["ids"][2, start : start + places].unique())
        grid = (places // columns, columns)
    features = trace["video"].reshape(frames * places, width)
    return VisualTokens.dense(features, seconds=range(frames), grid=grid)


def rows(states: Tensor) -> Tensor:
    """Those of (S, D) that traces have: the first 4, every 7th, the last 8."""
    size = len(states)
    return states[sorted({*range(min(4, size)), *range(0, size, 7), *range(max(0, size - 8), size)})]


def _decoded(
    decoder: Decoder, state: PrefillState, hidden: Tensor, case: dict[str, Any]
) -> tuple[Tensor, dict[str, bool]]:
    """Logits of each greedy step, and what of it must be exact."""
    picked, logits, where, lengths = [], [], [], []
    for _ in case["generated"]:
        picked.append(int(decoder.logits(hidden).argmax()))
        hidden = decoder.prefill_text(state, picked[-1:], decoding=True)
        logits.append(decoder.logits(hidden))
        where.append([int(p[0, -1]) for p in state.positions])
        lengths.append(list(state.lengths))
    first = case.get("decode_ids_first")
    same_ids = where == case["decode_positions"] if first is None else set(where[0]) == {first}
    return torch.stack(logits), {
        "tokens": picked == case["generated"],
        "decode positions": same_ids,
        "decode lengths": lengths == case["cache_lengths_after_step"],
    }


def _same_ids(mine: Tensor, theirs: Tensor) -> bool:
    return torch.equal(mine, theirs if theirs.ndim == 2 else theirs[None])


def _kept(trace: Trace, calls: list[Call]) -> bool:
    """`kept`, or `kept.i` of each drop."""
    theirs = [trace["kept"]] if "kept" in trace else [x for _, x in _numbered(trace, "kept.")]
    if not theirs:
        return True
    return len(calls) == len(theirs) and all(torch.equal(c.kept, x) for c, x in zip(calls, theirs, strict=True))


def _events(
    case: dict[str, Any], trace: Trace, calls: list[Call], states: dict[str, Tensor], seen: Seen, start: int
) -> dict[str, bool]:
    """FrameFusion's rounds: lengths and flags; its states join `states`."""
    if "events" not in case:
        return {}
    text = len(trace["head_ids"]) + len(trace["tail_ids"])
    same = len(calls) == len(case["events"])
    for i, (call, event) in enumerate(zip(calls, case["events"], strict=False)):
        states[f"event.{i}.hidden_after"] = (seen.between if call.between else seen.entering)[call.layer]
        progress = call.memo
        assert isinstance(progress, Progress)
        mine = (call.n_before + text, len(call.kept) + text, [not progress.merging, not progress.pruning])
        same &= mine == (event["len_before"], event["len_after"], event["state_after"])
        same &= progress.shares == tuple(event["sparsity"])
    return {"events": same}


def _scores_apart(key: str, theirs: Tensor, calls: list[Call], start: int) -> float:
    """`scores`, `scores.i`: at the visual tokens; `event.i.scores`: at all tokens."""
    numbers = [int(part) for part in key.split(".") if part.isdigit()]
    number = numbers[0] if numbers else 0
    mine = calls[number].scores if number < len(calls) else None
    if mine is None:
        return float("inf")
    if key.startswith("event"):
        theirs = theirs[start : start + len(mine)]
    return float("inf") if mine.shape != theirs.shape else float((mine - theirs).abs().max())


def _numbered(trace: Trace, prefix: str) -> list[tuple[int, Tensor]]:
    """Tensors of names `prefix`0, `prefix`1, …, by number."""
    found = [key.removeprefix(prefix) for key in trace if key.startswith(prefix)]
    return sorted(((int(n), trace[prefix + n]) for n in found if n.isdigit()), key=lambda pair: pair[0])


def cases(folder: Path) -> tuple[dict[str, tuple[bool, str]], list[str]]:
    """Every case of a method's folder, with the weights in the folder beside it."""
    lines, left_out = {}, []
    weights = folder.parent / WEIGHTS
    if not (weights / "weights.safetensors").exists():
        return {}, [f"{file.stem}: no weights, {weights}" for file in sorted(folder.glob("*.json"))]
    for file in sorted(folder.glob("*.json")):
        case, tensors = json.loads(file.read_text()), file.with_suffix(".safetensors")
        if case.get("method") not in METHODS or not tensors.exists():
            left_out.append(f"{file.stem}: {'no tensors' if case.get('method') in METHODS else 'no method has these'}")
            continue
        found = replay(decoder_of(weights, case.get("mrope")), tensors)
        lines[file.stem] = (found.within(), str(found))
    return lines, left_out
