"""What is read of vision encoders, against transformers' own attention; every method that acts on it, per family."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import SiglipVisionConfig, SiglipVisionModel
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import apply_rotary_pos_emb_vision
from transformers.vision_utils import get_vision_window_index

import evalkit
from evalkit.encoder_view import EncoderView
from evalkit.engine.frame_encoder import FrameEncoder
from evalkit.errors import ConfigError, MethodError
from evalkit.method import Budget, OperatingPoint, no_question
from evalkit.model.encoder_reader import untimed
from evalkit.model.families.qwen2_vl import Qwen2VL, Qwen25VL
from evalkit.model.load import load
from evalkit.model.video_llm import VideoLLM
from evalkit.testing.method_contract import hooks, visual
from evalkit.types import VisualTokens
from methods.fastvid import FastVID
from tests.support import llava
from tests.support.flop_counter import counted
from tests.support.methods import BEFORE_LLM, built
from tests.support.visual_tokens import noise

FAMILIES = ("backbone", "qwen25_model", "qwen3_model", "onevision", "llava_video")


@pytest.fixture(scope="module")
def qwen25_model(qwen25: Path) -> VideoLLM:
    return load(str(qwen25), device="cpu")


@pytest.fixture(scope="module")
def qwen3_model(qwen3: Path) -> VideoLLM:
    return load(str(qwen3), device="cpu")


@pytest.fixture(scope="module")
def onevision(tmp_path_factory: pytest.TempPathFactory) -> VideoLLM:
    folder = tmp_path_factory.mktemp("onevision") / "tiny"
    return load(str(llava.write(folder, llava.random_onevision())), device="cpu")


@pytest.fixture(scope="module")
def llava_video(tmp_path_factory: pytest.TempPathFactory) -> VideoLLM:
    folder = tmp_path_factory.mktemp("llava_video") / "tiny"
    return load(str(llava.write(folder, llava.random_video(), llava.video_settings())), device="cpu")


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> VideoLLM:
    found: VideoLLM = request.getfixturevalue(request.param)
    return found


def seen(family: VideoLLM, cells: int = 9) -> VisualTokens:
    """Encoded noise with everything that the family gives."""
    return visual(family, cells * family.cell_frames, *size(family), needs=family.gives)


def size(family: VideoLLM) -> tuple[int, int]:
    """Height and width of a frame of 6 × 5 visual tokens, or the one that the family takes."""
    side = family.pixels_per_token or 0
    return family.frame_size or (6 * side, 5 * side)


def view_of(tokens: VisualTokens) -> EncoderView:
    assert tokens.encoder is not None
    return tokens.encoder


class Stock:
    """Queries and keys of the last block as transformers makes them, and its own rotation."""

    def __init__(self, family: Qwen2VL, cells: int) -> None:
        self.attention = family.vision.module.blocks[-1].attn
        self.kept: dict[str, Any] = {}
        before = self.attention.register_forward_pre_hook(self._keep, with_kwargs=True)
        with torch.inference_mode():
            self.tokens = seen(family, cells)
            before.remove()
            hidden, (cos, sin) = self.kept["hidden"], self.kept["position_embeddings"]
            q, k, _ = self.attention.qkv(hidden).reshape(len(hidden), 3, self.attention.num_heads, -1).unbind(1)
            self.plain_keys = k.mean(1).view(cells, -1, k.shape[-1])
            turned = apply_rotary_pos_emb_vision(q, k, cos, sin)
            self.queries, self.keys = (x.double().view(cells, -1, *x.shape[1:]).transpose(1, 2) for x in turned)

    def _keep(self, _module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.kept = {"hidden": args[0] if args else kwargs["hidden_states"], **kwargs}


def in_raster(family: Qwen2VL, tokens: VisualTokens, x: Tensor) -> Tensor:
    """(T, P, …) in the order of the tower's blocks -> in raster order, by transformers' own index; (T·P, …)."""
    config = family.model.config.vision_config
    if hasattr(config, "window_size"):
        grid = torch.tensor([[1, *(side * family.vision.merge for side in tokens.grid)]])
        index, _ = get_vision_window_index(grid, config.spatial_merge_size, config.window_size, config.patch_size)
        assert len(index) == x.shape[1]
        assert (index.tolist() == sorted(index.tolist())) == (type(family) is not Qwen25VL)
        x = x[:, index.argsort()]
    return x.flatten(0, 1)


@pytest.mark.parametrize("name", FAMILIES[:3])
def test_qwen(name: str, request: pytest.FixtureRequest) -> None:
    """All weights of the last block in float64, cell by cell, averaged in the order that each kind says."""
    family: Qwen2VL = request.getfixturevalue(name)
    stock = Stock(family, cells=3)
    view, patches = view_of(stock.tokens), family.vision.merge**2
    scale = stock.queries.shape[-1] ** -0.5

    def per_token(x: Tensor) -> Tensor:
        return x.view(x.shape[0], -1, patches, *x.shape[2:]).mean(2)

    weights = (stock.queries @ stock.keys.transpose(2, 3) * scale).softmax(-1)
    attention = in_raster(family, stock.tokens, per_token(weights.mean((1, 2))))
    torch.testing.assert_close(view.attention, attention.float(), rtol=1e-4, atol=1e-7)
    mean_keys = stock.keys.unflatten(2, (-1, patches)).mean(3)
    pooled = (stock.queries.mean(2, keepdim=True) @ mean_keys.transpose(2, 3) * scale).softmax(-1).mean((1, 2))
    torch.testing.assert_close(
        view.pooled_attention, in_raster(family, stock.tokens, pooled).float(), rtol=1e-4, atol=1e-7
    )
    keys = in_raster(family, stock.tokens, per_token(stock.plain_keys))
    torch.testing.assert_close(view.keys, keys, rtol=1e-4, atol=1e-6)
    assert view.summary is not None
    torch.testing.assert_close(view.summary, stock.tokens.features.view(3, 30, -1).mean(1), rtol=1e-5, atol=1e-6)
    assert not torch.allclose(attention.view(3, -1) * patches, pooled, rtol=1e-3)


@pytest.mark.parametrize("name", FAMILIES[3:])
def test_siglip(name: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers' eager attention weights of the last layer that is run, averaged and pooled."""
    family = request.getfixturevalue(name)
    tower = family.vision
    attention = tower.module.encoder.layers[tower.depth - 1].self_attn
    kept: dict[str, Tensor] = {}
    monkeypatch.setattr(attention.config, "_attn_implementation", "eager")
    handles = [
        attention.register_forward_hook(lambda _m, _a, out: kept.__setitem__("weights", out[1])),
        attention.k_proj.register_forward_hook(lambda _m, _a, out: kept.__setitem__("keys", out)),
    ]
    tokens = seen(family, cells=3)
    for handle in handles:
        handle.remove()

    def pooled(x: Tensor) -> Tensor:
        side = tower.patches
        return tower.pool(x.transpose(1, 2).reshape(3, -1, side, side)).flatten(2).transpose(1, 2).flatten(0, 1)

    view = view_of(tokens)
    torch.testing.assert_close(view.attention, pooled(kept["weights"].mean((1, 2))[..., None])[:, 0])
    keys = kept["keys"]
    torch.testing.assert_close(view.keys, pooled(keys.view(*keys.shape[:2], attention.num_heads, -1).mean(2)))


