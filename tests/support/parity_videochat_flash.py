"""Replay VideoChat-Flash's traces: merging and projector, vision tower, tables of positions, the training-free drop.

A trace that has no weights of its own takes those of a trace in the whole set of goldens that fit.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from evalkit.model.families import videochat_flash_tome as tome
from evalkit.model.families.qwen2 import Qwen2
from evalkit.model.families.videochat_flash_model import MergingProjector
from evalkit.model.families.videochat_flash_vision import UMT, positions
from evalkit.model.question_attention import QuestionAttention
from methods import heuristic_drop
from methods.heuristic_drop import HeuristicDrop
from tests.support import parity_xcomp
from tests.support.closeness import RTOL, apart
from tests.support.golden import WHOLE

WEIGHT = "w."  # how names of weights begin in a trace
UMT_HEADS = 2  # of the traces' vision tower, whose settings do not say
Lines = dict[str, tuple[bool, str]]


@dataclass(frozen=True)
class Difference:
    """How far a replay lies from its trace, by name: relative (tests/support/closeness.py), or whether it is exact."""

    found: Mapping[str, float | bool]

    def within(self, tolerance: float) -> bool:
        """Close where closeness is asked for, exact where exactness is; and something was compared."""
        return bool(self.found) and all(v if isinstance(v, bool) else v < tolerance for v in self.found.values())

    def __str__(self) -> str:
        said = {True: "exact", False: "WRONG"}
        return ", ".join(f"{k} {said[v] if isinstance(v, bool) else format(v, '.1e')}" for k, v in self.found.items())


def settings(folder: Path) -> dict[str, Any]:
    """meta.json of a folder; empty where it has none."""
    file = folder / "meta.json"
    return json.loads(file.read_text()) if file.exists() else {}


def weights(trace: Mapping[str, Tensor], kind: str, fits: str, shape: list[int] | None) -> dict[str, Tensor] | None:
    """Weights of a trace, or of one in the whole goldens' `kind` whose tensor `fits` has that shape (None: any)."""
    own = {name.removeprefix(WEIGHT): value for name, value in trace.items() if name.startswith(WEIGHT)}
    if own:
        return own
    for file in sorted((WHOLE / "videochat_flash" / kind).glob("*.safetensors")):
        theirs = load_file(file)
        if fits in theirs and shape in (None, list(theirs[fits].shape)):
            return {name.removeprefix(WEIGHT): value for name, value in theirs.items() if name.startswith(WEIGHT)}
    return None


def pairs(source: Tensor, target: Tensor) -> Tensor:
    """Which even place is merged into which odd one, (B, r, 2), whatever the order."""
    order = source.argsort(1)
    return torch.stack([source.gather(1, order), target.gather(1, order)], -1)


def same_round(mine: tome.Matches, trace: Mapping[str, Tensor], number: int) -> bool:
    """The same order of what is left, and the same pairs; the order in which those are added up is not the result's."""
    left, source, target = (trace[f"round{number}.{name}_idx"] for name in ("unm", "src", "dst"))
    return torch.equal(mine.left, left) and torch.equal(pairs(mine.source, mine.target), pairs(source, target))


@torch.inference_mode()
def merging(trace: Mapping[str, Tensor], case: Mapping[str, Any]) -> tuple[Difference, list[str]]:
    """One trace of merging and projecting, `case` its settings; and what could not be compared."""
    frames, heads, left_out = int(case["frames"]), int(case["num_attention_heads"]), list[str]()
    x = trace["x"]
    x = x.reshape(-1, frames * x.shape[-2], x.shape[-1])
    found: dict[str, float | bool] = {}
    target, left = 16 * frames, x.shape[1]
    for number, r in enumerate(tome.rounds(left, target)):
        if f"round{number}.src_idx" in trace:
            metric = tome.compared(tome.merge(x, heads, left), heads)
            found[f"round {number}"] = same_round(tome.match(metric, r), trace, number)
        left -= r
    if "merged" in trace:
        found["merged"] = apart(tome.merge(x, heads, target), trace["merged"])
    if "out" in trace:
        shape = [trace["out"].shape[-1], x.shape[-1]]
        linear = weights(trace, "tome", "w.mlp.0.weight", shape)
        if linear is None:
            left_out.append(f"projector: no weights of shape {shape[0]} × {shape[1]} in the trace or in {WHOLE}")
        else:
            projector = MergingProjector(x.shape[-1], heads, shape[0])
            projector.load_state_dict(linear)
            found["out"] = apart(projector(x, frames), trace["out"])
    return Difference(found), left_out


@torch.inference_mode()
def vision(trace: Mapping[str, Tensor]) -> tuple[Difference, list[str]]:
    """One trace of the vision tower."""
    found: dict[str, float | bool] = {}
    pixels, left_out = trace["x"], list[str]()
    frames, side = pixels.shape[2], pixels.shape[-1] // 16
    for name, count in (("pos_embed", frames), ("img_pos_embed", 1)):
        if name in trace:
            found[name] = apart(positions(count, side, trace[name].shape[-1]), trace[name][0])
    held = weights(trace, "umt_tiny", "w.encoder.patch_embed.proj.weight", None)
    if held is None:
        return Difference(found), [f"features: no weights in the trace or in {WHOLE}"]
    held = {name.removeprefix("encoder."): value for name, value in held.items()}
    depth = 1 + max(int(name.split(".")[1]) for name in held if name.startswith("blocks."))
    tower = UMT(held["patch_embed.proj.bias"].shape[0], depth, UMT_HEADS)
    tower.load_state_dict(held)
    for name, seen in (("video_out", pixels), ("image_out", pixels[:, :, :1])):
        if name in trace:
            found[name] = apart(tower(seen), trace[name].flatten(1, 2))
    return Difference(found), left_out


