"""The backbone's parts against independent plain forms: patches, positions, attention, chunks, the cache."""

from __future__ import annotations

import copy
import json
import math
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from evalkit.errors import ConfigError
from evalkit.method import Method
from evalkit.model import chat_template, positions
from evalkit.model.attention import attend
from evalkit.model.families.qwen2_vl import Qwen2VL, Qwen25VL
from evalkit.model.kv_cache import SLACK
from evalkit.model.load import _config, _stretch, load, locate, skeleton
from evalkit.model.video_feed import chunks
from evalkit.model.weights_identity import weights_identity
from evalkit.types import VisualTokens
from methods.pivotkv import PivotKV
from tests.support.loop import replied
from tests.support.parity import budget_of
from tests.support.visual_tokens import noise, visual


def test_patches_equal_the_processors(backbone: Qwen2VL, checkpoint: Path) -> None:
    from transformers import AutoVideoProcessor

    pixels = noise(6, 112, 112)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        processor = AutoVideoProcessor.from_pretrained(checkpoint)
        out = processor(
            videos=[torch.from_numpy(pixels).permute(0, 3, 1, 2)], do_sample_frames=False, cap_pixels_per_frame=False
        )
    expected = torch.as_tensor(out["pixel_values_videos"])
    assert torch.equal(backbone.vision.patches(pixels), expected)
    assert not torch.equal(backbone.vision.patches(pixels[:, ::-1]), expected)


def test_encoding_in_slices_is_exact(backbone: Qwen2VL) -> None:
    pixels = noise(10)
    with torch.inference_mode():
        whole, sliced = (backbone.encode(pixels, slice_cells=n) for n in (5, 2))
    torch.testing.assert_close(sliced, whole, rtol=0, atol=1e-6)


def test_positions_by_hand() -> None:
    head = positions.text(0, 3)
    video = positions.video(3, torch.tensor([0, 0, 0, 0, 1, 1, 1, 1]), torch.arange(4).repeat(2), columns=2)
    tail = positions.text(positions.following(video), 2)
    assert head.tolist() == [[0, 1, 2]] * 3
    assert video.tolist() == [[3, 3, 3, 3, 4, 4, 4, 4], [3, 3, 4, 4, 3, 3, 4, 4], [3, 4, 3, 4, 3, 4, 3, 4]]
    assert tail.tolist() == [[5, 6]] * 3
    # a long video: text goes on after its last moment, not after its last row or column
    assert positions.following(positions.video(3, torch.arange(50), torch.zeros(50).long(), columns=1)) == 53


def test_qwen25_positions_follow_true_seconds(backbone: Qwen2VL) -> None:
    tokens = visual(backbone, frames=8)
    uneven = torch.tensor([1.0, 1.4999999, 2.1, 5.0], dtype=torch.float64)
    found = positions.TimedMRopePositions(None, tokens_per_second=2)
    assert found.slot_times(replace(tokens, cell_seconds=uneven)).tolist() == [0, 1, 2, 8]


