"""Ids that any method leaves on any family: past the prompt's head, ascending in time, and text behind the video.

The vision tower is left out: features are random, sizes and times as the engine lays them out.
"""

from __future__ import annotations

import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from evalkit.config import build
from evalkit.data import protocols
from evalkit.data.sampling import Sampling
from evalkit.engine.frame_encoder import FrameEncoder
from evalkit.engine.grid import Grid
from evalkit.errors import MethodError
from evalkit.method import Method, OperatingPoint, no_question
from evalkit.model.decoder import Decoder
from evalkit.model.families.qwen2_vl import Qwen2VL
from evalkit.model.load import load
from evalkit.model.question_attention import QuestionAttention
from evalkit.types import Benchmark, Frames, Video, VisualTokens
from methods.adaretake import AdaReTaKe
from methods.dpselect import DPSelect
from methods.lpcomp import LPComp
from methods.pivotkv import PivotKV
from methods.qccomp import QCComp
from methods.retake import ReTaKe
from methods.xcomp import XComp
from tests.support import qwen3_vl, small_qwen2
from tests.support.configs import composed
from tests.support.loop import question
from tests.support.methods import WITHIN, built

HEAD, TAIL, HEADER, REPLY = [1, 2, 3], [4, 5, 6, 7], 3, 8
FAMILIES = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen2")
# frames, rows and columns of a cell, ratio, cells of a chunk
CASES = [(20, 2, 3, 0.5, 4), (9, 6, 5, 0.25, None), (32, 1, 1, 0.125, 7), (32, 1, 12, 0.125, 16), (4, 3, 8, 0.1, 1)]
VARIANTS: dict[str, Method] = {
    "dpselect_true_time": DPSelect(positions="true_time", patch_sync=False),
    "retake_half": ReTaKe(select_ratio=0.5),
    "retake_aligned": ReTaKe(text_rows="aligned", pivots="released"),
    "pivotkv_kept_ids": PivotKV(reforge=False),
    "lpcomp_renumbered": LPComp(positions="renumber"),
    "qccomp_wide": QCComp(times="true_time", window=24, stride=8, chunk=16, repeats=1),
    "xcomp_renumbered": XComp(positions="renumber", window=16, stride=8, chunk=16, repeats=1),
}


def fed_in_chunks(name: str) -> bool:
    """Whether a method's video may be fed alone, in any chunks; the others are in test_whole_prompt and the traces."""
    found = built(name).method
    return not (found.whole or found.needs_frame_scores or found.rechooses)


NAMES = [*filter(fed_in_chunks, WITHIN), *VARIANTS]


def method(name: str) -> Method:
    if name in VARIANTS:
        return VARIANTS[name]
    return built(name).method


@pytest.fixture(scope="module")
def families(shallow: Qwen2VL, qwen25: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Decoder]:
    """Of four layers, in which every method's places to cut are found; Qwen2.5-VL of two."""
    qwen3 = qwen3_vl.tiny(tmp_path_factory.mktemp("backbone") / "qwen3", layers=4)
    later = {"qwen2_5_vl": load(str(qwen25), device="cpu"), "qwen3_vl": load(str(qwen3), device="cpu")}
    return {"qwen2_vl": shallow, **later, "qwen2": small_qwen2.attached(small_qwen2.plain(num_hidden_layers=4))}


class Blindfolded:
    """A family whose encoder gives random features, also where it has none."""

    cell_frames = clip_frames = 2
    pixels_per_token, frame_size = 28, None
    spatial, gives = True, frozenset[str]()

    def __init__(self, decoder: Decoder) -> None:
        self.decoder, self.layers = decoder, decoder.layers

    def token_grid(self, height: int, width: int) -> tuple[int, int]:
        return height // self.pixels_per_token, width // self.pixels_per_token

    def encode_with_deepstack(self, pixels: np.ndarray, *, slice_cells: int) -> tuple[Tensor, None]:
        frames, height, width, _ = pixels.shape
        count = frames // self.cell_frames * math.prod(self.token_grid(height, width))
        size = self.decoder.text.config.hidden_size
        return torch.randn(count, size, generator=torch.Generator().manual_seed(0)), None


def clip(frames: int, rows: int, columns: int) -> Video:
    """A video of varying rate: frames a fraction of a second to half a minute apart."""
    steps = np.random.default_rng(frames).choice([0.04, 0.5, 1.0, 30.0], frames - 1)
    seconds = (0.0, *np.cumsum(steps).tolist())
    duration = seconds[-1] + 1
    size = {"height": 28 * rows, "width": 28 * columns}
    return Video(path=Path("v.mp4"), duration_s=duration, fps=frames / duration, frames=frames, seconds=seconds, **size)


def frame_encoder(decoder: Decoder) -> FrameEncoder:
    sampling = Sampling(preset="lmms_eval", frames=64, min_pixels=28 * 28, max_pixels=10**6)
    return FrameEncoder(backbone=Blindfolded(decoder), sampling=sampling)  # type: ignore[arg-type]


