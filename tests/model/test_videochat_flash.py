"""VideoChat-Flash: merging and vision tower as traced, the language model as transformers', every method on it."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import Qwen2Config, Qwen2ForCausalLM

from evalkit.errors import ConfigError, ModelError
from evalkit.method import Budget, Method, OperatingPoint
from evalkit.model import attention
from evalkit.model.families import videochat_flash_tome as tome
from evalkit.model.families import videochat_flash_vision
from evalkit.model.families.videochat_flash import VideoChatFlash
from evalkit.model.families.videochat_flash_model import VideoChatFlashConfig, VideoChatFlashForCausalLM
from evalkit.model.load import load
from evalkit.testing.loop import alike
from evalkit.types import Question, VisualTokens
from methods.controls import LowRes
from tests.support import clips, parity, parity_videochat_flash, parity_xcomp
from tests.support.checkpoints import edit
from tests.support.closeness import RTOL, apart
from tests.support.flop_counter import counted
from tests.support.loop import DENSE, answer, engine, exact_key, question
from tests.support.methods import WITHIN, built
from tests.support.videochat_flash import PIXELS, random_checkpoint

GRID = (1, 16)
# frames have one size here, four are seen together, tokens have no places, and the encoder tells features alone
NOT_DEFINED = ("lowres", "aks", "bolt", "framefusion", "infinipot_v", "holitom", "flashvid")
ASKED = ("uniform", "xcomp", "retake", "blind", "single", "dpselect", "random_frames", "shuffled", "heuristic_drop")
QUICK: dict[str, Any] = {"frames": 16, "new_tokens": 3}
TOLD = "The video lasts for 2.56 seconds, and 16 frames are uniformly sampled from it. "
ON_ONE_SIZE = [name for name in (*WITHIN, "divprune") if name not in NOT_DEFINED]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_checkpoint(tmp_path_factory.mktemp("videochat_flash") / "checkpoint", num_hidden_layers=4)


@pytest.fixture(scope="module")
def family(folder: Path) -> VideoChatFlash:
    found = load(str(folder), device="cpu")
    assert isinstance(found, VideoChatFlash)
    return found


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clips.make(tmp_path_factory.mktemp("clip") / "clip.mp4", frames=64, size=(168, 112))


def asked(clip: Path) -> list[Question]:
    return [question(clip, n) for n in range(2)]


def noise(frames: int, size: int = PIXELS) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (frames, size, size, 3), dtype=np.uint8)


# ---- merging


def plainly_merged(x: Tensor, heads: int, target: int) -> Tensor:
    """One clip (N, C), by loops over tokens and rounds."""
    tokens = [(vector.double(), 1) for vector in x]
    while len(tokens) > target:
        keys = [v.view(heads, -1).mean(0) for v, _ in tokens]
        keys = [key / key.norm() for key in keys]
        pairs = []
        for a in range(0, len(tokens), 2):
            likeness = [float(keys[a] @ keys[b]) for b in range(1, len(tokens), 2)]
            best = max(range(len(likeness)), key=likeness.__getitem__)
            pairs.append((likeness[best], a, 2 * best + 1))
        pairs.sort(key=lambda pair: -pair[0])
        r = min(len(tokens) // 2, len(tokens) - target)
        into: dict[int, list[int]] = {}
        for _, a, b in pairs[:r]:
            into.setdefault(b, []).append(a)
        left = [tokens[a] for _, a, _ in pairs[r:]]
        odd = []
        for b in range(1, len(tokens), 2):
            members = [tokens[i] for i in (b, *into.get(b, []))]
            weight = sum(size for _, size in members)
            odd.append((torch.stack([v * size for v, size in members]).sum(0) / weight, weight))
        tokens = left + odd
    return torch.stack([v for v, _ in tokens])


@pytest.mark.parametrize(("frames", "side"), [(4, 7), (8, 5), (1, 7)])
def test_merging_equals_its_plain_form(frames: int, side: int) -> None:
    x = torch.randn(2, frames * side**2, 12, generator=torch.Generator().manual_seed(1))
    merged = tome.merge(x, 3, 16 * frames)
    assert merged.shape == (2, 16 * frames, 12)
    expected = torch.stack([plainly_merged(one, 3, 16 * frames) for one in x])
    assert apart(merged, expected.float()) < RTOL
    # negative controls: another order of the output, other heads, every vector of one weight
    assert apart(merged.flip(1), expected.float()) > 1e-2
    assert apart(tome.merge(x, 2, 16 * frames), expected.float()) > 1e-2


def test_rounds_are_the_published_ones() -> None:
    """spec: 4 frames of 28 × 28 patches to 64 tokens, 8 to 128."""
    assert tome.rounds(3136, 64) == [1568, 784, 392, 196, 98, 34]
    assert tome.rounds(6272, 128) == [3136, 1568, 784, 392, 196, 68]
    assert tome.rounds(49, 16) == [24, 9]
    assert tome.rounds(16, 16) == []


def test_equal_tokens_merge_to_themselves() -> None:
    x = torch.ones(1, 64, 4)
    assert torch.equal(tome.merge(x, 2, 16), torch.ones(1, 16, 4))


# ---- the vision tower


def test_tables_of_positions() -> None:
    """At the pretraining's grid the plain table; a single frame has the first frame's; time is stretched evenly."""
    plain = videochat_flash_vision.positions(4, 14, 8)
    place = torch.arange(4 * 14 * 14, dtype=torch.float64)
    assert torch.equal(plain[:, 0], place.sin().float())
    assert torch.equal(plain[:, 7], (place / 10000 ** (6 / 8)).cos().float())
    stretched = videochat_flash_vision.positions(4, 28, 8).view(4, 784, 8)
    assert torch.equal(videochat_flash_vision.positions(1, 28, 8), stretched[0])
    eight = videochat_flash_vision.positions(8, 28, 8).view(8, 784, 8)
    torch.testing.assert_close(eight[1], 0.75 * stretched[0] + 0.25 * stretched[1])


def test_slices_never_change_features(family: VideoChatFlash) -> None:
    pixels = noise(12)
    with torch.inference_mode():
        whole = family.encode(pixels, slice_cells=32)
        assert whole.shape == (12 * 16, 32)
        for cells in (1, 4, 8):
            assert torch.equal(family.encode(pixels, slice_cells=cells), whole)
        assert torch.equal(family.encode(pixels[4:8], slice_cells=32), whole[64:128])
        # a clip is seen as one: another frame in it changes what its other slots hold
        other = pixels.copy()
        other[5] = 255 - other[5]
        changed = (family.encode(other, slice_cells=32) != whole).view(3, -1).any(1)
    assert changed.tolist() == [False, True, False]
    with pytest.raises(ModelError, match="clips of 4 frames"):
        family.encode(pixels[:6], slice_cells=32)
    with pytest.raises(ModelError, match=r"of \(96, 96\) pixels"):
        family.encode(noise(4, 64), slice_cells=32)


def test_a_clip_by_hand(family: VideoChatFlash) -> None:
    """Pixels to features by the plain formulas of the architecture, written out."""
    model, pixels = family.model, noise(4)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    x = (torch.from_numpy(pixels) / 255 - mean) / std
    patches = x.view(4, 6, 16, 6, 16, 3).permute(0, 1, 3, 5, 2, 4).reshape(144, 768)
    weights = {name.removeprefix("model.vision_tower.vision_tower.encoder."): w for name, w in model.named_parameters()}
    with torch.no_grad():
        x = patches @ weights["patch_embed.proj.weight"].view(32, 768).T + weights["patch_embed.proj.bias"]
        x = x + videochat_flash_vision.positions(4, 6, 32)
        for i in range(2):
            w = {name.removeprefix(f"blocks.{i}."): v for name, v in weights.items() if f"blocks.{i}." in name}
            normed = torch.nn.functional.layer_norm(x, (32,), w["norm1.weight"], w["norm1.bias"], 1e-6)
            query, key, value = (normed @ w["attn.qkv.weight"].T).view(144, 3, 2, 16).permute(1, 2, 0, 3)
            query = query + w["attn.q_bias"].view(2, 1, 16)
            seen = (query @ key.transpose(1, 2) / 4).softmax(-1) @ (value + w["attn.v_bias"].view(2, 1, 16))
            x = x + seen.transpose(0, 1).reshape(144, 32) @ w["attn.proj.weight"].T + w["attn.proj.bias"]
            normed = torch.nn.functional.layer_norm(x, (32,), w["norm2.weight"], w["norm2.bias"], 1e-6)
            inner = torch.nn.functional.gelu(normed @ w["mlp.fc1.weight"].T + w["mlp.fc1.bias"])
            x = x + inner @ w["mlp.fc2.weight"].T + w["mlp.fc2.bias"]
        norm = (weights["vision_layernorm.weight"], weights["vision_layernorm.bias"])
        merged = plainly_merged(torch.nn.functional.layer_norm(x, (32,), *norm, 1e-12), 2, 64).float()
        first, second = model.model.mm_projector.mlp[0], model.model.mm_projector.mlp[2]
        expected = second(torch.nn.functional.gelu(first(merged)))
        found = family.encode(pixels, slice_cells=4)
    assert apart(found, expected) < 1e-4  # merging averages what rounding has set apart
    assert model.model.vision_tower["vision_tower"]["encoder"].depth == 2  # of 3: the output before the last is used


# ---- the language model


@pytest.fixture(scope="module")
def stock(family: VideoChatFlash) -> Qwen2ForCausalLM:
    """transformers' own Qwen2 with the same weights and its own attention."""
    config = Qwen2Config(**{**family.model.config.to_dict(), "model_type": "qwen2"}, attn_implementation="eager")
    model = Qwen2ForCausalLM(config)
    model.load_state_dict(
        {n: w for n, w in family.model.state_dict().items() if ".vision_tower." not in n and "mm_" not in n}
    )
    model.generation_config = copy.deepcopy(family.model.generation_config)
    return model.eval()


