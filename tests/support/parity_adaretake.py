"""Replay traces of AdaReTaKe: its shares, its choice on given queries and keys, and its whole driver on the engine.

In the driver's released form all scores of the first chunk are equal, and which tokens stay there is up to the library
that made the trace: that one choice is taken from the trace, where it is one that equal scores allow.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from evalkit.chunk_scores import Guide, Scored, VideoPart
from evalkit.method import Budget, Method
from evalkit.model.positions import TimedMRopePositions, rotate
from evalkit.types import LayerChunk, VisualTokens
from methods.adaretake import AdaReTaKe, projected
from tests.support.closeness import RTOL, apart
from tests.support.parity_evict import IDS_A_CELL
from tests.support.parity_prune import WEIGHTS, decoder_of

SCORES, SHARES = 1e-5, 1e-6  # absolute; scores are sums over the guide's tokens
REPAIRED = {"first_chunk_repaired": "first_chunk", "half_video_repaired": "half_video"}
REPAIRED |= {"guide_offset_repaired": "guide_ids"}
Lines = dict[str, tuple[bool, str]]


def adaretake(folder: Path) -> tuple[Lines, list[str]]:
    """Every case."""
    lines: Lines = {}
    left_out = []
    for file in sorted(folder.glob("*.json")):
        case, tensors = json.loads(file.read_text()), file.with_suffix(".safetensors")
        if file.stem == "projection":
            lines[file.stem] = projections(case)
        elif not tensors.exists():
            left_out.append(f"{file.stem}: no tensors")
        else:
            replay = driver if "chunk_tokens" in case else choices
            lines[file.stem] = replay(folder.parent / WEIGHTS, case, load_file(tensors))
    return lines, left_out


def projections(cases: list[dict[str, Any]]) -> tuple[bool, str]:
    """Shares in [0.001, 1] of a given sum."""
    found = [
        apart(
            torch.tensor(projected(torch.tensor(case["w"], dtype=torch.float64), case["target_sum"])),
            torch.tensor(case["out"]),
        )
        for case in cases
    ]
    return max(found) < SHARES, f"{len(found)} projections {max(found):.1e}"


def method_of(case: dict[str, Any], **changes: Any) -> AdaReTaKe:
    """The method of a case's settings: in all traces the guide stays behind a chunk that is not cut."""
    slips = [slip for name, slip in REPAIRED.items() if not case.get(name, True)]
    settings: dict[str, Any] = {
        "reforge": case["reforge"],
        "close_gaps": False,
        "temporal": case["temporal"],
        "allocation": case["allocation"],
        "counts": "released",
        "max_guide_length": case["guide"],
        "max_input_length": case.get("max_input_length"),
        "slips": (*slips, "whole_chunk"),
    }
    return AdaReTaKe(**{**settings, **changes})


# ---- the cache alone


@dataclass
class Cached:
    """What one layer's cache holds by now."""

    keys: list[Tensor] = field(default_factory=list)
    values: list[Tensor] = field(default_factory=list)
    ids: list[Tensor] = field(default_factory=list)

    def add(self, keys: Tensor, values: Tensor, ids: Tensor) -> None:
        self.keys.append(keys)
        self.values.append(values)
        self.ids.append(ids)

    def apart(self, trace: dict[str, Tensor], layer: int) -> tuple[float, bool]:
        """How far keys and values are from a trace's, relative, and whether the ids are the same."""
        if f"cache.k.{layer}" not in trace:
            return 0.0, True
        pairs = [
            (torch.cat(mine, 1), trace[name])
            for mine, name in ((self.keys, f"cache.k.{layer}"), (self.values, f"cache.v.{layer}"))
            if name in trace
        ]
        if any(mine.shape != theirs.shape for mine, theirs in pairs):
            return float("inf"), False
        same = torch.equal(torch.cat(self.ids, 1), trace[f"cache.ids.{layer}"])
        return max(apart(mine, theirs) for mine, theirs in pairs), same


def rotation(case: dict[str, Any]) -> Any:
    """Rotary embedding of a case: one row of ids, or three by sections, and YaRN's factor."""
    width, sections = case["head_dim"], case["mrope"]
    speed = case["theta"] ** -(torch.arange(0, width, 2).float() / width)
    row = (
        torch.repeat_interleave(torch.arange(3), torch.tensor(sections)) if sections else torch.zeros(len(speed)).long()
    )

    def rotated(x: Tensor, ids: Tensor) -> Tensor:
        angle = (ids[row].T.float() * speed).repeat(1, 2)
        return rotate(x, angle.cos() * case["attention_scaling"], angle.sin() * case["attention_scaling"])

    return rotated