def test_reading_changes_no_feature_and_leaves_no_hook(family: VideoLLM) -> None:
    before, grid = hooks(family), family.token_grid(*size(family))
    tokens = seen(family)
    assert torch.equal(tokens.features, visual(family, 9 * family.cell_frames, *size(family)).features)
    assert hooks(family) == before
    with family.reader(frozenset({"keys"}), grid, untimed).attached():
        assert hooks(family) > before  # negative control


@pytest.mark.parametrize(
    "needs", [{"attention"}, {"pooled_attention", "summary"}, {"keys"}], ids=["attention", "head", "keys"]
)
def test_operations_equal_the_counter(needs: set[Any], family: VideoLLM, monkeypatch: pytest.MonkeyPatch) -> None:
    if not needs <= family.gives:
        pytest.skip("not given by this encoder")
    grid, pixels = family.token_grid(*size(family)), noise(4 * family.cell_frames, *size(family))
    reader = family.reader(frozenset(needs), grid, untimed)
    with torch.inference_mode(), counted(monkeypatch) as counter, reader.attached():
        features, _ = family.encode_with_deepstack(pixels, slice_cells=2)
        reader.view(features, 4)
    expected = family.encode_flops(4, grid) + family.view_flops(frozenset(needs), 4, grid)
    assert expected == counter.get_total_flops()


