"""LLaVA-OneVision against transformers' own forward, LLaVA-Video against a prompt laid out by hand."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import LlavaOnevisionForConditionalGeneration, Qwen2ForCausalLM

from evalkit.errors import ConfigError, ModelError
from evalkit.method import Budget, Method, OperatingPoint
from evalkit.model.families.llava import Llava
from evalkit.model.families.llava_onevision import LlavaOnevision
from evalkit.model.families.llava_video import LlavaVideo
from evalkit.model.load import check, load, skeleton
from evalkit.testing.loop import scores
from evalkit.tune import forward
from evalkit.types import VisualTokens
from methods.lpcomp import LPComp
from methods.pivotkv import PivotKV
from tests.support import clips
from tests.support.flop_counter import counted
from tests.support.llava import (
    PIXELS,
    native_config,
    published_name,
    random_onevision,
    random_video,
    video_settings,
    write,
)
from tests.support.loop import DENSE, answer, engine, exact_key, question
from tests.support.methods import BEFORE_LLM, NAMES, built
from tests.support.visual_tokens import noise

HEAD, TAIL = [5, 6, 7], [8, 9, 10, 11]
FRAMES = 5
CLIP = 64  # frames of the clip that every method is asked about


@pytest.fixture(scope="module")
def onevision_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("onevision") / "tiny", random_onevision())


@pytest.fixture(scope="module")
def video_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("llava_video") / "tiny", random_video(), video_settings())


@pytest.fixture(scope="module")
def onevision(onevision_folder: Path) -> LlavaOnevision:
    found = load(str(onevision_folder), device="cpu")
    assert isinstance(found, LlavaOnevision)
    return found


@pytest.fixture(scope="module")
def llava_video(video_folder: Path) -> LlavaVideo:
    found = load(str(video_folder), device="cpu")
    assert isinstance(found, LlavaVideo)
    return found


@pytest.fixture(params=["onevision", "llava_video"])
def model(request: pytest.FixtureRequest) -> Llava:
    found: Llava = request.getfixturevalue(request.param)
    return found


def pixels() -> np.ndarray:
    return noise(FRAMES, PIXELS, PIXELS)


def normalised() -> Tensor:
    """What the processor makes of the same frames: in [0, 1], minus 0.5, over 0.5."""
    return ((torch.from_numpy(pixels()).float() / 255 - 0.5) / 0.5).permute(0, 3, 1, 2)


def tokens(model: Llava) -> VisualTokens:
    with torch.inference_mode():
        features = model.encode(pixels(), slice_cells=2)
    return VisualTokens.dense(features, seconds=range(FRAMES), grid=model.token_grid(PIXELS, PIXELS))


def limits(model: Llava, video: VisualTokens, ratio: float = 1.0) -> Budget:
    cells = len(video.cell_seconds)
    return Budget.encoded(cells, video.grid, ratio=ratio, layers=model.layers, cell_frames=1, pixels_per_token=1)


def replied(model: Llava, video: VisualTokens, chunk_cells: int | None) -> tuple[Tensor, list[int], int]:
    """Logits of the first token, ten greedy ones, and the id at which text went on."""
    state = model.new_state()
    with torch.inference_mode():
        model.prefill_text(state, HEAD)
        model.prefill_video(state, video, Method(), limits(model, video), chunk_cells=chunk_cells)
        after = state.next_id
        logits = model.logits(model.prefill_text(state, TAIL))
        ids = [int(logits.argmax())]
        while len(ids) < 10:
            ids.append(int(model.logits(model.prefill_text(state, ids[-1:], decoding=True)).argmax()))
    return logits, ids, after


# ---- LLaVA-OneVision


def stock_reply(stock: LlavaOnevisionForConditionalGeneration) -> tuple[Tensor, list[int], Tensor]:
    """The same by transformers alone, and its video features, newline included."""
    video = stock.config.video_token_id
    ids = torch.tensor([[*HEAD, *[video] * (FRAMES * 16 + 1), *TAIL]])
    given = {"pixel_values_videos": normalised()[None], "attention_mask": torch.ones_like(ids)}
    seen: list[Tensor] = []
    handle = stock.model.language_model.register_forward_pre_hook(
        lambda _, args, kwargs: seen.append(kwargs["inputs_embeds"]), with_kwargs=True
    )
    with torch.inference_mode():
        logits = stock(input_ids=ids, **given).logits[0, -1]
        handle.remove()
        out = stock.generate(
            input_ids=ids, **given, max_new_tokens=10, min_new_tokens=10, do_sample=False, eos_token_id=None
        )
    return logits, out[0, ids.shape[1] :].tolist(), seen[0][0, len(HEAD) : -len(TAIL)]


@pytest.mark.parametrize("chunk_cells", [None, 2])
def test_onevision_equals_transformers(
    onevision: LlavaOnevision, onevision_folder: Path, chunk_cells: int | None
) -> None:
    stock = LlavaOnevisionForConditionalGeneration.from_pretrained(onevision_folder, dtype=torch.float32).eval()
    logits, ids, features = stock_reply(stock)
    video = tokens(onevision)
    torch.testing.assert_close(video.features, features[:-1], rtol=0, atol=1e-5)
    torch.testing.assert_close(features[-1], stock.model.image_newline, rtol=0, atol=0)
    mine, replies, after = replied(onevision, video, chunk_cells)
    assert after == len(HEAD) + FRAMES * 16 + 1
    torch.testing.assert_close(mine, logits, rtol=0, atol=1e-4)
    assert replies == ids
    # negative control: without the newline
    bare = type(onevision)(onevision.model, onevision.text, None, onevision.vision)
    bare.separators = lambda tokens: None  # type: ignore[method-assign]
    assert (replied(bare, video, chunk_cells)[0] - logits).abs().max() > 1e-3


@pytest.mark.parametrize("layer", [-1, -2, 2])
def test_the_feature_layer_is_the_configured_one(layer: int) -> None:
    stock = random_onevision(vision_feature_layer=layer)
    mine = LlavaOnevision.of(stock, None, mean=[0.5] * 3, std=[0.5] * 3)
    with torch.inference_mode():
        theirs = stock.model.get_video_features(
            normalised()[None], vision_feature_layer=layer, vision_feature_select_strategy="full"
        ).pooler_output[0]
    found = tokens(mine).features
    torch.testing.assert_close(found, theirs[: len(found)], rtol=0, atol=1e-5)  # the newline behind them: from 5.24 on


@pytest.mark.parametrize("changes", [{"vision_feature_layer": [-1, -2]}, {"vision_feature_select_strategy": "default"}])
def test_another_vision_side_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"expected a SigLIP tower with all patches"):
        LlavaOnevision.of(random_onevision(**changes), None, mean=[0.5] * 3, std=[0.5] * 3)


def test_onevision_loads_under_the_published_names(
    onevision: LlavaOnevision, onevision_folder: Path, tmp_path: Path
) -> None:
    """llava-hf's files: language_model.model.…, vision_tower.vision_model.…, image_newline, without `model.`."""
    folder = write(tmp_path / "published", random_onevision())
    state = {published_name(k): v for k, v in load_file(folder / "model.safetensors").items()}
    assert {"image_newline", "multi_modal_projector.linear_1.weight", "language_model.lm_head.weight"} <= set(state)
    assert "vision_tower.vision_model.embeddings.patch_embedding.weight" in state
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    check(str(folder))
    again = load(str(folder), device="cpu")
    for name, weight in onevision.model.state_dict().items():
        assert torch.equal(weight, again.model.state_dict()[name]), name