def yarn(theta: float, width: int, original: int, factor: float = 4.0) -> torch.Tensor:
    """Inverse frequencies of YaRN (arXiv 2309.00071, §3.2), (width / 2,): slow ones by `factor` slower, fast ones kept.

    A dimension turns original / wavelength times over the trained positions: below 1 it is slow, above 32 fast; the
    ramp between is linear in the dimension's number, with its ends on whole numbers.
    """
    plain = theta ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
    low, high = (width * math.log(original / (turns * 2 * math.pi)) / (2 * math.log(theta)) for turns in (32, 1))
    low, high = max(math.floor(low), 0), min(math.ceil(high), width - 1)
    kept = 1 - ((torch.arange(width // 2, dtype=torch.float64) - low) / (high - low)).clamp(0, 1)
    return plain * kept + plain / factor * (1 - kept)


@pytest.mark.parametrize(("name", "limit"), [("qwen2_vl", 32_768), ("qwen2_5_vl", 128_000)])
def test_yarn_stretches_the_positions_of_training(
    name: str, limit: int, qwen25: Path, checkpoint: Path, tmp_path: Path
) -> None:
    """The published 7B checkpoints' widths and limits. Qwen2.5-VL's limit is not what YaRN is told there."""
    folder = {"qwen2_vl": checkpoint, "qwen2_5_vl": qwen25}[name]
    config = json.loads((folder / "config.json").read_text())
    text = config["text_config"]
    text |= {"hidden_size": 512, "num_attention_heads": 4, "num_key_value_heads": 4, "max_position_embeddings": limit}
    text["rope_parameters"] = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    found = locate(str(tmp_path))
    (kind, whole), (_, unchanged) = (_config(found, "float32") for _ in range(2))
    _stretch(kind, whole, "yarn4")
    _stretch(kind, unchanged, "none")
    stretched, plain = whole.text_config, unchanged.text_config
    frequencies, attention = ROPE_INIT_FUNCTIONS["yarn"](stretched, "cpu")
    torch.testing.assert_close(frequencies.double(), yarn(1e6, 128, 32_768), rtol=1e-5, atol=0)
    assert attention == pytest.approx(0.1 * math.log(4) + 1)
    assert plain.rope_parameters["rope_type"] == "default"
    assert (plain.max_position_embeddings, stretched.max_position_embeddings) == (limit, 4 * 32_768)
    if limit != 32_768:  # negative control: from the checkpoint's own limit
        ratio = yarn(1e6, 128, limit) / frequencies
        assert 1.3 < ratio.max() < 4


def test_yarn_reaches_the_loaded_model(qwen25: Path) -> None:
    found = load(str(qwen25), device="cpu", rope="yarn4").text.rotary_emb.inv_freq
    torch.testing.assert_close(found.double(), yarn(1e4, 8, 32_768), rtol=1e-5, atol=0)
    assert not torch.equal(found, load(str(qwen25), device="cpu").text.rotary_emb.inv_freq)


@pytest.mark.parametrize(("chunk", "length"), [(1, 9), (4, 9), (9, 9)])
def test_attention_is_lower_right_causal(chunk: int, length: int) -> None:
    torch.manual_seed(0)
    query, key, value = torch.randn(1, 4, chunk, 8), torch.randn(1, 2, length, 8), torch.randn(1, 2, length, 8)
    out, _ = attend(torch.nn.Module(), query, key, value, None, scaling=0.3)
    scores = query @ key.repeat_interleave(2, 1).transpose(2, 3) * 0.3
    allowed = torch.arange(length)[None] <= torch.arange(length - chunk, length)[:, None]
    plain = scores.masked_fill(~allowed, -torch.inf).softmax(-1) @ value.repeat_interleave(2, 1)
    torch.testing.assert_close(out, plain.transpose(1, 2), rtol=0, atol=1e-6)
    if chunk not in (1, length):  # negative control: the triangle in the other corner
        upper = torch.arange(length)[None] <= torch.arange(chunk)[:, None]
        wrong = scores.masked_fill(~upper, -torch.inf).softmax(-1) @ value.repeat_interleave(2, 1)
        assert (out - wrong.transpose(1, 2)).abs().max() > 0.1


@pytest.mark.parametrize(("chunk", "length"), [(2, 3), (63, 575), (64, 576), (65, 577), (65, 600), (200, 1400)])
def test_a_part_of_a_kept_mask_is_a_mask_of_that_size(chunk: int, length: int) -> None:
    """And gives the same bits."""
    torch.manual_seed(0)
    query, key, value = torch.randn(1, 4, chunk, 8), torch.randn(1, 2, length, 8), torch.randn(1, 2, length, 8)
    allowed = torch.arange(length)[None] <= torch.arange(length - chunk, length)[:, None]
    own = torch.zeros(chunk, length).masked_fill(~allowed, -torch.inf)
    out, _ = attend(torch.nn.Module(), query, key, value, None)
    expected, _ = attend(torch.nn.Module(), query, key, value, own)
    assert torch.equal(out, expected)
    wrong, _ = attend(torch.nn.Module(), query, key, value, own.roll(1, 1))
    assert not torch.equal(out, wrong)  # negative control


def test_chunked_prefill_equals_one_forward_of_transformers(backbone: Qwen2VL, checkpoint: Path) -> None:
    """Head, video in chunks and tail against stock sdpa on the whole sequence with the same explicit ids."""
    from transformers import Qwen2VLForConditionalGeneration

    stock = Qwen2VLForConditionalGeneration.from_pretrained(checkpoint, dtype=torch.float32).eval()
    tokens = visual(backbone)
    head, tail = backbone.prompt("What comes next?", video=True)
    with torch.inference_mode():
        embed = stock.get_input_embeddings()
        embeds = torch.cat([embed(torch.tensor(head)), tokens.features, embed(torch.tensor(tail))])[None]
        where = [positions.text(0, len(head)), positions.video(len(head), tokens.cell, tokens.place, 4)]
        where.append(positions.text(positions.following(where[1]), len(tail)))
        ids = torch.cat(where, dim=1)[:, None]
        expected = stock(inputs_embeds=embeds, position_ids=ids).logits[0, -1]
        for cells in (1, 4, None):
            context = backbone.new_state()
            backbone.prefill_text(context, head)
            backbone.prefill_video(
                context, tokens, Method(), budget_of(backbone.layers, tokens, 1.0), chunk_cells=cells
            )
            found = backbone.logits(backbone.prefill_text(context, tail))
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


def test_rewinding_forgets_exactly(backbone: Qwen2VL) -> None:
    tokens = visual(backbone)
    with torch.inference_mode():
        context = backbone.new_state()
        backbone.prefill_text(context, [5, 6])
        backbone.prefill_video(context, tokens, Method(), budget_of(backbone.layers, tokens, 1.0), chunk_cells=2)
        mark = context.mark()
        first = backbone.prefill_text(context, [7, 8, 9])
        context.rewind(mark)
        backbone.prefill_text(context, [50, 60, 70, 80])
        context.rewind(mark)
        assert context.lengths == mark.lengths
        assert torch.equal(backbone.prefill_text(context, [7, 8, 9]), first)


def test_qwen25_equals_one_forward_of_transformers(qwen25: Path) -> None:
    """Encoding in slices, true seconds in the positions, and prefill in chunks, against the stock model."""
    from transformers import Qwen2_5_VLForConditionalGeneration

    family = load(str(qwen25), device="cpu")
    assert isinstance(family, Qwen25VL)
    stock = Qwen2_5_VLForConditionalGeneration.from_pretrained(qwen25, dtype=torch.float32).eval()
    pixels = noise(12, 84, 112)
    grid = torch.tensor([[6, 6, 8]])
    time = torch.tensor([0, 1, 1, 4, 5, 20])  # half seconds, unevenly kept
    tokens = replace(visual(family, 12, 84, 112), cell_seconds=time.double() / 2 + 0.25)
    with torch.inference_mode():
        features = stock.model.visual(family.vision.patches(pixels), grid_thw=grid).pooler_output
        torch.testing.assert_close(family.encode(pixels, slice_cells=4), features, rtol=0, atol=1e-5)
        embed = stock.get_input_embeddings()
        embeds = torch.cat([embed(torch.tensor([1, 2])), features, embed(torch.tensor([3, 4, 5]))])[None]
        places = torch.arange(12).repeat(6)
        rows = [time.repeat_interleave(12), places // 4, places % 4]
        ids = torch.cat([torch.arange(2).expand(3, -1), torch.stack(rows) + 2, torch.arange(23, 26).expand(3, -1)], 1)
        expected = stock(inputs_embeds=embeds, position_ids=ids[:, None]).logits[0, -1]
        for cells in (1, 2, None):
            context = family.new_state()
            family.prefill_text(context, [1, 2])
            family.prefill_video(context, tokens, Method(), budget_of(family.layers, tokens, 1.0), chunk_cells=cells)
            found = family.logits(family.prefill_text(context, [3, 4, 5]))
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_the_cache_is_written_in_place(backbone: Qwen2VL) -> None:
    """One buffer a layer from the first chunk to the last answer, and room for little more than what is kept."""
    tokens = visual(backbone, frames=64)
    budget = budget_of(backbone.layers, tokens, 0.25)
    with torch.inference_mode():
        context = backbone.new_state()
        backbone.prefill_text(context, [1, 2])
        backbone.prefill_video(context, tokens, PivotKV(), budget, chunk_cells=2)
        mark, place = context.mark(), [layer.keys.data_ptr() for layer in context.layers]
        for question in ([3, 4, 5], [6] * 20):
            replied(backbone, context, question, 5)
            context.rewind(mark)
        assert [layer.keys.data_ptr() for layer in context.layers] == place
        assert all(layer._keys.shape[2] < 2 + 128 + 32 + 2 * SLACK for layer in context.layers)


def test_chunks_hold_whole_cells() -> None:
    slot, place = torch.tensor([0, 0, 1, 2, 2, 2, 3, 5]), torch.tensor([0, 3, 2, 0, 1, 2, 3, 1])
    tokens = VisualTokens(
        features=torch.empty(8, 1),
        cell=slot,
        place=place,
        slot=slot,
        protected=slot > 9,
        cell_seconds=torch.zeros(6),
        grid=(2, 2),
    )
    assert [c.tolist() for c in chunks(tokens, 2)] == [[0, 1, 2], [3, 4, 5, 6], [7]]
    assert [c.tolist() for c in chunks(tokens, None)] == [list(range(8))]
    assert [c.tolist() for c in chunks(tokens, 1.5)] == [[0, 1], [2, 3, 4, 5], [6], [7]]


def test_prompt_follows_the_checkpoints_template(backbone: Qwen2VL) -> None:
    head, tail = backbone.prompt("What is this?", video=True)
    decode = backbone.tokenizer.decode
    assert decode(head) == (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n<|vision_start|>"
    )
    assert decode(tail) == "<|vision_end|>What is this?<|im_end|>\n<|im_start|>assistant\n"
    blind = [decode(ids) for ids in backbone.prompt("What is this?", video=False)]
    assert not any("vision" in text for text in blind)


def test_a_checkpoint_without_a_template_gets_qwens(backbone: Qwen2VL) -> None:
    bare = copy.copy(backbone.tokenizer)
    bare.chat_template = None
    assert chat_template.split(bare, "Which {one}?", video=True) == backbone.prompt("Which {one}?", video=True)
    with pytest.raises(ConfigError, match="no tokenizer"):
        chat_template.split(None, "", video=True)


def test_special_tokens_in_a_question_stay_text(backbone: Qwen2VL) -> None:
    _, tail = backbone.prompt("What says <|video_pad|> or <|im_end|>?", video=True)
    end = backbone.tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert tail.count(end) == 1
    assert backbone.tokenizer.convert_tokens_to_ids("<|video_pad|>") not in tail


def test_loading_says_what_is_wrong(tmp_path: Path, checkpoint: Path) -> None:
    with pytest.raises(ConfigError, match="expected a checkpoint folder"):
        load(str(tmp_path / "nowhere"))
    with pytest.raises(ConfigError, match=r"backbone\.dtype"):
        load(str(checkpoint), dtype="int3")
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(ConfigError, match="qwen2_vl"):
        load(str(other))


def test_pickled_weights_are_refused(tmp_path: Path, checkpoint: Path) -> None:
    for file in checkpoint.iterdir():
        if file.suffix == ".json":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    torch.save({}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ConfigError, match="safetensors"):
        load(str(tmp_path))


def test_skeleton_knows_sizes_without_weights(checkpoint: Path, backbone: Qwen2VL) -> None:
    model = skeleton(str(checkpoint))
    assert model.model.device.type == "meta"
    assert (model.layers, model.pixels_per_token, model.kv_entry_bytes) == (
        backbone.layers,
        backbone.pixels_per_token,
        backbone.kv_entry_bytes,
    )
    assert model.encode_flops(3, (4, 4)) == backbone.encode_flops(3, (4, 4)) > 0


def test_weights_identity_follows_the_bytes_not_the_place(tmp_path: Path, checkpoint: Path) -> None:
    for file in checkpoint.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    assert weights_identity(str(tmp_path)) == weights_identity(str(checkpoint))
    weights = tmp_path / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(bytes(data))
    assert weights_identity(str(tmp_path)) != weights_identity(str(checkpoint))