@pytest.mark.slow
def test_every_method_selects_on_every_family(family: VideoLLM) -> None:
    """Sound tokens, ordered by slot, near the ratio; a need that is not given is said in one line."""
    given = seen(family)
    count, cells = len(given), len(given.cell_seconds)
    budget = Budget.encoded(cells, given.grid, ratio=0.4, layers=family.layers, cell_frames=family.cell_frames)
    for name in BEFORE_LLM:
        method = built(name).method
        if not method.needs <= family.gives:
            continue
        asked = replace(given, encoder=view_of(given).only(method.needs))
        with torch.inference_mode():
            out = family.ordered(method.select(asked, budget, no_question))
        assert bool(out.features.isfinite().all()), name
        assert bool((out.slot.diff() >= 0).all()), name
        assert 0.2 < len(out) / count < 0.6, name
        assert (out.deepstack is None) == (given.deepstack is None), name
        own = given.features[out.cell * (count // cells) + out.place]
        assert (out.merged is None) <= torch.equal(out.features, own), name


@pytest.fixture(scope="module")
def siglip(onevision: VideoLLM, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SigLIP checkpoint with the published names, of the same tower's size."""
    config = onevision.vision.module.config  # type: ignore[attr-defined]
    settings = {**config.to_dict(), "vision_use_head": True}
    torch.manual_seed(1)
    model = SiglipVisionModel(SiglipVisionConfig(**settings))
    folder = tmp_path_factory.mktemp("siglip")
    named = {f"vision_model.{name.removeprefix('vision_model.')}": x for name, x in model.state_dict().items()}
    save_file(named, folder / "model.safetensors")
    model.config.save_pretrained(folder)
    return folder


def test_a_pooling_head_from_elsewhere(siglip: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """It is read from SigLIP's own checkpoint, changes no feature, and pools what its own class pools."""
    folder = tmp_path_factory.mktemp("headed") / "tiny"
    family = load(str(llava.write(folder, llava.random_onevision())), device="cpu")
    before = visual(family, 9, *size(family))
    family.take_pooling_head(str(siglip))
    assert {"pooled_attention", "summary"} <= family.gives
    tokens = seen(family)
    assert torch.equal(tokens.features, before.features)
    head = load_file(siglip / "model.safetensors")["vision_model.head.probe"]
    assert torch.equal(family.vision.pooling_head.head.probe, head)  # type: ignore[attr-defined]
    states: list[Tensor] = []
    layer = family.vision.module.encoder.layers[family.vision.depth - 1]  # type: ignore[attr-defined]
    handle = layer.register_forward_hook(lambda _m, _a, out: states.append(out))
    with torch.inference_mode():
        seen(family)
        handle.remove()
        pooling = family.vision.pooling_head  # type: ignore[attr-defined]
        torch.testing.assert_close(view_of(tokens).summary, pooling.head(pooling.norm(states[0])))
    limits = Budget.encoded(9, tokens.grid, ratio=0.5, layers=2, cell_frames=1)
    assert FastVID().select(tokens, limits, no_question).original_ids
    named = evalkit.load_backbone(str(folder), pooling_head=str(siglip), device="cpu")
    assert named.model.gives == family.gives


def test_a_head_that_is_not_there_is_named(onevision: VideoLLM, backbone: Qwen2VL, checkpoint: Path) -> None:
    with pytest.raises(ConfigError, match=r"expected a SigLIP checkpoint with vision_model\.post_layernorm\.weight"):
        onevision.take_pooling_head(str(checkpoint))
    with pytest.raises(ConfigError, match="expected null for Qwen2VL"):
        backbone.take_pooling_head("x")


def test_what_an_encoder_does_not_give_is_refused_before_it_runs(onevision: VideoLLM) -> None:
    encoder: Callable[..., Any] = FrameEncoder(backbone=onevision, sampling=None).plan  # type: ignore[arg-type]
    with pytest.raises(
        MethodError, match=r"FastVID is not defined on this backbone: it needs pooled_attention, summary"
    ):
        encoder(OperatingPoint("fastvid", FastVID(), 0.5), None)