# ---- LLaVA-Video


def by_hand(folder: Path) -> tuple[Tensor, Tensor, Qwen2ForCausalLM]:
    """Features (F, 9, D) and the whole prompt's embeddings, from the tensors of the file; and the plain Qwen2."""
    state = load_file(folder / "model.safetensors")
    settings = json.loads((folder / "config.json").read_text())
    stock = Qwen2ForCausalLM(native_config(settings)).eval()
    stock.load_state_dict({k: v for k, v in state.items() if not re.search(r"vision_tower|mm_projector|newline", k)})
    tower = {k.removeprefix("model.vision_tower.vision_tower.vision_model."): v for k, v in state.items()}
    x = F.conv2d(normalised(), tower["embeddings.patch_embedding.weight"], tower["embeddings.patch_embedding.bias"], 6)
    x = x.flatten(2).transpose(1, 2) + tower["embeddings.position_embedding.weight"]
    for i in range(3):  # of the four that the configuration names
        x = _siglip_layer(x, {k.split(f"encoder.layers.{i}.")[-1]: v for k, v in tower.items() if f"layers.{i}." in k})
    first, second = ({k: state[f"model.mm_projector.{n}.{k}"] for k in ("weight", "bias")} for n in (0, 2))
    x = F.linear(F.gelu(F.linear(x, **first)), **second)
    grid = x.view(FRAMES, 7, 7, -1)[:, :6, :6]  # the last row and column of patches are not pooled
    pooled = grid.unflatten(1, (3, 2)).unflatten(3, (3, 2)).mean((2, 4))  # (F, 3, 3, D)
    newline = state["model.image_newline"].expand(FRAMES, 3, 1, -1)
    video = torch.cat([pooled, newline], 2).flatten(0, 2)
    embed = stock.model.embed_tokens.weight
    return pooled.flatten(1, 2), torch.cat([embed[HEAD], video, embed[TAIL]]), stock