def table(frames: int, stored: Mapping[str, Any]) -> Difference:
    """A table of positions at full size against sums and single numbers of the released one."""
    mine = positions(frames, 28, stored["shape"][-1])
    found: dict[str, float | bool] = {
        "shape": list(mine.shape) == stored["shape"][1:],
        "sum": abs(mine.double().sum().item() - stored["sum"]) / abs(stored["sum"]),
        "abs": abs(mine.double().abs().sum().item() - stored["abs"]) / stored["abs"],
    }
    for place, value in stored.get("probe", {}).items():
        row, column = map(int, place.split(","))
        found[place] = abs(mine[row, column].item() - value)
    return Difference(found)


def _merging_cases(folder: Path) -> Iterator[tuple[str, Difference | None, list[str]]]:
    for name, case in settings(folder).items():
        file = folder / f"{name}.safetensors"
        if not isinstance(case, dict) or not file.exists():
            yield f"tome {name}", None, ["no tensors"]
        else:
            yield f"tome {name}", *merging(load_file(file), case)
    for file in sorted(folder.glob("*.safetensors")):
        if file.stem not in settings(folder):
            yield f"tome {file.stem}", None, ["no settings in meta.json"]


def _vision_cases(folder: Path) -> Iterator[tuple[str, Difference | None, list[str]]]:
    meta = settings(folder)
    for name, case in meta.items():
        if name.startswith("real_"):
            frames = int(name.rsplit("_", 1)[1]) if name.startswith("real_pos_") else 1
            yield f"umt {name}", table(frames, case), []
        elif not (folder / f"frames{name}.safetensors").exists():
            yield f"umt frames{name}", None, ["no tensors"]
    for file in sorted(folder.glob("frames*.safetensors")):
        yield f"umt {file.stem}", *vision(load_file(file))


def drop_of(case: Mapping[str, Any]) -> HeuristicDrop | None:
    """The method that a case's own settings describe; None where no schedule here is theirs."""
    after, shares = case["layers_1based_after"], case["ratios"][1:]
    for name, schedule in heuristic_drop.SCHEDULES.items():
        if [(layer, share) for layer, share in schedule] == list(zip(after, shares, strict=True)):
            return HeuristicDrop(schedule=name, choice=case["type"], frame_ratio=1.0)  # type: ignore[arg-type]
    return None


@torch.inference_mode()
def dropped(
    backbone: Qwen2, folder: Path, trace: Mapping[str, Tensor], case: Mapping[str, Any], chunk_cells: int | None = None
) -> Difference:
    """One trace of the drop, of prompt and answer at once; `folder` has the inputs (lp_comp)."""
    method = drop_of(case)
    assert method is not None
    inputs = load_file(folder / "lp_comp" / "inputs.safetensors")
    ids, video = inputs["input_ids"].tolist(), parity_xcomp.frames_of(inputs["image_features"])
    at, limits = ids.index(parity_xcomp.IMAGE), parity_xcomp.budget_of(backbone, len(video.cell_seconds))
    asking = QuestionAttention(backbone, video, method, limits, chunk_cells=chunk_cells)
    asking.set_question(ids[:at], ids[at + 1 :], len(ids) - at - 1)
    with parity_xcomp.watched(backbone) as seen:
        chosen = method.select(video, limits, asking)
        for states in seen:  # those of the passes that choose
            states.clear()
        state, _ = parity_xcomp.read(backbone, ids, chosen, method, chunk_cells)
    states = [torch.cat(parts) for parts in seen]
    found: dict[str, float | bool] = {"lengths": list(state.lengths) == case["seq_len_per_layer"]}
    for name, theirs in trace.items():
        if name.startswith("layer_in."):
            found[name] = apart(states[int(name.split(".")[1])], theirs)
    if "logits" in trace:
        found["logits"] = apart(backbone.model.lm_head(states[-1]), trace["logits"])
    return Difference(found)


def _drop_cases(folder: Path) -> Iterator[tuple[str, Difference | None, list[str]]]:
    beside = folder.parent.parent / "xcomp"
    xcomp = beside if (beside / "lp_comp" / "weights.safetensors").exists() else WHOLE / "xcomp"
    cases = {name: case for name, case in settings(folder).items() if isinstance(case, dict)}
    if cases and not (xcomp / "lp_comp").is_dir():
        yield "heuristic_drop", None, [f"no language model in {xcomp}"]
        return
    backbone = parity_xcomp.backbone_of(xcomp) if cases else None
    for name, case in cases.items():
        file = folder / f"{name}.safetensors"
        if not file.exists() or drop_of(case) is None or backbone is None:
            yield f"drop {name}", None, ["settings that no method here has" if file.exists() else "no tensors"]
        else:
            yield f"drop {name}", dropped(backbone, xcomp, load_file(file), case), []


def videochat_flash(folder: Path) -> tuple[Lines, list[str]]:
    """Every case of a folder: whether it holds, and its numbers; and what was left out, with the reason."""
    found: Lines = {}
    left_out: list[str] = []
    kinds = (
        _merging_cases(folder / "tome"),
        _vision_cases(folder / "umt_tiny"),
        _drop_cases(folder / "heuristic_drop"),
    )
    for cases in kinds:
        for name, outcome, missing in cases:
            left_out += [f"{name}: {line}" for line in missing]
            if outcome is not None:
                found[name] = (outcome.within(RTOL), str(outcome))
    return found, left_out