def encoded(decoder: Decoder, method: Method, video: Video, ratio: float) -> VisualTokens | None:
    """What the engine encodes for a method; None where it wants no frames."""
    look = frame_encoder(decoder)
    plan = look.plan(OperatingPoint("method", method, ratio), video).frames
    if not plan.indices:
        return None
    pixels = np.zeros((len(plan.indices), plan.height, plan.width, 3), np.uint8)
    frames = Frames(pixels=pixels, indices=plan.indices, seconds=tuple(map(video.shown_at, plan.indices)))
    return look.encode(video, plan, frames)


def ids(
    decoder: Decoder, method: Method, tokens: VisualTokens, video: Video, ratio: float, chunk_cells: int | None
) -> list[tuple[Tensor, Tensor]]:
    """Of each layer: ids of what stays of the video, and of the text behind it, the last one decoded; (R, n) each."""
    budget = frame_encoder(decoder).budget(OperatingPoint("method", method, ratio), video)
    attend: Any = no_question
    if method.query_aware:
        attend = QuestionAttention(decoder, tokens, method, budget, chunk_cells=chunk_cells)
        attend.set_question(HEAD, TAIL, HEADER)
    with torch.inference_mode():
        context = decoder.new_state()
        selected = method.select(tokens, budget, attend)
        decoder.prefill_text(context, HEAD)
        decoder.prefill_video(context, selected, method, budget, chunk_cells=chunk_cells, suffix_ids=TAIL)
        between = context.separators  # times and vision tokens among the visual ones
        visual = [sum(entries) for entries in zip(context.visual, between, strict=True)]
        decoder.prefill_text(context, TAIL[:2])
        decoder.prefill_text(context, TAIL[2:])
        decoder.prefill_text(context, [REPLY], decoding=True)
    start = len(HEAD)
    return [(p[:, start : start + n], p[:, start + n :]) for p, n in zip(context.positions, visual, strict=True)]


def flaws(video: Tensor, text: Tensor, *, rowwise: bool = False) -> list[str]:
    """What is wrong with a layer's ids. `rowwise`: each row of text is behind that row of the video."""
    found = []
    if int(video.min()) < len(HEAD):
        found.append("the video begins inside the prompt")
    if bool((video[0].diff() < 0).any()):
        found.append("time runs backwards")
    behind = text[:, 0] > video.amax(1) if rowwise else text[:, :1] > video.max()
    if not bool(behind.all()):
        found.append("the question begins inside the video")
    fed = text[:, :-1] if rowwise else text
    if bool((fed.diff() != 1).any()) or (not rowwise and bool((text != text[0]).any())):
        found.append("text does not go on one by one")
    return found


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", NAMES)
def test_ids_are_sound_for_every_method_on_every_family(name: str, family: str, families: dict[str, Decoder]) -> None:
    decoder, chosen = families[family], method(name)
    # the released code moves text in time alone, which a backbone with one row of ids cannot
    released = getattr(chosen, "text_rows", "") == "auto" or isinstance(chosen, AdaReTaKe)
    rowwise = family == "qwen2_vl" and released
    fed = 0
    for frames, rows, columns, ratio, chunk_cells in CASES:
        video = clip(frames, rows, columns)
        tokens = encoded(decoder, chosen, video, ratio)
        if tokens is None:
            assert name == "blind"
            continue
        for seen, text in ids(decoder, chosen, tokens, video, ratio, chunk_cells):
            assert flaws(seen, text, rowwise=rowwise) == [], (frames, rows, columns, ratio, chunk_cells)
            fed += seen.shape[1]
    assert (fed > 0) == (name != "blind")


@pytest.mark.parametrize("name", ["shuffled", "single"])
def test_frames_out_of_order_take_the_times_of_uniform_ones(name: str, families: dict[str, Decoder]) -> None:
    decoder, video = families["qwen2_5_vl"], clip(40, 2, 3)
    uniform, tokens = (encoded(decoder, method(m), video, 0.5) for m in ("uniform", name))
    assert uniform is not None
    assert tokens is not None
    assert uniform.slot_seconds is None
    assert torch.equal(tokens.times, uniform.cell_seconds)
    assert not torch.equal(tokens.cell_seconds, uniform.cell_seconds)  # what is shown stays what it is
    assert torch.equal(decoder.positions.video_ids(3, tokens), decoder.positions.video_ids(3, uniform))
    assert decoder.positions.ids_after(tokens) == decoder.positions.ids_after(uniform)
    # negative control: at the times of what they show, ids are not sound
    wrong = replace(tokens, slot_seconds=None)
    seen, text = ids(decoder, method(name), wrong, video, 0.5, 4)[0]
    assert flaws(seen, text) or int(seen[0].max()) == len(HEAD)  # all cells of `single` on one id


