"""Replay traces of InfiniPot-V: its choice on given keys and values, and its whole driver on the engine's own path."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from evalkit.method import Budget, Method
from evalkit.model.positions import TimedMRopePositions
from evalkit.types import CachedVideo, Evicted, LayerChunk, VisualTokens
from methods.infinipot_v import InfiniPotV
from tests.support.closeness import RTOL, apart
from tests.support.parity_prune import WEIGHTS, decoder_of

IDS_A_CELL = 4.0  # by which time advances in the drivers


def method_of(case: dict[str, Any]) -> InfiniPotV:
    """The method of a case's settings."""
    return InfiniPotV(
        block=case["block"],
        left=case["compress"],
        in_time=case["tar_ratio"],
        recent=case["query_ratio"],
        pooling=case["adaptive_pooling"],
        choice={"uniform": "uniform", "swa": "last"}.get(case.get("variant", ""), "values"),  # type: ignore[arg-type]
    )


def infinipot_v(folder: Path) -> tuple[dict[str, tuple[bool, str]], list[str]]:
    """Every case."""
    lines, left_out = {}, []
    for file in sorted(folder.glob("*.json")):
        case, tensors = json.loads(file.read_text()), file.with_suffix(".safetensors")
        if not tensors.exists():
            left_out.append(f"{file.stem}: no tensors")
        elif "variant" in case:
            lines[file.stem] = choices(case, load_file(tensors))
        else:
            lines[file.stem] = driver(folder.parent / WEIGHTS, case, load_file(tensors))
    return lines, left_out


def choices(case: dict[str, Any], trace: dict[str, Tensor]) -> tuple[bool, str]:
    """The cuts of every layer, with keys and values as they were cached."""
    method, places = method_of(case), case["rows"] * case["cols"]
    kept = {f"kept.block{cut['block']}": [] for cut in case["log"]} | {"final": []}
    for layer in range(case["layers"]):
        keys, values = trace["keys"][layer], trace["values"][layer]
        index = torch.empty(case["kv_heads"], 0, dtype=torch.long)
        fed = 0
        for cut in case["log"]:
            index, fed = _more(index, fed, cut["frames"][1] * places), cut["frames"][1] * places
            cached = CachedVideo(
                keys=_at(keys, index),
                values=_at(values, index),
                grid=(case["rows"], case["cols"]),
                cells_left=case["frames"] - cut["frames"][1],
                max_cells=case["block"],
            )
            chunk = LayerChunk(
                layer=layer,
                layers=case["layers"],
                queries=keys,
                keys=keys,
                positions=torch.empty(1, 0),
                rotate=lambda x, _: x,
                protected=torch.empty(0),
                max_keep=0,
                prompt_tokens=0,
                cached=cached,
            )
            evicted = method.evict(chunk)
            index = index if evicted is None else index.gather(1, evicted.index)
            kept[f"kept.block{cut['block']}"].append(index)
        kept["final"].append(_more(index, fed, case["frames"] * places))
    wrong = [name for name, found in kept.items() if not torch.equal(torch.stack(found), trace[name])]
    sizes = method.chunks(case["frames"], Budget.encoded(case["frames"], (1, places), ratio=1.0, layers=1))
    ends = [sum(sizes[: i + 1]) for i in range(len(sizes))] if sizes else []
    blocks = ends[: len(case["log"])] == [cut["frames"][1] for cut in case["log"]]
    return (
        not wrong and blocks,
        f"{len(kept)} choices {'WRONG: ' + ', '.join(wrong) if wrong else 'exact'}, blocks "
        + ("exact" if blocks else f"WRONG: {sizes}"),
    )


def _more(index: Tensor, fed: int, until: int) -> Tensor:
    return torch.cat([index, torch.arange(fed, until).expand(len(index), -1)], 1)


def _at(entries: Tensor, index: Tensor) -> Tensor:
    return entries.gather(1, index[:, :, None].expand(-1, -1, entries.shape[2]))


