"""Qwen3-VL against transformers' stock processor and model: features, deepstack, positions, times, replies."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from evalkit.errors import ConfigError, MethodError
from evalkit.method import Budget, Method, PruneView
from evalkit.model.families.qwen3_vl import Qwen3VL
from evalkit.model.load import load
from evalkit.types import Evicted, LayerChunk, Pruned, VisualTokens
from tests.support.parity import budget_of
from tests.support.visual_tokens import noise

FPS, INDICES = 24.0, [0, 7, 30, 31, 90, 101, 480, 500, 1440, 1446]  # frames of a video, unevenly
ASKED = "Which place is shown?"
ROWS, COLUMNS = 2, 3


@dataclass(frozen=True)
class Stock:
    """What transformers makes of a video prompt."""

    model: Any
    inputs: Any  # of the processor
    pixels: np.ndarray


@pytest.fixture(scope="module")
def family(qwen3: Path) -> Qwen3VL:
    found = load(str(qwen3), device="cpu")
    assert isinstance(found, Qwen3VL)
    return found


@pytest.fixture(scope="module")
def stock(qwen3: Path) -> Stock:
    from transformers import (
        AutoTokenizer,
        AutoVideoProcessor,
        Qwen2VLImageProcessor,
        Qwen3VLForConditionalGeneration,
        Qwen3VLProcessor,
    )
    from transformers.video_utils import VideoMetadata

    model = Qwen3VLForConditionalGeneration.from_pretrained(qwen3, dtype=torch.float32).eval()
    processor = Qwen3VLProcessor(
        image_processor=Qwen2VLImageProcessor(patch_size=16, merge_size=2),
        tokenizer=AutoTokenizer.from_pretrained(qwen3),
        video_processor=AutoVideoProcessor.from_pretrained(qwen3),
    )
    pixels = noise(len(INDICES), 32 * ROWS, 32 * COLUMNS)
    # without the pair of vision tokens that transformers leaves around the whole video since 5.10
    text = f"<|im_start|>user\n<|video_pad|>{ASKED}<|im_end|>\n<|im_start|>assistant\n"
    metadata = VideoMetadata(total_num_frames=2000, fps=FPS, frames_indices=list(INDICES))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        inputs = processor(
            text=[text],
            videos=[torch.from_numpy(pixels).permute(0, 3, 1, 2)],
            video_metadata=[metadata],
            do_sample_frames=False,
            do_resize=False,
            cap_pixels_per_frame=False,
            return_mm_token_type_ids=True,
            return_tensors="pt",
        )
    return Stock(model, inputs, pixels)


@pytest.fixture(scope="module")
def tokens(family: Qwen3VL, stock: Stock) -> VisualTokens:
    """The same video as the engine encodes it."""
    seconds = torch.tensor(INDICES, dtype=torch.float64) / FPS
    with torch.inference_mode():
        features, deepstack = family.encode_with_deepstack(stock.pixels, slice_cells=2)
    dense = VisualTokens.dense(features, seconds[::2].tolist(), (ROWS, COLUMNS), deepstack)
    return replace(dense, mean_seconds=seconds.view(-1, 2).mean(1))


def prefilled(family: Qwen3VL, tokens: VisualTokens, method: Method, chunk_cells: int | None) -> tuple[Any, Tensor]:
    """The state after the whole prompt, and the last hidden state."""
    prefix, suffix = family.prompt(ASKED, video=True)
    state = family.new_state()
    family.prefill_text(state, prefix)
    family.prefill_video(state, tokens, method, budget_of(family.layers, tokens, 1.0), chunk_cells=chunk_cells)
    return state, family.prefill_text(state, suffix)


# ---- pixels to features


def test_patches_equal_the_processors(family: Qwen3VL, stock: Stock) -> None:
    expected = stock.inputs["pixel_values_videos"]
    torch.testing.assert_close(family.vision.patches(stock.pixels), expected, rtol=0, atol=1e-6)
    assert (family.vision.patches(stock.pixels[:, ::-1]) - expected).abs().max() > 0.1
    assert (family.pixels_per_token, family.cell_frames, family.token_grid(64, 96)) == (32, 2, (2, 3))


def test_features_and_deepstack_equal_transformers(family: Qwen3VL, stock: Stock, tokens: VisualTokens) -> None:
    with torch.inference_mode():
        out = stock.model.get_video_features(stock.inputs["pixel_values_videos"], stock.inputs["video_grid_thw"])
        alone = family.encode(stock.pixels, slice_cells=5)
    assert tokens.deepstack is not None
    torch.testing.assert_close(tokens.features, torch.cat(out.pooler_output), rtol=0, atol=1e-5)
    torch.testing.assert_close(alone, tokens.features, rtol=0, atol=1e-5)
    # from 5.24 on a level's features come split into videos
    levels = [level if isinstance(level, torch.Tensor) else torch.cat(level) for level in out.deepstack_features]
    expected = torch.stack(levels, 1)
    torch.testing.assert_close(tokens.deepstack, expected, rtol=0, atol=1e-5)
    # negative control: levels differ from each other, and from the features
    assert (tokens.deepstack - expected.flip(1)).abs().amax((0, 2))[0] > 0.1
    assert (tokens.deepstack - tokens.features[:, None]).abs().amax() > 0.1


# ---- the prompt, and what the LLM makes of it


def test_prompt_and_positions_equal_transformers(family: Qwen3VL, stock: Stock, tokens: VisualTokens) -> None:
    """Words, times, vision tokens and placeholders; and the ids of all of them, in every layer."""
    ids, rows = stock.inputs["input_ids"], stock.inputs["mm_token_type_ids"]
    expected, _ = stock.model.model.get_rope_index(ids, rows, video_grid_thw=stock.inputs["video_grid_thw"])
    with torch.inference_mode():
        state, _ = prefilled(family, tokens, Method(), 2)
    assert state.read.tolist() == ids[0].tolist()
    for layer in state.positions:
        assert torch.equal(layer, expected[:, 0])
    assert "<0.1 seconds><|vision_start|>" in family.tokenizer.decode(ids[0])  # 7 / 48 s
    # negative control: without the mean of the cell's frames the words are others
    with torch.inference_mode():
        wrong, _ = prefilled(family, replace(tokens, mean_seconds=None), Method(), 2)
    assert wrong.read.tolist() != ids[0].tolist()


def test_positions_by_hand(family: Qwen3VL, tokens: VisualTokens) -> None:
    """Two cells of 2 × 3 tokens with one word before and one behind each."""
    two = tokens.keep(torch.arange(12))
    bare = family.separators(two)
    first = torch.tensor([0, 0, 1, 1])
    separators = replace(
        bare,
        embeds=bare.embeds[:4],
        anchor=first * 6 + torch.tensor([0, 5, 0, 5]),
        behind=torch.tensor([False, True] * 2),
        with_row=torch.zeros(4, dtype=torch.bool),
        ids=torch.arange(4),
    )
    found = family.positions.video_ids(7, two, separators)
    row, column = [0, 0, 0, 1, 1, 1], [0, 1, 2] * 2
    assert found[0].tolist() == [7, *[8] * 6, 11, 12, *[13] * 6, 16]
    assert found[1].tolist() == [7, *[8 + r for r in row], 11, 12, *[13 + r for r in row], 16]
    assert found[2].tolist() == [7, *[8 + c for c in column], 11, 12, *[13 + c for c in column], 16]
    assert family.positions.ids_after(two, separators) == 10
    # a cell that lost tokens takes as many ids; a slot without any takes none
    some = two.keep(torch.tensor([1, 6, 11]))
    assert family.positions.video_ids(7, some).tolist() == [[7, 10, 10], [7, 10, 11], [8, 10, 12]]
    assert family.positions.ids_after(two.keep(torch.tensor([6, 7]))) == 3


@pytest.mark.parametrize("chunk_cells", [1, 2, None])
def test_equals_one_forward_of_transformers(
    family: Qwen3VL, stock: Stock, tokens: VisualTokens, chunk_cells: int | None
) -> None:
    with torch.inference_mode():
        expected = stock.model(**stock.inputs).logits[0, -1]
        state, hidden = prefilled(family, tokens, Method(), chunk_cells)
        torch.testing.assert_close(family.logits(hidden), expected, rtol=0, atol=1e-4)
        replied = family.generate(state, family.next_token(state, hidden), 6)
        stock.model.model.rope_deltas = None
        theirs = stock.model.generate(**stock.inputs, max_new_tokens=6, do_sample=False, eos_token_id=-1)
        assert replied == theirs[0, stock.inputs["input_ids"].shape[1] :].tolist()[: len(replied)]
        assert replied
        # negative controls: without deepstack, and with its levels in another order
        for other in (None, tokens.deepstack.flip(1) if tokens.deepstack is not None else None):
            _, wrong = prefilled(family, replace(tokens, deepstack=other), Method(), chunk_cells)
            assert (family.logits(wrong) - expected).abs().max() > 1e-2


# ---- the verbs


@dataclass(frozen=True, kw_only=True)
class PruneEarly(Method):
    """Before layers 1 and 2, amid the deepstack levels, every other token goes, then the first third."""

    def prune(self, layer: int, layers: int, tokens: VisualTokens, budget: Budget, view: PruneView) -> Pruned | None:
        places = torch.arange(len(tokens))
        index = {1: places[1::2], 2: places[len(places) // 3 :]}.get(layer)
        return None if index is None else Pruned(index=index)


def alive(layer: int, count: int, step: int) -> Tensor:
    """(count,) True where PruneEarly has left a token at this layer."""
    found = torch.zeros(count, dtype=torch.bool)
    for start in range(0, count, step):
        index = torch.arange(start, min(start + step, count))
        if layer >= 1:
            index = index[1::2]
        if layer >= 2:
            index = index[len(index) // 3 :]
        found[index] = True
    return found


def masked_forward(stock: Stock, tokens: VisualTokens, step: int, shift: int = 0) -> Tensor:
    """Last logits of one stock forward in which layer l hides the keys of the tokens that are gone there."""
    ids = stock.inputs["input_ids"]
    visual = ids == stock.model.config.video_token_id
    size, where = ids.shape[1], visual[0].nonzero()[:, 0]

    def mask(layer: int) -> Tensor:
        gone = torch.zeros(size, dtype=torch.bool)
        gone[where] = ~alive(layer + shift, len(where), step)
        seen = torch.ones(size, size).tril().bool() & (~gone[None] | torch.eye(size, dtype=torch.bool))
        return torch.zeros(size, size).masked_fill(~seen, -torch.inf)[None, None]

    handles = [
        layer.register_forward_pre_hook(
            lambda _, args, kwargs, i=i: (args, {**kwargs, "attention_mask": mask(i)}), with_kwargs=True
        )
        for i, layer in enumerate(stock.model.model.language_model.layers)
    ]
    try:
        return stock.model(**stock.inputs).logits[0, -1]
    finally:
        for handle in handles:
            handle.remove()


@pytest.mark.parametrize("chunk_cells", [2, None])
def test_deepstack_goes_to_the_tokens_that_are_left(
    family: Qwen3VL, stock: Stock, tokens: VisualTokens, chunk_cells: int | None
) -> None:
    step = len(tokens) if chunk_cells is None else chunk_cells * ROWS * COLUMNS
    with torch.inference_mode():
        _, hidden = prefilled(family, tokens, PruneEarly(), chunk_cells)
        found, expected = family.logits(hidden), masked_forward(stock, tokens, step)
        wrong = masked_forward(stock, tokens, step, shift=1)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
    assert (found - wrong).abs().max() > 1e-3


@dataclass(frozen=True, kw_only=True)
class Watching(Method):
    """Keeps everything, and gives the kept tokens the ids that they have: their keys are rotated anew."""

    def evict(self, chunk: LayerChunk) -> Evicted | None:
        index = torch.arange(chunk.keys.shape[1])
        return Evicted(index=index, positions=chunk.positions)


def test_keys_before_rotation_are_the_normalised_ones(family: Qwen3VL, tokens: VisualTokens) -> None:
    """Rotated at their ids they are the cache's; what leaves the projection is not."""
    seen: dict[int, list[Tensor]] = {}

    def observe(layer: int, queries: Tensor, keys: Tensor, visual: VisualTokens | None) -> None:
        seen.setdefault(layer, []).append(keys)
        assert queries.shape[0] == 4

    with torch.inference_mode():
        state = family.new_state()
        family.prefill_text(state, [1, 2, 3], observe=observe)
        for layer, cached in enumerate(state.layers):
            (keys,) = seen[layer]
            torch.testing.assert_close(
                family.positions.rotate(keys, state.positions[layer]), cached.keys[0], rtol=0, atol=1e-5
            )
            norm = family.text.layers[layer].self_attn.k_norm
            assert (norm(keys.transpose(0, 1)) - keys.transpose(0, 1)).abs().max() > 1e-2
        plain, _ = prefilled(family, tokens, Method(), 2)
        again, _ = prefilled(family, tokens, Watching(), 2)
    for one, other in zip(plain.layers, again.layers, strict=True):
        torch.testing.assert_close(one.keys, other.keys, rtol=0, atol=1e-5)