@pytest.mark.parametrize("chunk_cells", [3, 5, None])
def test_logits_and_replies_equal_stock(
    family: VideoChatFlash, stock: Qwen2ForCausalLM, chunk_cells: int | None
) -> None:
    prefix, suffix = family.prompt("What comes next?", video=True)
    with torch.inference_mode():
        features = family.encode(noise(8), slice_cells=8)
        tokens = VisualTokens.dense(features, seconds=range(8), grid=GRID)
        state = family.new_state()
        family.prefill_text(state, prefix)
        limits = Budget.encoded(8, GRID, ratio=1.0, layers=family.layers, cell_frames=1)
        family.prefill_video(state, tokens, Method(), limits, chunk_cells=chunk_cells)
        hidden = family.prefill_text(state, suffix)
        found = family.logits(hidden)
        replied = family.generate(state, int(found.argmax()), 6)
        embed = stock.model.embed_tokens
        whole = torch.cat([embed(torch.tensor(prefix)), features, embed(torch.tensor(suffix))])[None]
        theirs = stock(inputs_embeds=whole).logits[0, -1]
        generated = stock.generate(inputs_embeds=whole, do_sample=False, max_new_tokens=6)[0].tolist()
    assert apart(found, theirs) < RTOL
    ends = family.stop_ids()
    assert replied == [token for token in generated if token not in ends]
    assert state.positions[0].tolist() == [list(range(state.positions[0].shape[1]))]


