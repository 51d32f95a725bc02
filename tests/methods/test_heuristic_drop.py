"""VideoChat-Flash's training-free drop, against its trace and against a plain form on transformers' own layers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import Qwen2ForCausalLM

from evalkit.errors import MethodError
from evalkit.method import Budget, no_question
from evalkit.model.families.qwen2 import Qwen2
from evalkit.model.question_attention import QuestionAttention
from evalkit.types import VisualTokens
from methods.heuristic_drop import SCHEDULES, HeuristicDrop
from tests.support import parity_videochat_flash, parity_xcomp
from tests.support.closeness import RTOL, apart
from tests.support.small_qwen2 import HEAD, TAIL, frames, limits

NAME = "released_default_24_0.5_attention"
AS_RELEASED: dict[str, Any] = {"frame_ratio": 1.0}


def scaled(method: HeuristicDrop, layers: int, tokens: int) -> list[tuple[int, int]]:
    """(layer, tokens kept), written down for six layers: 24, 4, 18, 8, 16 of 28."""
    assert layers == 6
    after = {"released": (5,), "model_card": (1, 4), "pyramid": (2, 3, 5)}[method.schedule]
    shares = {"released": (0.5,), "model_card": (0.75, 0.25), "pyramid": (0.5, 0.25, 0.125)}[method.schedule]
    return [(layer, int(tokens * share)) for layer, share in zip(after, shares, strict=True)]


def eager(stock: Qwen2ForCausalLM, layer: int, states: Tensor) -> tuple[Tensor, Tensor]:
    """States (S, D) -> those after a layer, and the last token's attention (S,) in it, averaged over heads."""
    module, size = stock.model.layers[layer], len(states)
    ids = torch.arange(size)[None]
    mask = torch.full((size, size), -torch.inf).triu(1)[None, None]
    embeddings = stock.model.rotary_emb(states[None], ids)
    seen, weights = module.self_attn(module.input_layernorm(states[None]), embeddings, mask)
    states = states + seen[0]
    return states + module.mlp(module.post_attention_layernorm(states)), weights[0, :, -1].mean(0)


@torch.inference_mode()
def plainly(
    stock: Qwen2ForCausalLM, video: VisualTokens, method: HeuristicDrop, tail: list[int]
) -> tuple[Tensor, list[list[int]]]:
    """Logits after the whole prompt at once, dropping on the way, and the tokens that each layer sees."""
    embed, left = stock.model.embed_tokens, list(range(len(video)))
    states = torch.cat([embed(torch.tensor(HEAD)), video.features, embed(torch.tensor(tail))])
    drops, seen = scaled(method, 6, len(video)), []
    for layer in range(6):
        for stage, (at, count) in enumerate(drops):
            if at != layer:
                continue
            if method.choice == "uniform" or (method.choice == "uniform0_attention" and stage == 0):
                kept = torch.linspace(0, len(left) - 1, count, dtype=torch.long)
            else:
                looked = eager(stock, layer, states)[1][len(HEAD) : len(HEAD) + len(left)]
                kept = looked.topk(count).indices.sort().values
            inside = states[len(HEAD) : len(HEAD) + len(left)][kept]
            states = torch.cat([states[: len(HEAD)], inside, states[len(HEAD) + len(left) :]])
            left = [left[i] for i in kept.tolist()]
        seen.append(left)
        states = eager(stock, layer, states)[0]
    return stock.lm_head(stock.model.norm(states))[-1], seen


@torch.inference_mode()
def engine_way(
    qwen2: Qwen2, video: VisualTokens, method: HeuristicDrop, tail: list[int], chunk_cells: int | None
) -> tuple[Tensor, list[list[int]], tuple[int, ...]]:
    """Logits through the engine's calls, the tokens that each layer sees, and the length of its cache."""
    budget = limits(video, qwen2.layers)
    asking = QuestionAttention(qwen2, video, method, budget, chunk_cells=chunk_cells)
    asking.set_question(HEAD, tail, len(tail))
    chosen = method.select(video, budget, asking)
    state = qwen2.new_state()
    qwen2.prefill_text(state, HEAD)
    qwen2.prefill_video(state, chosen, method, budget, chunk_cells=chunk_cells, suffix_ids=tail)
    logits = qwen2.logits(qwen2.prefill_text(state, tail))
    assert [p.tolist() for p in state.positions] == [[list(range(n))] for n in state.lengths]
    until = torch.full((len(video),), qwen2.layers) if chosen.until is None else chosen.until
    return logits, [(until > layer).nonzero()[:, 0].tolist() for layer in range(qwen2.layers)], state.lengths


