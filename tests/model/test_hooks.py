"""The verbs inside the LLM against masks: what was dropped is as if nobody could see it, and nothing else changes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor

from evalkit.errors import MethodError
from evalkit.method import Budget, Method, PruneView
from evalkit.model import positions
from evalkit.model.families.qwen2_vl import Qwen2VL
from evalkit.testing.method_contract import hooks
from evalkit.types import Evicted, LayerChunk, Pruned, VisualTokens
from tests.support.parity import budget_of
from tests.support.visual_tokens import visual

CHUNK_CELLS = 2
STEP = CHUNK_CELLS * 16  # tokens of a chunk


@dataclass(frozen=True, kw_only=True)
class EvictByLayer(Method):
    """Layer l keeps the tokens whose place in the chunk is not l modulo 3."""

    def evict(self, chunk: LayerChunk) -> Evicted | None:
        places = torch.arange(chunk.keys.shape[1])
        return Evicted(index=places[places % 3 != chunk.layer % 3])


@dataclass(frozen=True, kw_only=True)
class PruneLate(Method):
    """Before layer 2 every other token goes, before layer 3 the first half of the rest."""

    def prune(self, layer: int, layers: int, tokens: VisualTokens, budget: Budget, view: PruneView) -> Pruned | None:
        places = torch.arange(len(tokens))
        index = {2: places[1::2], 3: places[len(places) // 2 :]}.get(layer)
        return None if index is None else Pruned(index=index)


def feed(backbone: Qwen2VL, tokens: VisualTokens, method: Method, head: list[int], tail: list[int]) -> Tensor:
    context = backbone.new_state()
    backbone.prefill_text(context, head)
    backbone.prefill_video(context, tokens, method, budget_of(backbone.layers, tokens, 1.0), chunk_cells=CHUNK_CELLS)
    return backbone.logits(backbone.prefill_text(context, tail))


def evicted(layer: int, tokens: int) -> Tensor:
    """(tokens,) True where EvictByLayer drops a token from this layer's cache."""
    return torch.arange(tokens) % STEP % 3 == layer % 3


def pruned(layer: int, tokens: int) -> Tensor:
    """(tokens,) True where PruneLate has dropped a token before this layer."""
    gone = torch.zeros(tokens, dtype=torch.bool)
    for start in range(0, tokens, STEP):
        alive = torch.arange(start, start + STEP)
        if layer >= 2:
            alive = alive[1::2]
        if layer >= 3:
            alive = alive[len(alive) // 2 :]
        gone[start : start + STEP] = True
        gone[alive] = False
    return gone


def masked_forward(
    checkpoint: Path,
    tokens: VisualTokens,
    head: list[int],
    tail: list[int],
    dropped: Callable[[int, int], Tensor],
    *,
    at_once: bool,
) -> Tensor:
    """Last logits of one plain forward in which layer l hides the dropped tokens' keys.

    `at_once`: from everybody but the token itself (it never entered the layer); else from the chunks that follow.
    """
    from transformers import Qwen2VLForConditionalGeneration

    stock = Qwen2VLForConditionalGeneration.from_pretrained(checkpoint, dtype=torch.float32).eval()
    embed = stock.get_input_embeddings()
    embeds = torch.cat([embed(torch.tensor(head)), tokens.features, embed(torch.tensor(tail))])[None]
    where = [positions.text(0, len(head)), positions.video(len(head), tokens.cell, tokens.place, 4)]
    where.append(positions.text(positions.following(where[1]), len(tail)))
    size, count = embeds.shape[1], len(tokens)
    chunk = torch.full((size,), -1)
    chunk[len(head) : len(head) + count] = torch.arange(count) // STEP
    chunk[len(head) + count :] = 10**6

    def mask(layer: int) -> Tensor:
        gone = torch.zeros(size, dtype=torch.bool)
        gone[len(head) : len(head) + count] = dropped(layer, count)
        spared = torch.eye(size, dtype=torch.bool) if at_once else chunk[:, None] == chunk[None]
        seen = torch.ones(size, size).tril().bool() & (~gone[None] | spared)
        return torch.zeros(size, size).masked_fill(~seen, -torch.inf)[None, None]

    for i, layer in enumerate(stock.model.language_model.layers):
        layer.register_forward_pre_hook(
            lambda _, args, kwargs, i=i: (args, {**kwargs, "attention_mask": mask(i)}), with_kwargs=True
        )
    return stock(inputs_embeds=embeds, position_ids=torch.cat(where, dim=1)[:, None]).logits[0, -1]


@pytest.mark.parametrize(
    ("method", "dropped", "at_once"), [(EvictByLayer(), evicted, False), (PruneLate(), pruned, True)]
)
def test_dropped_tokens_are_as_if_unseen(
    backbone: Qwen2VL,
    checkpoint: Path,
    method: Method,
    dropped: Callable[[int, int], Tensor],
    at_once: bool,
) -> None:
    tokens = visual(backbone, frames=8)
    head, tail = backbone.prompt("What comes next?", video=True)
    with torch.inference_mode():
        found = feed(backbone, tokens, method, head, tail)
        expected = masked_forward(checkpoint, tokens, head, tail, dropped, at_once=at_once)
        dense = feed(backbone, tokens, Method(), head, tail)
        # negative control: the masks of the layer below
        wrong = masked_forward(checkpoint, tokens, head, tail, lambda layer, n: dropped(layer + 1, n), at_once=at_once)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
    assert (found - dense).abs().max() > 1e-3
    assert (found - wrong).abs().max() > 1e-3


def test_every_layer_has_a_length_of_its_own(backbone: Qwen2VL) -> None:
    tokens = visual(backbone, frames=8)
    with torch.inference_mode():
        context = backbone.new_state()
        backbone.prefill_text(context, [1, 2, 3])
        budget = budget_of(backbone.layers, tokens, 1.0)
        backbone.prefill_video(context, tokens, PruneLate(), budget, chunk_cells=CHUNK_CELLS)
        late = backbone.layers - 3
        assert context.visual == [64, 64, 32, *[16] * late]
        hidden = backbone.prefill_text(context, [4, 5])
        assert context.lengths == (69, 69, 37, *[21] * late)
        backbone.generate(context, backbone.next_token(context, hidden), 3)
    assert tuple(int(layer.keys.shape[2]) for layer in context.cache.layers) == context.lengths


class BugError(RuntimeError):
    """Raised inside a verb."""


@dataclass(frozen=True, kw_only=True)
class Faulty(Method):
    """Fails, or returns what the contract forbids."""

    index: tuple[int, ...] = ()

    def evict(self, chunk: LayerChunk) -> Evicted | None:
        if not self.index:
            raise BugError
        return Evicted(index=torch.tensor(self.index))


def test_no_hook_is_left_behind_even_after_a_bug(backbone: Qwen2VL) -> None:
    before = hooks(backbone)
    tokens = visual(backbone, frames=4)
    with torch.inference_mode(), pytest.raises(BugError):
        feed(backbone, tokens, Faulty(), [1], [2])
    assert hooks(backbone) == before


@pytest.mark.parametrize("index", [(3, 2), (1, 1), (0, 99), (-1, 2)])
def test_a_wrong_index_is_refused(backbone: Qwen2VL, index: tuple[int, ...]) -> None:
    tokens = visual(backbone, frames=4)
    with torch.inference_mode(), pytest.raises(MethodError, match=r"Faulty\.evict\(\) must return ascending, unique"):
        feed(backbone, tokens, Faulty(index=index), [1], [2])