def test_the_prompt_is_the_trained_one(family: VideoChatFlash) -> None:
    """spec 4.5; the files' own template, which knows vision_start, is not used."""
    told = family.introduced("What comes next?", seconds=12.3456, frames=128)
    prefix, suffix = (family.tokenizer.decode(ids) for ids in family.prompt(told, video=True))
    assert prefix == "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
    assert suffix == (
        "\nThe video lasts for 12.35 seconds, and 128 frames are uniformly sampled from it. What comes next?"
        "<|im_end|>\n<|im_start|>assistant\n"
    )
    prefix, suffix = (family.tokenizer.decode(ids) for ids in family.prompt("Hi", video=False, system="Be brief."))
    assert prefix + suffix == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    )


# ---- through the engine


@pytest.fixture(scope="module")
def dense(clip: Path, family: VideoChatFlash) -> list[tuple[Any, ...]]:
    """What the dense run answers and costs."""
    found = answer(engine(family, chunk_cells=8, **QUICK), [DENSE], asked(clip))
    for one in found.values():
        assert one.ledger is not None, one.error
        assert one.ledger.tokens_encoded == 16 * 16
        assert one.ledger.ratio_achieved == 1
        assert one.prompt.count(TOLD) == 1
    return [exact_key(one) for one in found.values()]