def test_tokens_and_deepstack_stay_together(tokens: VisualTokens) -> None:
    assert tokens.deepstack is not None
    kept = tokens.keep(torch.tensor([1, 4]))
    assert kept.deepstack is not None
    assert torch.equal(kept.deepstack, tokens.deepstack[[1, 4]])
    with pytest.raises(MethodError, match=r"expected deepstack features of 2 visual tokens.*VisualTokens\.keep"):
        replace(tokens, features=tokens.features[:2])


def test_times_are_those_of_the_cells_that_are_shown(tokens: VisualTokens) -> None:
    means = tokens.mean_seconds
    assert means is not None
    assert torch.equal(tokens.shown_seconds, means)
    # the second and the last cell in the first two slots
    packed = replace(tokens.keep(torch.tensor([6, 7, 24])), slot=torch.tensor([0, 0, 1]), span=2)
    assert packed.shown_seconds[:2].tolist() == means[[1, 4]].tolist()
    mixed = replace(packed, slot=torch.tensor([0, 0, 0]))
    assert float(mixed.shown_seconds[0]) == pytest.approx(float(2 * means[1] + means[4]) / 3)
    # repeated or reordered frames are shown at their slots' times
    moved = replace(packed, slot_seconds=torch.arange(5.0).double(), mean_seconds=torch.arange(5.0).double() + 0.5)
    assert moved.shown_seconds.tolist() == [0.5, 1.5, 2.5, 3.5, 4.5]


# ---- loading


@pytest.mark.parametrize("name", ["qwen3_5", "qwen3_5_moe", "qwen3_5_text"])
def test_qwen3_5_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(f'{{"model_type": "{name}"}}')
    with pytest.raises(ConfigError, match=f"got model_type '{name}': only every fourth of its layers has a KV cache"):
        load(str(tmp_path))
