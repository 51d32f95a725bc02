"""Replay traces of methods in the LLM's layers, of its cache and of frames: a folder a method, as golden/zoo_layers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from methods.aks import AKS
from methods.bolt import BOLT
from tests.support import parity_adaretake, parity_evict, parity_prune

Lines = dict[str, tuple[bool, str]]


def zoo_layers(folder: Path) -> tuple[Lines, list[str]]:
    """Every case below `folder`: whether it holds, and its numbers; and what was left out, with the reason."""
    found: Lines = {}
    left_out: list[str] = []
    for part in sorted(path for path in folder.iterdir() if path.is_dir()):
        if part.name in REPLAYED:
            lines, missing = REPLAYED[part.name](part)
            found |= {f"{part.name}/{name}": line for name, line in lines.items()}
            left_out += [f"{part.name}/{line}" for line in missing]
        elif part.name != "tiny_qwen2":
            left_out.append(f"{part.name}: no method here has these traces")
    return found, left_out


def aks(folder: Path) -> tuple[Lines, list[str]]:
    """Frames and parts of every case."""
    lines: Lines = {}
    for number, case in enumerate(json.loads((folder / "cases.json").read_text())):
        names = {"ratio": "stride", "t1": "threshold", "t2": "deviation"}
        method = AKS(**{names.get(key, key): value for key, value in case["options"].items()})
        step = case["frames_step"]
        frames = [i * step for i in method.released(case["scores"], case["num"])]
        parts = case["aks_segments"]
        same = parts is None or sorted(map(tuple, parts)) == _parts(method, case)
        label = f"{number:02}_{case['kind']}_{case['num']}"
        lines[label] = (
            frames == case["aks"] and same,
            f"{len(frames)} frames {_exact(frames == case['aks'])}, parts {_exact(same)}",
        )
    return lines, []


def _parts(method: AKS, case: dict[str, Any]) -> list[tuple[int, int, int]]:
    used = np.array(case["scores"][:: method.stride][: len(case["scores"]) // method.stride])
    step = case["frames_step"] * method.stride
    return sorted((a * step, b - a, level) for a, b, level in method.parts(used, case["num"], method.depth))


def bolt(folder: Path) -> tuple[Lines, list[str]]:
    """Frames of every case."""
    lines: Lines = {}
    for number, case in enumerate(json.loads((folder / "cases.json").read_text())):
        found = BOLT(power=case["power"]).chosen(case["scores"], case["num"])
        same = found == case["indices"]
        label = f"{number:02}_{case['kind']}_{case['num']}"
        lines[label] = (same, f"{len(found)} frames {_exact(same)}")
    return lines, []


def _exact(same: bool) -> str:
    return "exact" if same else "WRONG"


PRUNING = ("fastv", "pyramiddrop", "framefusion", "holitom_inner", "flashvid_inner")
REPLAYED: dict[str, Callable[[Path], tuple[Lines, list[str]]]] = {
    "adaretake": parity_adaretake.adaretake,
    "aks": aks,
    "bolt": bolt,
    "infinipot_v": parity_evict.infinipot_v,
    **dict.fromkeys(PRUNING, parity_prune.cases),
}