@pytest.mark.parametrize("chunk_cells", [1, 2, None])
@pytest.mark.parametrize(
    ("schedule", "choice"),
    [
        ("released", "attention"),
        ("model_card", "attention"),
        ("model_card", "uniform0_attention"),
        ("pyramid", "attention"),
        ("pyramid", "uniform"),
    ],
)
def test_it_equals_its_plain_form(
    stock: Qwen2ForCausalLM, qwen2: Qwen2, schedule: Any, choice: Any, chunk_cells: int | None
) -> None:
    """In chunks, too, of which some lose all their tokens."""
    method, video = HeuristicDrop(schedule=schedule, choice=choice, **AS_RELEASED), frames(6)
    expected, seen = plainly(stock, video, method, TAIL)
    logits, mine, lengths = engine_way(qwen2, video, method, TAIL, chunk_cells)
    assert mine == seen
    assert lengths == tuple(len(HEAD) + len(TAIL) + len(layer) for layer in seen)
    assert apart(logits, expected) < RTOL
    if schedule == "pyramid" and choice == "attention":
        left = {token // 4 for token in seen[-1]}
        assert len(left) < 6  # a chunk of one cell has lost all its tokens


def test_mistakes_are_seen(stock: Qwen2ForCausalLM, qwen2: Qwen2) -> None:
    """Negative controls: another question, even spacing, the first tokens."""
    method, video = HeuristicDrop(schedule="model_card", **AS_RELEASED), frames(6)
    expected, seen = plainly(stock, video, method, TAIL)
    other = engine_way(qwen2, video, method, [*TAIL[:-1], 40], None)
    assert other[1] != seen
    even = engine_way(qwen2, video, replace(method, choice="uniform"), TAIL, None)
    assert even[1] != seen
    assert apart(even[0], expected) > 100 * RTOL


def test_what_it_asks_for_counts(qwen2: Qwen2) -> None:
    """One pass up to the layer of each drop by attention, shared by questions where it does not depend on them."""
    video, budget = frames(6), limits(frames(6), 6)
    method = HeuristicDrop(schedule="model_card", **AS_RELEASED)
    asking = QuestionAttention(qwen2, video, method, budget, chunk_cells=2)
    asking.set_question(HEAD, TAIL, len(TAIL))
    with torch.inference_mode():
        method.select(video, budget, asking)
        assert asking.fed == 2 * (len(HEAD) + len(video) + len(TAIL))
        first = asking.op_counts
        asking.set_question(HEAD, TAIL, len(TAIL))
        method.select(video, budget, asking)
    assert asking.op_counts == first
    assert len(asking._shared.passes) == 2


@pytest.mark.parametrize("ratio", [1.0, 0.9, 0.5, 0.25])
@pytest.mark.parametrize("schedule", list(SCHEDULES))
def test_the_ratio_is_spent(schedule: Any, ratio: float) -> None:
    method = HeuristicDrop(schedule=schedule, choice="uniform")
    budget = replace(Budget.encoded(64, (1, 16), ratio=ratio, layers=28, cell_frames=1), clip_frames=4)
    cells = method.cells(budget)
    assert cells % 4 == 0
    tokens = VisualTokens.dense(torch.zeros(cells * 16, 1), seconds=range(cells), grid=(1, 16))
    until = method.select(tokens, budget, no_question).until
    total = cells * 16 * 28 if until is None else int(until.sum())
    assert total / (budget.dense_tokens * 28) == pytest.approx(ratio, rel=0.02)
    if ratio == 1:
        assert until is None


def test_by_hand() -> None:
    """28 layers, 100 tokens: as released, half of them after layer 24; and the model card's."""
    budget = Budget.encoded(25, (2, 2), ratio=1.0, layers=28, cell_frames=1)
    assert HeuristicDrop(**AS_RELEASED).drops(budget, 100) == [(24, 50)]
    assert HeuristicDrop(schedule="model_card", **AS_RELEASED).drops(budget, 100) == [(4, 75), (18, 25)]
    assert not HeuristicDrop(choice="uniform").query_aware
    assert not HeuristicDrop(choice="uniform0_attention").query_aware
    assert HeuristicDrop(schedule="model_card", choice="uniform0_attention").query_aware
    with pytest.raises(MethodError, match=r"released\|model_card\|pyramid"):
        HeuristicDrop(schedule="other")  # type: ignore[arg-type]


# ---- the trace


@pytest.fixture(scope="module")
def folder(whole_golden: Path) -> Path:
    if not (whole_golden / "videochat_flash" / "heuristic_drop").is_dir():
        pytest.skip(f"no traces of the drop at {whole_golden}")
    return whole_golden


@pytest.mark.slow
@pytest.mark.parametrize("chunk_cells", [5, None])
def test_the_trace_of_the_released_code(folder: Path, chunk_cells: int | None) -> None:
    traces = folder / "videochat_flash" / "heuristic_drop"
    case = parity_videochat_flash.settings(traces)[NAME]
    trace = load_file(traces / f"{NAME}.safetensors")
    backbone = parity_xcomp.backbone_of(folder / "xcomp")
    found = parity_videochat_flash.dropped(backbone, folder / "xcomp", trace, case, chunk_cells)
    assert found.within(RTOL), str(found)
    assert {"lengths", "layer_in.24", "logits"} <= set(found.found)
    even = parity_videochat_flash.dropped(backbone, folder / "xcomp", trace, {**case, "type": "uniform"}, chunk_cells)
    assert even.found["lengths"]
    assert not even.within(RTOL)
