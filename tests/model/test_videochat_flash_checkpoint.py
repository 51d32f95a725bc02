"""The published safetensors of VideoChat-Flash: every tensor has a place, and every place its tensor."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from evalkit.errors import ConfigError
from evalkit.model.load import check, load, skeleton
from evalkit.tiny import tokenizer
from tests.support.checkpoints import rewrite
from tests.support.videochat_flash import PUBLISHED, random_checkpoint

pytestmark = pytest.mark.slow

Shapes = dict[str, list[int]]
# source: config.json of OpenGVLab/VideoChat-Flash-Qwen2_5-2B_res448, as XComp's repository has it, and of Qwen2-7B
SMALL = {"hidden_size": 1536, "intermediate_size": 8960, "num_attention_heads": 12, "num_key_value_heads": 2}
SMALL |= {"num_hidden_layers": 28, "vocab_size": 151936, "max_position_embeddings": 32768}
LARGE = {"hidden_size": 3584, "intermediate_size": 18944, "num_attention_heads": 28, "num_key_value_heads": 4}
LARGE |= {"num_hidden_layers": 28, "vocab_size": 152064, "max_position_embeddings": 32768}


def published(sizes: dict[str, int], *, tied: bool) -> Shapes:
    """Names and shapes, written down from the released modules: 303 tensors of the vision tower, 4 of the projector."""
    vision, width, inner = 1024, sizes["hidden_size"], sizes["intermediate_size"]
    keys = width // sizes["num_attention_heads"] * sizes["num_key_value_heads"]
    found: Shapes = {"model.embed_tokens.weight": [sizes["vocab_size"], width], "model.norm.weight": [width]}
    for i in range(sizes["num_hidden_layers"]):
        layer = f"model.layers.{i}."
        for name, rows, columns in (("q", width, width), ("k", keys, width), ("v", keys, width)):
            found[f"{layer}self_attn.{name}_proj.weight"] = [rows, columns]
            found[f"{layer}self_attn.{name}_proj.bias"] = [rows]
        found[f"{layer}self_attn.o_proj.weight"] = [width, width]
        found |= {f"{layer}mlp.{name}_proj.weight": [inner, width] for name in ("gate", "up")}
        found[f"{layer}mlp.down_proj.weight"] = [width, inner]
        found |= {f"{layer}{name}_layernorm.weight": [width] for name in ("input", "post_attention")}
    if not tied:
        found["lm_head.weight"] = [sizes["vocab_size"], width]
    encoder = "model.vision_tower.vision_tower.encoder."
    found |= {f"{encoder}patch_embed.proj.weight": [vision, 3, 1, 16, 16], f"{encoder}patch_embed.proj.bias": [vision]}
    found |= {f"{encoder}vision_layernorm.{part}": [vision] for part in ("weight", "bias")}
    for i in range(23):
        block = f"{encoder}blocks.{i}."
        found |= {f"{block}{norm}.{part}": [vision] for norm in ("norm1", "norm2") for part in ("weight", "bias")}
        found |= {f"{block}attn.{bias}": [vision] for bias in ("q_bias", "v_bias", "proj.bias")}
        found |= {f"{block}attn.qkv.weight": [3 * vision, vision], f"{block}attn.proj.weight": [vision, vision]}
        found |= {f"{block}mlp.fc1.weight": [4 * vision, vision], f"{block}mlp.fc1.bias": [4 * vision]}
        found |= {f"{block}mlp.fc2.weight": [vision, 4 * vision], f"{block}mlp.fc2.bias": [vision]}
    projector = "model.mm_projector.mlp."
    found |= {f"{projector}0.weight": [width, vision], f"{projector}0.bias": [width]}
    return found | {f"{projector}2.weight": [width, width], f"{projector}2.bias": [width]}


def written(folder: Path, shapes: Shapes, sizes: dict[str, int], *, tied: bool) -> Path:
    """A checkpoint of full size whose weights are a hole in the file: there is nothing to read but its header."""
    folder.mkdir()
    header, end = {}, 0
    for name, shape in shapes.items():
        size = 2 * int(torch.tensor(shape).prod())
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)
    config = {**PUBLISHED, **sizes, "mm_hidden_size": 1024, "mm_local_num_frames": 4, "tie_word_embeddings": tied}
    (folder / "config.json").write_text(json.dumps({**config, "torch_dtype": "bfloat16", "eos_token_id": 151645}))
    tokenizer.save(folder)
    return folder


def test_the_list_is_the_published_one() -> None:
    """303 and 4: counted on the hub's own files by others."""
    names = list(published(SMALL, tied=True))
    assert sum(name.startswith("model.vision_tower.") for name in names) == 303
    assert sum(name.startswith("model.mm_projector.") for name in names) == 4
    assert len(names) == 303 + 4 + 28 * 12 + 2