def _siglip_layer(x: Tensor, own: dict[str, Tensor]) -> Tensor:
    def linear(name: str, y: Tensor) -> Tensor:
        return F.linear(y, own[f"{name}.weight"], own[f"{name}.bias"])

    def norm(name: str, y: Tensor) -> Tensor:
        return F.layer_norm(y, y.shape[-1:], own[f"{name}.weight"], own[f"{name}.bias"], 1e-6)

    y = norm("layer_norm1", x)
    q, k, v = (linear(f"self_attn.{n}_proj", y).unflatten(-1, (2, 16)).transpose(1, 2) for n in "qkv")
    weights = (q @ k.transpose(-1, -2) / 4).softmax(-1)
    x = x + linear("self_attn.out_proj", (weights @ v).transpose(1, 2).flatten(2))
    return x + linear("mlp.fc2", F.gelu(linear("mlp.fc1", norm("layer_norm2", x)), approximate="tanh"))


@pytest.mark.parametrize("chunk_cells", [None, 2])
def test_llava_video_equals_a_prompt_by_hand(
    llava_video: LlavaVideo, video_folder: Path, chunk_cells: int | None
) -> None:
    with torch.inference_mode():
        features, embeds, stock = by_hand(video_folder)
        expected = stock(inputs_embeds=embeds[None]).logits[0, -1]
        ids = [int(expected.argmax())]
        while len(ids) < 10:
            embeds = torch.cat([embeds, stock.model.embed_tokens.weight[ids[-1:]]])
            ids.append(int(stock(inputs_embeds=embeds[None]).logits[0, -1].argmax()))
    video = tokens(llava_video)
    assert video.grid == (3, 3)
    torch.testing.assert_close(video.features, features.flatten(0, 1), rtol=0, atol=1e-5)
    logits, replies, after = replied(llava_video, video, chunk_cells)
    assert after == len(HEAD) + FRAMES * 12
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-4)
    assert replies == ids


