"""How the cases of each method of tests/support/parity_zoo.py are replayed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from evalkit.encoder_view import EncoderView, Need
from evalkit.model.encoder_attention import pooled, received
from evalkit.model.encoder_reader import QwenReader, untimed
from evalkit.types import VisualTokens
from methods.divprune import DivPrune
from methods.dtd import DTD
from methods.dycoke import DyCoke
from methods.evs import EVS
from methods.fastvid import FastVID
from methods.flashvid_outer import FlashVIDOuter
from methods.holitom_outer import HoliTomOuter
from methods.vcast import VCast, allocated
from methods.vidcom2 import VidCom2
from methods.visionzip import VisionZip
from tests.support.parity_zoo import Case, Lines, Replay, dense, position, replay_folder, with_pixels
from tests.support.pooling_head import pooling_head


def vidcom2(case: Case) -> str | None:
    """Kept positions; on LLaVA-Video without the newlines."""
    if "inputs" in case.settings:
        tokens = case.inputs.tokens()
    else:
        features = case.trace["features"]
        side = round(features.shape[1] ** 0.5)
        tokens = dense(features, (side, side))
    case.exact("kept", position(case.select(VidCom2(), tokens, case.settings["ratio"])), case.trace["keep"])
    return "order of newlines: here one stands behind each row that is left" if "order" in case.trace else None


def vcast(case: Case) -> None:
    """Kept positions."""
    selected = case.select(VCast(), case.inputs.tokens(), case.settings["ratio"])
    case.exact("kept", position(selected), case.trace["keep"])


def divprune(case: Case) -> None:
    """Kept positions."""
    selected = case.select(DivPrune(), case.inputs.tokens(), case.settings["ratio"])
    case.exact("kept", position(selected), case.trace["keep"])


def dtd(case: Case) -> None:
    """Kept positions, by features or by pixels."""
    settings = case.settings
    on_pixels = settings["method"] == "pixel"
    method = DTD(
        change="pixels" if on_pixels else "features",
        rule="absolute" if settings["absolute"] else "relative",
        threshold=settings["threshold"],
    )
    tokens = _frames_of(case.trace["rgb"]) if on_pixels else case.inputs.tokens()
    case.exact("kept", position(case.select(method, tokens, 1.0, cell_frames=2)), case.trace["keep"])


def _frames_of(rgb: Tensor) -> VisualTokens:
    """Cell, row, column, sub-row, sub-column, channel, frame, y, x -> (T, 2, height, width, 3) as visual tokens."""
    cells, rows, columns = rgb.shape[:3]
    frames = rgb.permute(0, 6, 1, 3, 7, 2, 4, 8, 5)
    height, width = (rgb.shape[i] * rgb.shape[i + 2] * rgb.shape[i + 6] for i in (1, 2))
    return with_pixels(frames.reshape(cells * 2, height, width, 3), cells, (rows, columns))


def evs(case: Case) -> None:
    """Kept positions, by features or by pixels."""
    trace, ratio = case.trace, 1 - case.settings["q"]
    if "rgb" in trace:
        frames = trace["rgb"].permute(0, 2, 3, 1)
        rows, columns = (side // 14 for side in frames.shape[1:3])
        tokens, method = with_pixels(frames, len(frames), (rows, columns)), EVS(change="pixels")
    elif "features" in trace:
        tokens, method = dense(trace["features"], (1, trace["features"].shape[1])), EVS()
    else:
        tokens, method = case.inputs.tokens(), EVS()
    case.exact("kept", position(case.select(method, tokens, ratio)), trace["keep"])


def dycoke(case: Case) -> None:
    """Kept positions in the released order."""
    tokens = case.inputs.tokens(case.settings["frames"])
    selected = case.select(DyCoke(k=case.settings["k"]), tokens, 1.0)
    case.exact("order", position(selected), case.trace["order"])
    if case.frames:
        case.ids(selected, torch.arange(len(case.trace["order"])))


def visionzip(case: Case) -> None:
    """Places of the dominant tokens, and all features; with CLIP's states in place of features, too."""
    trace, settings = case.trace, case.settings
    count = settings["dominant"] + settings["contextual"]
    method = VisionZip(tokens_per_cell=count, dominant=(settings["dominant"] + 0.5) / count)
    if "cls_attention" in trace:
        view = EncoderView(
            attention=trace["cls_attention"].sum(1)[:, 1:].flatten(), keys=trace["metric"][:, 1:].flatten(0, 1)
        )
        features, theirs = trace["hidden"][:, 1:], trace["output"][:, 1:]
        tokens, dominant = dense(features, (1, features.shape[1]), view), trace["top"][:, 1:] - 1
    else:
        tokens = case.inputs.tokens(attention="attention", keys="keys")
        dominant, theirs = trace["dominant"], trace["output"]
    selected = case.select(method, tokens, 1.0)
    case.exact("dominant", selected.place.view(len(theirs), -1)[:, : settings["dominant"]], dominant.sort().values)
    case.close("features", selected.features.view(theirs.shape), theirs)


