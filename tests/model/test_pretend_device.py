"""On a GPU that is pretended: nothing waits for it inside a layer, and answers are those of the CPU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from evalkit.errors import MethodError
from evalkit.method import Method, OperatingPoint, no_question
from evalkit.model.families.qwen2_vl import Qwen2VL
from evalkit.model.load import load
from evalkit.model.prefill_state import PrefillState
from evalkit.model.video_llm import VideoLLM
from evalkit.testing.loop import alike, answer, engine, question, scores, size
from evalkit.to_device import to_device
from evalkit.types import Evicted, LayerChunk
from methods.adaretake import AdaReTaKe
from methods.lpcomp import LPComp
from methods.pivotkv import PivotKV
from methods.retake import ReTaKe
from tests.support import clips, llava, qwen2_vl, qwen3_vl, videochat_flash
from tests.support.methods import NAMES, built
from tests.support.parity import budget_of
from tests.support.pretend_device import DEVICE, OnDevice, moved
from tests.support.visual_tokens import visual

RATIO, CHUNKS = 0.5, 4
FRAMES = 32  # of the clip
FAMILIES: dict[str, Callable[[Path], Path]] = {
    "qwen2_5_vl": qwen2_vl.tiny_2_5,
    "qwen3_vl": qwen3_vl.tiny,
    "llava_onevision": lambda folder: llava.write(folder, llava.random_onevision()),
    "llava_video": lambda folder: llava.write(folder, llava.random_video(), llava.video_settings()),
    "videochat_flash": lambda folder: videochat_flash.random_checkpoint(folder, num_hidden_layers=4),
}


def fed(backbone: VideoLLM, method: Method, begin: Callable[[], object] = dict) -> tuple[PrefillState, Tensor]:
    """A video in chunks between two texts, and the last text's hidden state (D,); `begin` is called when tokens are
    chosen.
    """
    tokens, state = visual(backbone, frames=8 * CHUNKS), backbone.new_state()
    budget = budget_of(backbone.layers, tokens, RATIO)
    chosen = method.select(tokens, budget, no_question)
    cells = len(chosen.cell_seconds) if chosen.span is None else chosen.span
    begin()
    backbone.prefill_text(state, [1, 2])
    backbone.prefill_video(state, chosen, method, budget, chunk_cells=cells // CHUNKS, suffix_ids=[3, 4])
    return state, backbone.prefill_text(state, [3, 4])


@dataclass(frozen=True, kw_only=True)
class ChosenOnTheCpu(PivotKV):
    """A negative control: each layer waits for its scores."""

    def evict(self, chunk: LayerChunk) -> Evicted | None:
        evicted = super().evict(chunk)
        return None if evicted is None else replace(evicted, index=evicted.index.cpu())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "waits"),
    [
        (Method(), 0),
        (LPComp(), 0),
        (PivotKV(), CHUNKS),  # after the last layer of each chunk, for what all layers have evicted
        (PivotKV(pivots="released"), CHUNKS),
        (PivotKV(reforge=False), CHUNKS),
        (ReTaKe(), CHUNKS),
        (AdaReTaKe(), CHUNKS + 1),  # and once for how unlike the chunks are
    ],
    ids=str,
)
def test_nothing_waits_inside_a_layer(method: Method, waits: int, backbone: Qwen2VL) -> None:
    with torch.no_grad():
        expected, hidden = fed(backbone, method)
    with moved(backbone.model) as device:
        state, found = fed(backbone, method, device.waits.clear)
    assert sum(device.waits.values()) == waits, device.waits
    assert_same(state, found, expected, hidden)


def assert_same(state: PrefillState, hidden: Tensor, expected: PrefillState, expected_hidden: Tensor) -> None:
    """What the device has read is what the CPU has."""
    assert isinstance(hidden, OnDevice)
    torch.testing.assert_close(hidden.inner, expected_hidden, rtol=0, atol=1e-4)
    assert all(torch.equal(*pair) for pair in zip(state.positions, expected.positions, strict=True))
    assert (state.visual, state.op_counts) == (expected.visual, expected.op_counts)
    assert torch.equal(state.visual_per_cell, expected.visual_per_cell)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_reads_the_same(family: str, tmp_path: Path) -> None:
    backbone = load(str(FAMILIES[family](tmp_path / "backbone")), device="cpu")
    for method in (ReTaKe(), LPComp()):
        with torch.no_grad():
            expected = fed(backbone, method)
        with moved(backbone.model):
            found = fed(backbone, method)
        assert_same(*found, *expected)


def test_a_wait_in_each_layer_would_be_seen(backbone: Qwen2VL) -> None:
    with moved(backbone.model) as device:
        fed(backbone, ChosenOnTheCpu(), device.waits.clear)
    assert device.waits == {"a copy to the CPU": 2 * CHUNKS * backbone.layers}  # its index, and where ids are for it


@dataclass(frozen=True, kw_only=True)
class Backwards(Method):
    """Evicts by an index that descends."""

    def evict(self, chunk: LayerChunk) -> Evicted:
        return Evicted(index=to_device(torch.tensor([3, 1]), chunk.keys.device))


def test_a_wrong_index_is_named_after_the_last_layer(backbone: Qwen2VL) -> None:
    with moved(backbone.model), pytest.raises(MethodError, match=r"Backwards.evict\(\) must return ascending, unique"):
        fed(backbone, Backwards())


def test_what_a_gpu_refuses_is_refused_and_what_it_waits_for_is_counted() -> None:
    """The pretence itself."""
    with moved(torch.nn.Linear(2, 2)) as device:
        there, here = torch.ones(3, device=DEVICE), torch.ones(3)
        device.waits.clear()
        with pytest.raises(RuntimeError, match="expected all tensors on the same device"):
            there + here
        assert there.device == DEVICE
        assert (there + 2 * torch.ones(())).inner.tolist() == [3, 3, 3]
        assert not device.waits
        before = device.sent
        to_device(here, DEVICE)
        assert (device.sent - before, dict(device.waits)) == (1, {})
        float(there[0]), there.cpu(), here.to(DEVICE), there[[0, 1]], there[there > 0], there.nonzero()
    assert device.waits == {
        "a number is read": 1,
        "a copy to the CPU": 1,
        "a copy to the device": 2,
        "places are counted": 2,
    }


@pytest.mark.slow
def test_every_method_answers_as_on_the_cpu(shallow: Qwen2VL, tmp_path: Path) -> None:
    """With encoder, choice, prefill and reply."""
    clip = clips.make(tmp_path / "clip.mp4", frames=FRAMES, size=size(shallow))
    asked = [question(clip, 0, frame_scores=scores(range(FRAMES), seed=0))]
    points = [OperatingPoint(name, built(name).method, RATIO) for name in NAMES]
    small = engine(shallow, frames=16, new_tokens=2, chunk_cells=3)
    expected = answer(small, points, asked)
    with moved(shallow.model):
        found = answer(small, points, asked)
    assert not [one.error for one in found.values() if one.error]
    assert [key for key in found if not alike(found[key], expected[key])] == []