@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n == "retake" else pytest.mark.slow) for n in ASKED])
def test_answers_spend_the_ratio_and_sharing_and_chunks_change_nothing(
    name: str, clip: Path, family: VideoChatFlash, dense: list[tuple[Any, ...]]
) -> None:
    points, questions = [replace(built(name), ratio=ratio) for ratio in (1.0, 0.25)], asked(clip)
    method = points[0].method
    shared = answer(engine(family, chunk_cells=8, **QUICK), points, questions)
    for key, one in shared.items():
        assert one.ledger is not None, (key, one.error)
        assert one.ledger.ratio_achieved == pytest.approx(key[1] if method.spends else 0, rel=0.02), key
        assert (one.prompt.count(TOLD) == 1) == method.spends
    if method.identity_at_one:
        assert [exact_key(shared[name, 1.0, q]) for q in ("q0", "q1")] == dense
    alone = answer(engine(family, chunk_cells=8, share=False, **QUICK), points, questions)
    assert {key: exact_key(one) for key, one in alone.items()} == {k: exact_key(one) for k, one in shared.items()}
    free = [p for p in points if p.ratio == 1 or type(p.method).evict is Method.evict]
    again = answer(engine(family, chunk_cells=None, **QUICK), free, questions[1:])
    assert all(alike(one, shared[key]) for key, one in again.items())


def test_smaller_frames_are_refused(clip: Path, family: VideoChatFlash) -> None:
    found = answer(engine(family), [OperatingPoint("lowres", LowRes(), 0.5)], [question(clip, 0)])
    assert "frames all have one size, 96 × 96" in str(found["lowres", 0.5, "q0"].error)


@pytest.mark.parametrize("name", ["aks", "bolt"])
def test_single_frames_are_refused(name: str, clip: Path, family: VideoChatFlash) -> None:
    found = answer(engine(family), [replace(built(name), ratio=0.5)], [question(clip, 0)])
    assert "not defined on a backbone whose encoder sees 4" in str(found[name, 0.5, "q0"].error)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("framefusion", "compares a place with the same place of another cell"),
        ("infinipot_v", "compares a place with the same place of another cell"),
        ("evs", "compares a place with the same place of another cell"),
        ("visionzip", "needs attention, keys of the vision encoder, and that of VideoChatFlash gives features alone"),
    ],
)
def test_what_its_tokens_cannot_say_is_refused(name: str, reason: str, clip: Path, family: VideoChatFlash) -> None:
    found = answer(engine(family), [replace(built(name), ratio=0.5)], [question(clip, 0)])
    assert reason in str(found[name, 0.5, "q0"].error)
    assert "not defined on this backbone" in str(found[name, 0.5, "q0"].error)


def spent(
    family: VideoChatFlash, point: OperatingPoint, asked: Question, monkeypatch: pytest.MonkeyPatch
) -> Iterator[int]:
    """Operations in the ledger, and those that torch counts."""
    with counted(monkeypatch) as counter:
        ((_, one),) = engine(family, chunk_cells=4, **QUICK).answers({point: [asked]})
    assert one.ledger is not None, one.error
    assert one.ledger.flops is not None
    yield sum(astuple(one.ledger.flops))
    yield counter.get_total_flops()