def test_more_slots_than_frames_are_spread_evenly(families: dict[str, Decoder]) -> None:
    video = replace(clip(3, 2, 2), duration_s=8.0)
    tokens = encoded(families["qwen2_5_vl"], method("single"), video, 1.0)
    assert tokens is not None
    assert tokens.times.tolist() == [0.0]
    look = frame_encoder(families["qwen2_5_vl"])
    assert look._slot_seconds(video, 8) == [float(second) for second in range(8)]


@pytest.mark.parametrize(
    ("family", "rows"), [("qwen2_vl", "released"), ("qwen2_5_vl", "aligned"), ("qwen3_vl", "aligned")]
)
def test_text_rows_are_the_familys_unless_named(family: str, rows: Any, families: dict[str, Decoder]) -> None:
    decoder, video = families[family], clip(40, 2, 3)
    found = {}
    for name in ("auto", "released", "aligned"):
        chosen = PivotKV(text_rows=name)  # type: ignore[arg-type]
        tokens = encoded(decoder, chosen, video, 0.5)
        assert tokens is not None
        found[name] = ids(decoder, chosen, tokens, video, 0.5, 4)
    for (_, own), (_, named) in zip(found["auto"], found[rows], strict=True):
        assert torch.equal(own, named)
    others = found["aligned" if rows == "released" else "released"]
    assert not torch.equal(found["auto"][0][1], others[0][1])


def test_equal_rows_of_text_pass_rows_and_columns_too(families: dict[str, Decoder]) -> None:
    """A short video of wide cells: its squeezed times end before its columns do."""
    decoder, video, chosen = families["qwen2_vl"], clip(8, 1, 12), PivotKV(text_rows="aligned")
    tokens = encoded(decoder, chosen, video, 0.25)
    assert tokens is not None
    for seen, text in ids(decoder, chosen, tokens, video, 0.25, 2):
        assert int(text[0, 0]) == int(seen.max()) + 1 > int(seen[0].max()) + 1
        assert flaws(seen, text) == []


def config(path: Path, *overrides: str) -> dict[str, Any]:
    """config.yaml of a run on a checkpoint, without its questions."""
    cfg = composed("benchmark.root=.", f"backbone.path={path}", "ratio=0.5", *overrides)
    asked = (question(path / "a.mp4", 0),)
    (point,) = build.points(cfg)
    benchmark = Benchmark(name="mlvu", label="MLVU", root=path, split="dev", questions=asked)
    grid = Grid(
        points=[point],
        benchmarks=[benchmark],
        setup=build.setup(cfg, protocols.get("official")),
        results_dir=path,
        order=[point.name],
        reference=point.name,
    )
    return grid.config(benchmark, "rows", point)


@pytest.mark.slow
def test_a_table_says_how_text_moves(qwen25: Path, checkpoint: Path, tmp_path: Path) -> None:
    qwen25 = shutil.copytree(qwen25, tmp_path / "qwen25")  # a run needs a tokenizer, which the shared one has not
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(checkpoint / name, qwen25)

    def notes(path: Path, *overrides: str) -> list[str]:
        return list(config(path, *overrides)["benchmark"]["notes"])

    plain = notes(checkpoint, "method=retake")
    assert notes(qwen25, "method=uniform") == plain
    (note,) = set(notes(qwen25, "method=retake")) - set(plain)
    assert note.startswith("retake: text after the video moves with all rows of its ids (text_rows aligned)")
    (note,) = set(notes(qwen25, "method=pivotkv", "method.text_rows=released")) - set(plain)
    assert note.startswith("pivotkv: text after the video moves in time alone, as released")
    assert notes(qwen25, "method=pivotkv", "method.text_rows=aligned") == plain
    assert notes(qwen25, "method=pivotkv", "method.reforge=false") == plain


def test_how_frames_are_resized_is_part_of_a_runs_identity(checkpoint: Path) -> None:
    nearest, bicubic = (
        config(checkpoint, "method=uniform", "sampling=retake", f"sampling.resize={way}")
        for way in ("nearest", "bicubic")
    )
    assert nearest["sampling"]["resize"] == nearest["identity_parts"]["sampling"]["resize"] == "nearest"
    assert nearest["identity"] != bicubic["identity"]


def test_a_misspelt_choice_is_refused() -> None:
    with pytest.raises(MethodError, match=r"text_rows auto\|released\|aligned, got .*'alligned'"):
        PivotKV(text_rows="alligned")  # type: ignore[arg-type]
    with pytest.raises(MethodError, match=r"pivots strict\|released"):
        ReTaKe(pivots="loose")  # type: ignore[arg-type]


def test_plans_carry_the_samplings_resize(families: dict[str, Decoder]) -> None:
    video, point = replace(clip(40, 2, 3), height=900, width=1600), OperatingPoint("uniform", method("uniform"), 0.5)
    plain = frame_encoder(families["qwen2_vl"])
    assert plain.plan(point, video).frames.nearest is None
    shrinking = replace(plain, sampling=replace(plain.sampling, long_side=448, resize="nearest"))
    assert shrinking.plan(point, video).frames.nearest == (252, 448)