@torch.inference_mode()
def driver(weights: Path, case: dict[str, Any], trace: dict[str, Tensor]) -> tuple[bool, str]:
    """The whole driver; the gap that it leaves before the question is made here."""
    decoder = decoder_of(weights, case["mrope"])
    decoder.positions = TimedMRopePositions(decoder.text.rotary_emb, IDS_A_CELL)
    cells, grid, places = case["cells"], (case["rows"], case["cols"]), case["rows"] * case["cols"]
    video = VisualTokens.dense(trace["video"].flatten(0, 1), seconds=range(cells), grid=grid)
    made: list[tuple[int, Tensor]] = []
    method, head, tail = recording(method_of(case), made), trace["head_ids"].tolist(), trace["tail_ids"].tolist()
    budget = Budget.encoded(cells, grid, ratio=1.0, layers=decoder.layers, cell_frames=1)
    state = decoder.new_state()
    decoder.prefill_text(state, head)
    decoder.prefill_video(state, video, method, budget, chunk_cells=None)
    lengths = list(state.lengths) == case["cache_after_video"]
    keys = max(apart(state.layers[i].keys[0], trace[f"cache.k.{i}"]) for i in (0, 4, 7) if f"cache.k.{i}" in trace)
    state.next_id += len(tail)
    ids = decoder.positions.text_ids(state.next_id, len(tail))
    hidden = decoder.prefill_text(state, tail)
    picked, logits = [], [decoder.logits(hidden)]
    for _ in case["generated"]:
        picked.append(int(logits[-1].argmax()))
        hidden = decoder.prefill_text(state, picked[-1:], decoding=True)
        logits.append(decoder.logits(hidden))
    near = apart(torch.stack(logits[: len(trace["logits"])]), trace["logits"])
    exact = {
        "lengths": lengths,
        "kept": _kept(made, decoder.layers, cells * places, case, trace),
        "tokens": picked == case["generated"],
        "question ids": torch.equal(ids, trace[f"feed.{_question(trace, len(tail))}.ids"]),
    }
    numbers = f"logits {near:.1e}  keys {keys:.1e}"
    return all(exact.values()) and max(near, keys) < RTOL, "  ".join(
        [numbers, *(f"{name} {'exact' if same else 'WRONG'}" for name, same in exact.items())]
    )


def _question(trace: dict[str, Tensor], length: int) -> int:
    feeds = sorted(int(key.split(".")[1]) for key in trace if key.startswith("feed."))
    return next(n for n in reversed(feeds) if trace[f"feed.{n}.ids"].shape[1] == length)


def _kept(
    made: list[tuple[int, Tensor]], layers: int, size: int, case: dict[str, Any], trace: dict[str, Tensor]
) -> bool:
    """Indices into the uncut video after each cut, of every layer."""
    fed, same, places = 0, True, case["rows"] * case["cols"]
    known: dict[int, Tensor] = {}
    method, ends, at = method_of(case), [], 0
    for cut in range(len(case["log"])):
        at += method.block if cut == 0 else method.block - method.left  # type: ignore[operator]
        ends.append(min(size, at * places))
    for cut, end in enumerate(ends):
        for layer, index in made[cut * layers : (cut + 1) * layers]:
            before = known.get(layer, torch.empty(len(index), 0, dtype=torch.long))
            known[layer] = _more(before, fed, end).gather(1, index)
        same &= torch.equal(torch.stack([known[i] for i in range(layers)]), trace[f"kept.block{cut}"])
        fed = end
    return same and len(made) == layers * len(ends)


def recording(method: Method, made: list[tuple[int, Tensor]]) -> Method:
    """The same method, which writes layer and index of each cut into `made`."""
    kind = type(method)

    def evict(self: Method, chunk: LayerChunk) -> Evicted | None:
        evicted = kind.evict(self, chunk)
        if evicted is not None:
            made.append((chunk.layer, evicted.index))
        return evicted

    cls: Any = type(f"Recording{kind.__name__}", (kind,), {"evict": evict})
    found: Method = cls(**{each.name: getattr(method, each.name) for each in fields(method)})
    return found