@pytest.mark.parametrize(
    ("name", "ratio"),
    [
        pytest.param("lpcomp", 0.25),
        pytest.param("retake", 1.0, marks=pytest.mark.slow),
        *(pytest.param(name, 0.25, marks=pytest.mark.slow) for name in ON_ONE_SIZE if name != "lpcomp"),
    ],
)
def test_operations_equal_the_counter(
    name: str, ratio: float, clip: Path, family: VideoChatFlash, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, theirs = spent(family, replace(built(name), ratio=ratio), question(clip, 0), monkeypatch)
    assert mine == theirs


def test_operations_of_merging_are_counted(family: VideoChatFlash, monkeypatch: pytest.MonkeyPatch) -> None:
    with torch.inference_mode(), counted(monkeypatch) as counter:
        family.encode(noise(8), slice_cells=8)
    assert family.encode_flops(8, GRID) == counter.get_total_flops()
    monkeypatch.setattr(tome, "flops", lambda *_: 0)
    assert family.encode_flops(8, GRID) < counter.get_total_flops()


# ---- settings


def test_longer_clips(tmp_path: Path) -> None:
    """XComp's training: 8 frames."""
    eight = load(str(random_checkpoint(tmp_path / "eight", mm_local_num_frames=8)), device="cpu")
    assert eight.clip_frames == 8
    with torch.inference_mode():
        assert eight.encode(noise(16), slice_cells=4).shape == (16 * 16, 32)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"mm_vision_tower": "internvideo2"}, "mm_vision_tower umt-large or umt-hd-large"),
        ({"mm_projector_type": "mlp2x_gelu"}, "mm_projector_type tome16_mlp_hd64"),
        ({"mm_newline_position": "frame"}, "mm_newline_position nothing"),
        ({"mm_llm_compress": True}, "mm_llm_compress False"),
    ],
)
def test_other_vision_sides_are_refused(folder: Path, tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for file in folder.iterdir():
        (other / file.name).symlink_to(file)
    (other / "config.json").unlink()
    (other / "config.json").write_text((folder / "config.json").read_text())
    edit(other, "config.json", lambda config: config.update(changes))
    with pytest.raises(ConfigError, match=said):
        load(str(other), device="cpu")


# ---- traces of the released code


def test_merging_as_traced(small_golden: Path) -> None:
    """In every clone: one clip."""
    folder = small_golden / "videochat_flash" / "tome"
    trace = load_file(folder / "f8_hw7_c64.safetensors")
    case = parity_videochat_flash.settings(folder)["f8_hw7_c64"]
    found, _ = parity_videochat_flash.merging(trace, case)
    assert set(found.found) == {"round 0", "round 1", "merged"}
    assert found.within(RTOL), str(found)
    wrong, _ = parity_videochat_flash.merging(trace, {**case, "num_attention_heads": 8})
    assert not wrong.within(RTOL)


@pytest.fixture(scope="module")
def traces(whole_golden: Path) -> Path:
    folder = whole_golden / "videochat_flash"
    if not folder.is_dir():
        pytest.skip(f"no traces of VideoChat-Flash at {folder}")
    return folder


@pytest.mark.slow
def test_traces_of_the_released_code(traces: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found, _ = parity_videochat_flash.videochat_flash(traces)
    assert {"tome f4_hw28_c16", "tome f8_hw7_c64", "umt frames4", "umt real_pos_8"} <= set(found)
    assert all(holds for holds, _ in found.values()), found
    assert parity.main(["videochat_flash", str(traces)]) == 0
    assert "left out" in capsys.readouterr().out


def spoiled_weight(trace: dict[str, Tensor]) -> dict[str, Tensor]:
    return trace | {"merged": trace["merged"].flip(1)}


def spoiled_order(trace: dict[str, Tensor]) -> dict[str, Tensor]:
    return trace | {"round1.unm_idx": trace["round1.unm_idx"].flip(1)}


def without_weights(trace: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in trace.items() if not name.startswith("w.")}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spoil", "ends"),
    [(spoiled_weight, 1), (spoiled_order, 1), (without_weights, 0)],
    ids=lambda v: getattr(v, "__name__", ""),
)
def test_a_trace_that_differs_is_found(
    traces: Path, tmp_path: Path, spoil: Callable[[dict[str, Tensor]], dict[str, Tensor]], ends: int
) -> None:
    """And one without weights takes those of the goldens."""
    (tmp_path / "tome").mkdir()
    save_file(
        spoil(load_file(traces / "tome" / "f8_hw7_c64.safetensors")), tmp_path / "tome" / "f8_hw7_c64.safetensors"
    )
    shutil.copy(traces / "tome" / "meta.json", tmp_path / "tome")
    found, left_out = parity_videochat_flash.videochat_flash(tmp_path)
    assert set(found) == {"tome f8_hw7_c64"}
    assert "out" in found["tome f8_hw7_c64"][1]
    assert any(line.startswith("tome f4_hw28_c16: no tensors") for line in left_out)
    assert parity.main(["videochat_flash", str(tmp_path)]) == ends


@pytest.mark.slow
def test_a_trace_of_other_frames_takes_the_golden_weights(traces: Path, tmp_path: Path) -> None:
    """8 frames, of which a trace was kept aside: the same weights, another table; what is not compared is named."""
    held = load_file(traces / "umt_tiny" / "frames4.safetensors")
    tower = videochat_flash_vision.UMT(32, 3, parity_videochat_flash.UMT_HEADS)
    tower.load_state_dict({k.removeprefix("w.encoder."): w for k, w in held.items() if k.startswith("w.")})
    pixels = torch.randn(1, 3, 8, 112, 112, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        seen = tower(pixels).view(1, 8, 49, 32)
    folder = tmp_path / "umt_tiny"
    folder.mkdir()
    for error, holds in ((0.0, True), (0.1, False)):
        save_file({"x": pixels, "video_out": seen + error, "odd": torch.ones(1)}, folder / "frames8.safetensors")
        found, left_out = parity_videochat_flash.videochat_flash(tmp_path)
        assert found["umt frames8"][0] == holds
        assert left_out == ["umt frames8: tensors that are not compared: odd"]


@pytest.fixture(scope="module")
def with_traced_weights(whole_golden: Path) -> VideoChatFlash:
    """The family around the language model of XComp's traces; its vision side is random."""
    reference = parity_xcomp.backbone_of(whole_golden / "xcomp").model
    sizes = {name: value for name, value in reference.config.to_dict().items() if name != "model_type"}
    vision = {"mm_hidden_size": 32, "mm_vision_layers": 3, "mm_vision_heads": 2, "mm_frame_pixels": PIXELS}
    config = VideoChatFlashConfig(**sizes, **vision, attn_implementation=attention.register())
    model = VideoChatFlashForCausalLM(config)
    missing, unexpected = model.load_state_dict(reference.state_dict(), strict=False)
    assert not unexpected
    assert all("vision_tower" in name or "mm_projector" in name for name in missing)
    return VideoChatFlash(model.eval(), None)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["suffix_cosine", "identity"])
def test_lp_comp_on_the_family_equals_its_trace(
    name: str, whole_golden: Path, with_traced_weights: VideoChatFlash
) -> None:
    folder = whole_golden / "xcomp" / "lp_comp"
    method = parity_xcomp.method_of(json.loads((folder / "meta.json").read_text())[name])
    assert method is not None
    family: Any = with_traced_weights
    assert parity_xcomp.replay(family, folder, name, method, chunk_cells=5).within(RTOL)


@pytest.mark.slow
def test_qc_comp_on_the_family_equals_its_traces(whole_golden: Path, with_traced_weights: VideoChatFlash) -> None:
    family: Any = with_traced_weights
    (file,) = (whole_golden / "xcomp" / "qc_comp").glob("clip_scores_*.safetensors")
    found = parity_xcomp.clip_scores(family, file)
    assert len(found) > 1
    assert all(scores.within(parity_xcomp.SCORES_TOLERANCE) for scores in found.values())
    wrong = parity_xcomp.clip_scores(family, file, causal=True)
    assert not any(scores.within(parity_xcomp.SCORES_TOLERANCE) for scores in wrong.values())
