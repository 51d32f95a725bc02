"""The bookkeeping of a prefill: by hand, by nobody else, and how often an eviction's index crosses to the device."""

from __future__ import annotations

import ast
import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from evalkit.method import Method
from evalkit.model.families.qwen2_vl import Qwen2VL
from evalkit.model.flops import OpCounts
from evalkit.model.hooks import LayerHooks
from evalkit.model.prefill_state import PrefillState
from evalkit.types import Evicted, LayerChunk
from tests.support.parity import budget_of
from tests.support.visual_tokens import visual

MODEL = Path(__file__).parents[2] / "evalkit"


def entries(count: int) -> tuple[Tensor, Tensor]:
    """Keys and values (1, 1, count, 2)."""
    return torch.arange(2.0 * count).view(1, 1, count, 2), -torch.arange(2.0 * count).view(1, 1, count, 2)


def read(state: PrefillState, layer: int, ids: Tensor, cells: Tensor | None = None, **how: Any) -> None:
    state.append(layer, ids, cells=cells, **how)
    state.layers[layer].update(*entries(ids.shape[1]))


def ids(start: int, count: int) -> Tensor:
    return torch.arange(start, start + count).expand(3, -1)


def test_append_and_evict_by_hand() -> None:
    state = PrefillState(2)
    state.record_input([7, 8], next_id=2)
    for layer in (0, 1):
        read(state, layer, ids(0, 2))
    cells = torch.tensor([0, 0, 1, 1])
    for layer in (0, 1):
        read(state, layer, ids(2, 4), cells)
    assert state.visual == [4, 4]
    assert state.visual_per_cell.tolist() == [4, 4]
    # a layer's chunk attends to all that is there: 2·2 + 4·6 pairs a layer
    assert state.op_counts == OpCounts(projected=12, pairs=56, transformed=12)

    index = torch.tensor([0, 3])
    evicted = Evicted(index=index, positions=ids(2, 4)[:, index], flops=9)
    state.cut(0, 4, index, torch.full((1, 1, 2, 2), 5.0))
    state.record_eviction(0, evicted, cells, align_text=False)
    assert state.lengths == (4, 6)
    assert state.positions[0][0].tolist() == [0, 1, 2, 5]
    assert state.visual == [2, 4]
    assert state.visual_per_cell.tolist() == [3, 3]
    assert state.reindexed == [True, False]
    assert state.op_counts.extra == 9
    assert state.layers[0].keys[0, 0, :, 0].tolist() == [0, 2, 5, 5]
    assert state.layers[0].values[0, 0, :, 0].tolist() == [0, -2, 0, -6]
    state.check()


def test_a_copy_goes_its_own_way(backbone: Qwen2VL) -> None:
    tokens, state = visual(backbone, frames=8), backbone.new_state()
    limits = budget_of(backbone.layers, tokens, 1.0)
    with torch.inference_mode():
        backbone.prefill_text(state, [1, 2])
        backbone.prefill_video(state, tokens, Every3rd(), limits, chunk_cells=2)
        before, copied = snapshot(state), state.copied()
        assert same(before, snapshot(copied))
        hidden = backbone.prefill_text(copied, [3, 4, 5])
        backbone.prefill_video(copied, tokens, Every3rd(), limits, chunk_cells=2)
        assert same(before, snapshot(state))
        assert not same(before, snapshot(copied))
        assert torch.equal(backbone.prefill_text(state, [3, 4, 5]), hidden)


def test_renumbered_entries_are_recorded_as_such() -> None:
    state = PrefillState(2)
    read(state, 1, ids(0, 3), torch.tensor([0, 0, 1]), renumbered=True)
    assert (state.reindexed, state.align_text) == ([False, True], True)
    assert (state.next_free_id(0), state.next_free_id(1)) == (0, 3)


@pytest.mark.parametrize(
    ("align_text", "text", "decoding", "expected"),
    [
        (False, True, False, [[4, 5], [9, 10], [9, 10]]),  # time alone
        (True, True, False, [[8, 9], [8, 9], [8, 9]]),  # all rows, past the largest row
        (True, False, False, [[4, 5], [9, 10], [9, 10]]),  # a video's chunk: time alone
        (False, True, True, [[4, 5], [4, 5], [4, 5]]),  # decoding: all rows, by the shift in time
    ],
)
def test_ids_follow_what_is_stored(align_text: bool, text: bool, decoding: bool, expected: list[list[int]]) -> None:
    state = PrefillState(1)
    read(state, 0, torch.tensor([[0, 1, 3], [0, 2, 7], [0, 1, 3]]))
    fed = ids(9, 2)
    assert state.ids_after_reindexing(0, fed, text=text, decoding=decoding) is fed  # nothing was re-indexed
    state.reindexed[0], state.align_text = True, align_text
    assert state.ids_after_reindexing(0, fed, text=text, decoding=decoding).tolist() == expected