def test_llava_video_at_its_published_size(tmp_path: Path) -> None:
    """Names and shapes of the 7B checkpoint, with no weight: every tensor is used and none is missing."""
    published = {k: v for k, v in video_settings().items() if not k.startswith("mm_") or k in PUBLISHED_KEYS}
    sizes = {"hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28, "vocab_size": 152064}
    heads = {"num_attention_heads": 28, "num_key_value_heads": 4, "mm_hidden_size": 1152}
    (tmp_path / "config.json").write_text(json.dumps({**published, **sizes, **heads}))
    empty = skeleton(str(tmp_path), dtype="bfloat16")
    assert isinstance(empty, LlavaVideo)
    shapes = {name: tuple(weight.shape) for name, weight in empty.model.state_dict().items()}
    tower = "model.vision_tower.vision_tower.vision_model."
    expected = {
        f"{tower}embeddings.patch_embedding.weight": (1152, 3, 14, 14),
        f"{tower}embeddings.position_embedding.weight": (729, 1152),
        f"{tower}encoder.layers.25.mlp.fc1.weight": (4304, 1152),
        f"{tower}post_layernorm.weight": (1152,),
        "model.mm_projector.0.weight": (3584, 1152),
        "model.mm_projector.2.bias": (3584,),
        "model.image_newline": (3584,),
        "model.layers.27.self_attn.k_proj.weight": (512, 3584),
        "model.embed_tokens.weight": (152064, 3584),
        "lm_head.weight": (152064, 3584),
    }
    assert {name: shapes.get(name) for name in expected} == expected
    assert not [name for name in shapes if f"{tower}encoder.layers.26" in name or f"{tower}head" in name]
    assert (empty.frame_size, empty.token_grid(384, 384)) == ((384, 384), (13, 13))


PUBLISHED_KEYS = {
    "mm_newline_position",
    "mm_patch_merge_type",
    "mm_projector_type",
    "mm_resampler_type",
    "mm_spatial_pool_mode",
    "mm_vision_select_feature",
    "mm_vision_select_layer",
    "mm_vision_tower",
}


def test_both_of_its_model_types_load(video_folder: Path, tmp_path: Path) -> None:
    """`llava` as it is published, in transformers another model, and `llava_qwen` as training writes it."""
    settings = video_settings()
    assert settings["model_type"] == "llava"
    (tmp_path / "config.json").write_text(json.dumps({**settings, "model_type": "llava_qwen"}))
    one, other = (skeleton(str(folder)).model.config for folder in (video_folder, tmp_path))
    assert one.to_dict() == other.to_dict()
    assert one.model_type == "llava_qwen"


def test_a_checkpoint_without_its_tower_is_refused(video_folder: Path, tmp_path: Path) -> None:
    folder = write(tmp_path / "headless", random_video(), video_settings())
    state = {k: v for k, v in load_file(folder / "model.safetensors").items() if "vision_tower" not in k}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    for refuse in (check, load):
        part = r"model\.vision_tower\.vision_tower\.vision_model"
        with pytest.raises(
            ConfigError, match=rf"missing \({part}.*the files hold nothing of {part}: .*, save its tensors"
        ):
            refuse(str(folder))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mm_newline_position": None}, "expected mm_newline_position grid .* take a checkpoint of llava-hf"),
        ({"mm_vision_tower": "openai/clip-vit"}, "expected mm_vision_tower google/siglip"),
    ],
)
def test_other_models_of_this_type_are_refused(
    changes: dict[str, Any], message: str, video_folder: Path, tmp_path: Path
) -> None:
    folder = write(tmp_path / "other", random_video(), {**video_settings(), **changes})
    with pytest.raises(ConfigError, match=message):
        load(str(folder))


# ---- both


def test_sizes_and_prompts(model: Llava) -> None:
    assert (model.cell_frames, model.clip_frames, model.pixels_per_token) == (1, 1, None)
    assert model.frame_size == (PIXELS, PIXELS)
    before, after = model.prompt("what comes next", video=True)
    text = model.tokenizer.decode(before) + "|" + model.tokenizer.decode(after)
    assert "<|im_start|>user\n|\nwhat comes next<|im_end|>\n<|im_start|>assistant\n" in text
    blind = [model.tokenizer.decode(ids) for ids in model.prompt("what comes next", video=False)]
    assert "user\nwhat comes next" in "".join(blind)
    with pytest.raises(ModelError, match=r"expected frames of \(45, 45\) pixels, got \(48, 45\)"):
        model.encode(noise(2, 48, 45), slice_cells=1)


def test_slices_of_the_encoder_are_exact(model: Llava) -> None:
    with torch.inference_mode():
        whole, parts = (model.encode(pixels(), slice_cells=n) for n in (FRAMES, 1))
    torch.testing.assert_close(whole, parts, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("method", "ratio"), [(Method(), 1.0), (LPComp(), 0.4), (PivotKV(), 0.3)], ids=str)