@pytest.mark.parametrize(("sizes", "tied"), [(SMALL, True), (LARGE, False)], ids=["2b", "7b"])
def test_every_published_tensor_has_a_place(tmp_path: Path, sizes: dict[str, int], tied: bool) -> None:
    shapes = published(sizes, tied=tied)
    folder = written(tmp_path / "hub", shapes, sizes, tied=tied)
    assert check(str(folder), dtype="bfloat16") == {}
    found = skeleton(str(folder), dtype="bfloat16")
    mine = {name: list(weight.shape) for name, weight in found.model.state_dict().items()}
    if tied:
        assert mine.pop("lm_head.weight") == mine["model.embed_tokens.weight"]
    assert mine == shapes
    assert (found.frame_size, found.clip_frames, found.token_grid(448, 448)) == ((448, 448), 4, (1, 16))
    assert found.kv_entry_bytes == 2 * 128 * sizes["num_key_value_heads"] * 2


def renamed(shapes: Shapes) -> Shapes:
    return {name.replace("vision_tower.vision_tower.", "vision_tower."): shape for name, shape in shapes.items()}


def deeper(shapes: Shapes) -> Shapes:
    """The block that is not run, too."""
    last = {
        name.replace(".blocks.22.", ".blocks.23."): shape for name, shape in shapes.items() if ".blocks.22." in name
    }
    return shapes | last


def without_a_bias(shapes: Shapes) -> Shapes:
    return {name: shape for name, shape in shapes.items() if not name.endswith("blocks.3.attn.q_bias")}


def wider(shapes: Shapes) -> Shapes:
    return shapes | {"model.mm_projector.mlp.0.weight": [1536, 1408]}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (renamed, "303 missing"),
        (deeper, "13 unexpected"),
        (without_a_bias, r"1 missing \(model\.vision_tower\.vision_tower\.encoder\.blocks\.3\.attn\.q_bias\)"),
        (wider, "1 of another shape"),
    ],
)
def test_other_tensors_are_refused(tmp_path: Path, change: Callable[[Shapes], Shapes], said: str) -> None:
    folder = written(tmp_path / "hub", change(published(SMALL, tied=True)), SMALL, tied=True)
    with pytest.raises(ConfigError, match=said):
        check(str(folder), dtype="bfloat16")


def test_values_arrive(tmp_path: Path) -> None:
    """Of a small one, whose auto_map names code that is not there: it is not looked for."""
    folder = random_checkpoint(tmp_path / "small")
    assert "auto_map" in json.loads((folder / "config.json").read_text())
    model = load(str(folder), device="cpu").model
    tensors = load_file(folder / "model.safetensors")
    assert "lm_head.weight" not in tensors
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert all(torch.equal(model.state_dict()[name], weight) for name, weight in tensors.items())


def test_what_xcomp_trains_is_read(tmp_path: Path) -> None:
    """LLaVA's training leaves the same names, with the head beside the embedding where it is written out."""
    folder = random_checkpoint(
        tmp_path / "xcomp", mm_local_num_frames=8, mm_tunable_parts="mm_mlp_adapter,mm_language_model"
    )
    rewrite(folder, lambda tensors: tensors | {"lm_head.weight": tensors["model.embed_tokens.weight"]})
    assert check(str(folder)) == {}
    found = load(str(folder), device="cpu")
    assert found.clip_frames == 8
    assert found.model.lm_head.weight is found.model.model.embed_tokens.weight