def choices(_: Path, case: dict[str, Any], trace: dict[str, Tensor], method: Method | None = None) -> tuple[bool, str]:
    """Shares, scores and cuts of every chunk and layer, with given features, queries, keys and values."""
    method, turn = method or method_of(case), rotation(case)
    cells, places, layers = case["cells"], case["rows"] * case["cols"], range(case["layers"])
    sizes = [min(case["chunk_cells"], cells - at) * places for at in range(0, cells, case["chunk_cells"])]
    video = VisualTokens.dense(trace["features"], seconds=range(cells), grid=(case["rows"], case["cols"]))
    shares = method.shares(video, sizes, case["ratio"], 0)
    cached = [Cached() for _ in layers]
    for i in layers:
        head = trace["head_ids"]
        cached[i].add(turn(trace["head_keys"][i], head), trace["head_values"][i], head)
    scores_apart, wrong, start = 0.0, [], 0
    for number, (size, share) in enumerate(zip(sizes, shares, strict=True)):
        now = slice(start, start := start + size)
        part = VideoPart(
            number=number,
            share=share,
            video_share=case["ratio"],
            before=case["head"],
            left=cells * places - start,
            suffix=case["prompt"],
            prompt_tokens=0,
        )
        ids = trace["ids"][:, now]
        guide = method.guide(part)
        assert guide is not None
        text = trace["prompt_ids"] - int(trace["prompt_ids"][0, 0] - ids[0, -1]) + 1
        found: list[Scored | None] = []
        for i in layers:
            chunk = LayerChunk(
                layer=i,
                layers=len(layers),
                queries=trace["prompt_queries"][i, :, number],
                keys=trace["keys"][i][:, now],
                positions=ids,
                rotate=turn,
                protected=torch.empty(0),
                max_keep=0,
                prompt_tokens=0,
                part=part,
                guide=trace["prompt_queries"][i, :, number],
                guide_positions=text,
            )
            scored = method.evict(chunk)
            assert scored is None or isinstance(scored, Scored)
            found.append(scored)
        kept = _settled(method, found, part, size)
        if f"scores.{number}" in trace and found[0] is not None:
            mine = torch.stack([scored.scores for scored in found if scored is not None])
            scores_apart = max(scores_apart, float((mine - trace[f"scores.{number}"]).abs().max()))
        for i, index in enumerate(kept):
            if not torch.equal(index, trace[f"kept.{number}.{i}"]):
                wrong.append(f"{number}.{i}")
            scored = found[i]
            new = ids if scored is None or scored.positions is None else scored.positions
            keys = turn(trace["keys"][i][:, now], new)
            cached[i].add(keys[:, index], trace["values"][i][:, now][:, index], new[:, index])
            if scored is None:
                keys, values = (trace[f"prompt_{name}"][i, :, number] for name in ("keys", "values"))
                cached[i].add(turn(keys, text), values, text)
    ends = [cached[i].apart(trace, i) for i in layers]
    near = max(each for each, _ in ends)
    logged = max(abs(share - log["ratio"]) for share, log in zip(shares, case["log"], strict=True))
    same = all(same for _, same in ends)
    holds = not wrong and same and near < RTOL and scores_apart < SCORES and logged < SHARES
    kept_line = f"kept {'WRONG: ' + ', '.join(wrong) if wrong else 'exact'}  ids {'exact' if same else 'WRONG'}"
    return holds, f"shares {logged:.1e}  scores {scores_apart:.1e}  cache {near:.1e}  {kept_line}"


def _settled(method: Method, found: Sequence[Scored | None], part: VideoPart, size: int) -> Sequence[Tensor]:
    scores = [scored.scores for scored in found if scored is not None]
    return method.settle(torch.stack(scores), part) if scores else [torch.arange(size) for _ in found]


# ---- the whole driver


@dataclass
class Recorded:
    """What a method said of each chunk."""

    parts: list[VideoPart] = field(default_factory=list)
    guides: list[Guide | None] = field(default_factory=list)
    ids: dict[int, Tensor] = field(default_factory=dict)  # by chunk: as fed to layer 0, the guide's included
    scores: dict[int, Tensor] = field(default_factory=dict)
    kept: dict[int, Sequence[Tensor]] = field(default_factory=dict)


def recording(method: AdaReTaKe, made: Recorded, tied: Sequence[Tensor] | None) -> Method:
    """The same method, which writes what it says into `made`.

    `tied`: what stays of the first chunk where all scores are equal and the trace's library chose.
    """

    class Recording(AdaReTaKe):
        def guide(self, part: VideoPart) -> Guide | None:
            made.parts.append(part)
            made.guides.append(super().guide(part))
            return made.guides[-1]

        def evict(self, chunk: LayerChunk) -> Scored | None:
            assert chunk.part is not None
            assert chunk.guide_positions is not None
            if chunk.layer == 0:
                made.ids[chunk.part.number] = torch.cat([chunk.positions, chunk.guide_positions], 1)
            return super().evict(chunk)

        def settle(self, scores: Tensor, part: VideoPart) -> list[Tensor]:
            made.scores[part.number] = scores
            kept = super().settle(scores, part)
            if tied is not None and part.number == 0 and _as_free(kept, tied, part.before, scores.shape[1]):
                kept = list(tied)
            made.kept[part.number] = kept
            return kept

    return Recording(**{each.name: getattr(method, each.name) for each in fields(method)})