def test_operations_are_those_that_torch_counts(
    model: Llava, method: Method, ratio: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    with torch.inference_mode(), counted(monkeypatch) as counter:
        video, state = tokens(model), model.new_state()
        model.prefill_text(state, HEAD)
        model.prefill_video(state, video, method, limits(model, video, ratio), chunk_cells=2)
        model.next_token(state, model.prefill_text(state, TAIL))
    assert model.encode_flops(FRAMES, video.grid) + model.flops(state.op_counts) == counter.get_total_flops()


def test_tuning_reads_the_same_sequence(model: Llava) -> None:
    video, method = tokens(model), LPComp(frame_ratio=1.0)
    with torch.inference_mode():
        schedule = forward.prune_schedule(
            model, method, video, limits(model, video), n_prefix=len(HEAD), suffix_shape=(1, len(TAIL))
        )
        fed = forward.sequence(model, video)[None]
        embeds = forward.embed(model, torch.tensor(HEAD), fed, torch.tensor([[TAIL]]))
        found = model.logits(forward.forward(model, schedule, embeds)[0, 0, -1])
        state = model.new_state()
        model.prefill_text(state, HEAD)
        model.prefill_video(state, video, method, limits(model, video), chunk_cells=2)
        expected = model.logits(model.prefill_text(state, TAIL))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clips.make(tmp_path_factory.mktemp("clip") / "clip.mp4", frames=CLIP, size=(64, 48))


@pytest.mark.slow
def test_every_method_runs_and_sharing_changes_nothing(model: Llava, clip: Path) -> None:
    questions = [question(clip, n, frame_scores=scores(range(CLIP), seed=n)) for n in range(2)]
    quick: dict[str, Any] = {"frames": 16, "new_tokens": 3, "chunk_cells": 3}
    refused = OperatingPoint("lowres", built("lowres").method, 0.25)
    undefined = {"lowres", "fastvid"} | (set() if isinstance(model, LlavaOnevision) else {"infinipot_v"})
    defined = [name for name in NAMES if name not in undefined]
    ratios = {name: (0.25,) if name in BEFORE_LLM else (1.0, 0.25) for name in defined}
    points = [OperatingPoint(n, built(n).method, ratio) for n in defined for ratio in ratios[n]]
    some = [p for p in points if p.ratio < 1 and p.name in ("uniform", "retake", "xcomp")]
    asked = {point: questions if point in some else questions[:1] for point in (DENSE, refused, *points)}
    together = {(p.name, p.ratio, one.question_id): one for p, one in engine(model, **quick).answers(asked)}
    dense = together["dense", 1.0, "q0"]
    for point in points:
        one = together[point.name, point.ratio, "q0"]
        assert one.ledger is not None, (point, one.error)
        assert (point.ratio == 1 and point.method.identity_at_one) <= (exact_key(one) == exact_key(dense)), point
        if point.method.spends and not point.method.off_ratio:
            assert abs(one.ledger.ratio_achieved / point.ratio - 1) <= 0.02, (point, one.ledger.ratio_achieved)
        kept = one.ledger.kv_separators_per_layer
        cells = one.ledger.cells
        rows = model.token_grid(PIXELS, PIXELS)[0]
        most = 1 if isinstance(model, LlavaOnevision) else cells * rows
        assert not cells or (len(kept) == model.layers and 1 <= min(kept) <= max(kept) <= most), (point, kept)
    # one method that makes no plan for frames of one size costs the others nothing
    assert "frames all have one size" in str(together["lowres", 0.25, "q0"].error)
    only = answer(engine(model), [refused], questions[:1])
    assert [one.status for one in only.values()] == ["failed"]
    alone = answer(engine(model, share=False, **quick), some, questions)
    assert len(alone) == len(some) * 2
    for key, one in alone.items():
        assert exact_key(one) == exact_key(together[key]), key


def test_yarn_stretches_from_the_language_models_length(video_folder: Path, onevision_folder: Path) -> None:
    for folder, part in ((video_folder, "config"), (onevision_folder, "text_config")):
        config = load(str(folder), device="cpu", rope="yarn4").model.config
        text = config if part == "config" else config.text_config
        assert text.rope_parameters["original_max_position_embeddings"] == 32_768
        assert text.max_position_embeddings == 131_072