def fastvid(case: Case) -> None:
    """Kept positions and all features; ids as in the dense run on LLaVA."""
    settings, trace = case.settings, case.trace
    method = FastVID(
        rules="llava" if case.frames else "qwen",
        segments=settings["c"],
        similarity=settings["tau"],
        ignore=settings.get("ignore", 0.95),
        context=settings["d"],
        stride=settings["p"],
        beta=settings["beta"],
    )
    tokens = case.inputs.tokens(pooled_attention="attention", summary="frame_global")
    if not case.frames:
        means = case.inputs.tensors["features"].mean(1)
        tokens = replace(tokens, encoder=replace(tokens.encoder, summary=means))
    selected = case.select(method, tokens, settings["ratio"])
    case.exact("kept", position(selected), trace["keep"])
    case.close("features", selected.features, trace["output"])
    if case.frames:
        case.ids(selected, trace["keep"].long())


def holitom(case: Case) -> None:
    """Frames and places in the released order, and all features."""
    settings, trace = case.settings, case.trace
    method = HoliTomOuter(
        similarity=settings["tau"],
        beta=settings["beta"],
        neighbours=settings["K"],
        window=settings["max_window"],
        plain_mean=settings["no_beta"],
    )
    selected = case.select(method, case.inputs.tokens(attention="attention"), settings["ratio"])
    case.placed(selected, trace["frame"] * case.inputs.places + trace["place"], by_chance=trace["arbitrary_place"])


def flashvid(case: Case) -> None:
    """Kept positions and all features."""
    settings, trace = case.settings, case.trace
    method = FlashVIDOuter(
        choice=settings["method"],
        segments=settings["min_segment_num"],
        segment_similarity=settings["segment_threshold"],
        merge_similarity=settings["temporal_threshold"],
        share=settings["alpha"],
        expansion=settings["expansion"],
    )
    selected = case.select(method, case.inputs.tokens(attention="attention"), settings["ratio"])
    case.placed(selected, trace["keep"], by_chance=trace["arbitrary_place"])


QWEN_BLOCK = ("window_index", "queries", "keys")


def encoder(case: Case) -> None:
    """What a tower's last block attends to, from its queries and keys."""
    trace, settings = case.trace, case.settings
    if case.name == "qwen_last_block":
        _qwen_block(case)
    elif case.name == "siglip_mean":
        queries, keys = (
            trace[name].unflatten(-1, (settings["heads"], -1)).transpose(1, 2) for name in ("queries", "keys")
        )
        case.close("attention", received(queries, keys), trace["weights"])
        case.close("keys", keys.mean(1), trace["metric"])
    else:
        norm, head = pooling_head(trace, settings["heads"], settings["eps"])
        weights, summary = pooled(trace["hidden"], norm, head)
        case.close("pooled_attention", weights, trace["weights"])
        case.close("summary", summary, trace["frame_global"])


def _qwen_block(case: Case) -> None:
    """Cell by cell, each with the order of its places that the trace has."""
    trace, settings = case.trace, case.settings
    cells, places = trace["as_flashvid"].shape
    grid = (settings["patch_rows"] // 2, settings["patch_columns"] // 2)
    needs: frozenset[Need] = frozenset({"attention", "pooled_attention"})
    views = []
    for order, queries, keys in zip(*(trace[name].chunk(cells) for name in QWEN_BLOCK), strict=True):
        attention = SimpleNamespace(blocks=[SimpleNamespace(attn=None)])
        tower: Any = SimpleNamespace(module=attention, merge=2, token_order=lambda _, order=order: order % places)
        reader = QwenReader(needs, untimed, tower, grid)
        reader.read(queries.transpose(0, 1), keys.transpose(0, 1))
        views.append(reader.view(torch.empty(places, 1), 1))
    for need, name in (("attention", "as_flashvid"), ("pooled_attention", "as_fastvid")):
        case.close(need, torch.stack([getattr(view, need) for view in views]), trace[name])


REPLAYS: Mapping[str, Replay] = {
    "divprune": divprune,
    "dtd": dtd,
    "dycoke": dycoke,
    "encoder": encoder,
    "evs": evs,
    "fastvid": fastvid,
    "flashvid": flashvid,
    "holitom": holitom,
    "vcast": vcast,
    "vidcom2": vidcom2,
    "visionzip": visionzip,
}


def zoo(folder: Path) -> tuple[Lines, list[str]]:
    """Every case of a folder of traces; V-CAST's allocations are no cases of their own there."""
    lines, left_out = replay_folder(folder, REPLAYS)
    return {**lines, **_allocations(folder / "vcast" / "cases.json")}, left_out


def _allocations(file: Path) -> Lines:
    """How V-CAST shares out tokens among cells."""
    lines: Lines = {}
    for number, case in enumerate(json.loads(file.read_text()).get("allocation", []) if file.exists() else []):
        found = allocated(torch.tensor(case["weights"]), case["total"], case["max_per_frame"])
        holds = found == case["budget"]
        lines[f"vcast/allocation {number}"] = (holds, f"budget {'exact' if holds else 'WRONG'}")
    return lines