def _as_free(kept: Sequence[Tensor], tied: Sequence[Tensor], before: int, size: int) -> bool:
    """Whether two choices differ only among the last `before` of `size` tokens, which are alike, and in how many of
    them each layer has got: rounded down from shares of one sum, so that totals may be a token a layer apart.
    """
    always = all(set(range(size - before)) < set(index.tolist()) for index in (*kept, *tied))
    return always and abs(sum(map(len, kept)) - sum(map(len, tied))) < len(kept)


def _tied(case: dict[str, Any], trace: dict[str, Tensor]) -> list[Tensor] | None:
    if case["first_chunk_repaired"]:
        return None
    return [trace[f"kept.0.{i}"] for i in range(len(case["log"][0]["layer_ratios"]))]


@torch.inference_mode()
def driver(
    weights: Path, case: dict[str, Any], trace: dict[str, Tensor], method: AdaReTaKe | None = None
) -> tuple[bool, str]:
    """The whole driver."""
    decoder = decoder_of(weights, case["mrope"])
    decoder.positions = TimedMRopePositions(decoder.text.rotary_emb, IDS_A_CELL)
    cells, grid, places = case["cells"], (case["rows"], case["cols"]), case["rows"] * case["cols"]
    video = VisualTokens.dense(trace["video"].flatten(0, 1), seconds=range(cells), grid=grid)
    made, head, tail = Recorded(), trace["head_ids"].tolist(), trace["tail_ids"].tolist()
    budget = Budget.encoded(cells, grid, ratio=1.0, layers=decoder.layers, cell_frames=1)
    state, chunk_cells = decoder.new_state(), case["chunk_tokens"] // places
    decoder.prefill_text(state, head)
    watched = recording(method or method_of(case), made, _tied(case, trace))
    decoder.prefill_video(state, video, watched, budget, chunk_cells=chunk_cells, suffix_ids=tail)
    after_video, stored = list(state.lengths), [ids.clone() for ids in state.positions]
    hidden = decoder.prefill_text(state, tail)
    picked, logits = [], [decoder.logits(hidden)]
    for _ in case["generated"][1:]:
        picked.append(int(logits[-1].argmax()))
        hidden = decoder.prefill_text(state, picked[-1:], decoding=True)
        logits.append(decoder.logits(hidden))
    picked.append(int(logits[-1].argmax()))
    close = {
        "logits": apart(torch.stack(logits), trace["logits"]),
        "keys": _keys_apart(state, trace),
        "scores": max((float((made.scores[n] - x).abs().max()) for n, x in _numbered(trace, "scores.")), default=1.0),
        "shares": max(abs(p.share - log["ratio"]) for p, log in zip(made.parts, case["log"], strict=True)),
    }
    exact = {
        "kept": _kept(made, decoder.layers, case, trace),
        "lengths": after_video == case["cache_after_chunks"][-1] and list(state.lengths) == case["cache_end"],
        "fed ids": all(torch.equal(ids, trace[f"feed.{n + 1}.ids"][1:]) for n, ids in made.ids.items()),
        "cached ids": all(torch.equal(stored[i], x) for i, x in _numbered(trace, "cache.ids.")),
        "tokens": picked == case["generated"],
    }
    holds = all(exact.values()) and max(close["logits"], close["keys"]) < RTOL
    numbers = [f"{name} {value:.1e}" for name, value in close.items()]
    numbers += [f"{name} {'exact' if same else 'WRONG'}" for name, same in exact.items()]
    return holds and close["scores"] < SCORES and close["shares"] < SHARES, "  ".join(numbers)


def _keys_apart(state: Any, trace: dict[str, Tensor]) -> float:
    pairs = [(state.layers[i].keys[0], theirs) for i, theirs in _numbered(trace, "cache.k.")]
    return max(apart(a, b) if a.shape == b.shape else float("inf") for a, b in pairs)


def _kept(made: Recorded, layers: int, case: dict[str, Any], trace: dict[str, Tensor]) -> bool:
    """Places in each chunk that stay in each layer, and with them every length of the caches."""
    lengths, same = [case["head"]] * layers, len(made.parts) == len(case["log"])
    for number, part in enumerate(made.parts):
        guide = made.guides[number]
        whole = [torch.arange(case["chunk_tokens"])] * layers
        kept = made.kept.get(number, whole)
        same &= all(torch.equal(index, trace[f"kept.{number}.{i}"]) for i, index in enumerate(kept))
        behind = guide.tokens if guide is not None and guide.stays and part.share >= 1 else 0
        lengths = [length + len(index) + behind for length, index in zip(lengths, kept, strict=True)]
        same &= lengths == case["cache_after_chunks"][number]
    return same


def _numbered(trace: dict[str, Tensor], prefix: str) -> list[tuple[int, Tensor]]:
    names = [name for name in trace if name.startswith(prefix)]
    return [(int(name.removeprefix(prefix)), trace[name]) for name in names]