def snapshot(state: PrefillState) -> dict[str, Any]:
    return {k: copy.deepcopy(v) for k, v in vars(state).items() if k not in ("layers", "cache")}


def same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return all(
        torch.equal(x, y) if isinstance(x, Tensor) else str(x) == str(y)
        for x, y in zip(a.values(), b.values(), strict=True)
    )


@dataclass(frozen=True, kw_only=True)
class Every3rd(Method):
    """Evicts two of three tokens and squeezes the ids of the rest; `device`: where its index is."""

    device: str = "cpu"

    def evict(self, chunk: LayerChunk) -> Evicted | None:
        index = torch.arange(0, chunk.keys.shape[1], 3)
        return Evicted(index=index.to(self.device), positions=chunk.positions[:, : len(index)])


def test_reading_off_changes_nothing(backbone: Qwen2VL) -> None:
    tokens, state = visual(backbone, frames=8), backbone.new_state()
    with torch.inference_mode():
        backbone.prefill_text(state, [1, 2])
        backbone.prefill_video(state, tokens, Every3rd(), budget_of(backbone.layers, tokens, 1.0), chunk_cells=2)
    before, fed = snapshot(state), ids(state.next_id, 3)
    assert all(state.reindexed)
    hooks = LayerHooks(backbone.text.layers, backbone.positions, state, fed)
    for layer in range(backbone.layers):
        assert not torch.equal(hooks._ids_at(layer), fed)
        state.next_free_id(layer)
    assert state.lengths
    state.mark()
    state.check()
    assert same(before, snapshot(state))
    state.append(0, fed)  # negative control
    assert not same(before, snapshot(state))


def writes(tree: ast.AST) -> list[str]:
    """Assignments to what belongs to a prefill state."""
    owned = set(vars(PrefillState(1)))
    found = []
    for node in ast.walk(tree):
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        for target in targets if isinstance(node, ast.Assign | ast.AugAssign | ast.AnnAssign) else []:
            for part in ast.walk(target):
                owner = part.value if isinstance(part, ast.Attribute) and part.attr in owned else None
                if owner is not None and ast.unparse(owner).split(".")[-1] in ("state", "context", "prefix"):
                    found.append(ast.unparse(node))
    return found


def test_nobody_else_writes_the_bookkeeping() -> None:
    files = [*(MODEL / "model").rglob("*.py"), *(MODEL / "engine").rglob("*.py"), *(MODEL / "tune").rglob("*.py")]
    assert len(files) > 30
    found = {f.name: lines for f in files if (lines := writes(ast.parse(f.read_text(encoding="utf-8"))))}
    assert found == {}
    # negative control: what LayerHooks once did
    assert writes(ast.parse("self.context.reindexed[i] = self.context.align_text = True"))
    assert writes(ast.parse("state.op_counts += OpCounts(scored=1)"))


class Crossings(TorchFunctionMode):
    """Counts how often a long vector of one length goes to another device, by a copy or as an index."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self.length, self.found = length, 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        given = [x for x in torch.utils._pytree.tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        index = [x for x in given if x.dtype == torch.long and x.shape == (self.length,)]
        others = [x for x in [*given, out] if isinstance(x, Tensor)]
        name = getattr(func, "__name__", "")
        if name != "__get__":
            self.found += sum(any(x.device != other.device for other in others) for x in index)
        return out


def crossings(backbone: Qwen2VL, method: Method, device: str) -> tuple[int, int]:
    """Crossings of the index while a video is fed, and evictions."""
    found = Qwen2VL(copy.deepcopy(backbone.model).to(device), backbone.tokenizer)
    tokens = visual(backbone, frames=8)  # two chunks of 32 tokens, of which 11 stay
    with torch.inference_mode(), Crossings(11) as mode:
        state = found.new_state()
        found.prefill_text(state, [1, 2])
        found.prefill_video(state, tokens, method, budget_of(found.layers, tokens, 1.0), chunk_cells=2)
    assert state.visual == [22] * found.layers
    return mode.found, 2 * found.layers


def test_an_evictions_index_crosses_once(backbone: Qwen2VL) -> None:
    """On the device `meta`, which stands for a GPU: what is copied there is seen, and nothing comes back."""
    found, evictions = crossings(backbone, Every3rd(), "meta")
    assert found == evictions
    assert crossings(backbone, Every3rd(), "cpu")[0] == 0
    with Crossings(3) as mode:  # negative control: the counter sees both copies, and an index that crosses by itself
        index, values = torch.arange(3), torch.zeros(9, device="meta")
        index.to("meta"), index.to("meta"), values[index]
    assert mode.found == 3


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("where", ["cpu", "cuda"])
def test_an_evictions_index_crosses_once_on_a_gpu(where: str, backbone: Qwen2VL) -> None:
    """An index of the CPU to the device, or the method's own copy of `cuda`: those of all layers come back as one."""
    found, evictions = crossings(backbone, Every3rd(device=where), "cuda")
    assert found == evictions
