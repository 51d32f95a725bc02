"""A tuned model beside the one that it changes: the same as loaded alone, and what it leaves alone is stored once."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from evalkit.errors import ConfigError
from evalkit.model import adapter
from evalkit.model.families.qwen2_vl import Qwen2VL
from evalkit.model.load import load, load_beside
from evalkit.model.shared_weights import same_encoder
from tests.support.adapters import LAYER, MERGER, tuned

EMBEDDING = "model.language_model.embed_tokens.weight"


@pytest.fixture(params=["replaced", "LoRA", "LoRA with a layer saved whole"])
def folder(request: pytest.FixtureRequest, checkpoint: Path, tmp_path: Path) -> tuple[Path, set[str]]:
    """An adapter, and the tensors that it changes."""
    if request.param == "replaced":
        return tuned(checkpoint, tmp_path / "own", LAYER, EMBEDDING), {LAYER, EMBEDDING}
    saved = ["merger.mlp.2"] if "whole" in request.param else None
    wanted = r".*language_model\.layers\.[01]\.mlp\.up_proj"
    config = adapter.peft().LoraConfig(r=2, target_modules=wanted, modules_to_save=saved, init_lora_weights=False)
    with adapter.without_old_names():
        model = adapter.peft().get_peft_model(load(str(checkpoint), device="cpu").model, config)
    for parameter in model.parameters():  # what peft saves whole is a copy that tuning would change
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.1)
    adapter.save_lora(model, tmp_path / "own", {"backbone": "tiny"})
    changed = {f"model.language_model.layers.{layer}.mlp.up_proj.weight" for layer in (0, 1)}
    return tmp_path / "own", changed | ({MERGER, MERGER.replace("weight", "bias")} if saved else set())


def test_beside_another_it_is_the_model_that_is_loaded_alone(
    checkpoint: Path, folder: tuple[Path, set[str]], tmp_path: Path
) -> None:
    place, changed = folder
    base = load(str(checkpoint), device="cpu")
    before = {name: weight.clone() for name, weight in base.model.state_dict().items()}
    alone = load(str(checkpoint), device="cpu", adapter=str(place)).model.state_dict()
    own = load_beside(base, str(checkpoint), str(place))
    found, theirs = own.model.state_dict(), base.model.state_dict()
    assert found.keys() == alone.keys() == theirs.keys()
    for name, weight in found.items():
        assert torch.equal(weight, alone[name]), name
        assert torch.equal(theirs[name], before[name]), name  # the model beside it stays as it was
    apart = {name for name, weight in found.items() if weight.data_ptr() != theirs[name].data_ptr()}
    tied = {"lm_head.weight"} if EMBEDDING in changed and base.model.config.tie_word_embeddings else set()
    assert apart == changed | tied
    assert all(not torch.equal(found[name], theirs[name]) for name in apart)
    assert same_encoder(own, base) == (MERGER not in changed)
    assert own.model is not base.model
    assert not {id(m) for m in own.model.modules()} & {id(m) for m in base.model.modules()}  # hooks are each one's own


def test_the_same_features_only_from_the_same_tensors(checkpoint: Path, backbone: Qwen2VL, tmp_path: Path) -> None:
    """An equal copy counts as another encoder: what is shared is what cannot differ."""
    text, vision = (tuned(checkpoint, tmp_path / name, name) for name in (LAYER, MERGER))
    assert same_encoder(backbone, backbone)
    assert same_encoder(backbone, load_beside(backbone, str(checkpoint), str(text)))
    assert not same_encoder(backbone, load_beside(backbone, str(checkpoint), str(vision)))
    assert not same_encoder(backbone, load(str(checkpoint), device="cpu"))


def test_what_cannot_be_attributed_changes_everything(checkpoint: Path, tmp_path: Path) -> None:
    names = ["a.weight", "b.proj.weight", "b.proj.bias"]
    (tmp_path / "lora").mkdir()
    file = tmp_path / "lora" / "adapter_model.safetensors"
    settings = tmp_path / "lora" / "adapter_config.json"
    settings.write_text('{"peft_type": "LORA"}')
    for key, expected in {
        "b.proj.lora_A.weight": {"b.proj.weight", "b.proj.bias"},
        "b.proj.base_layer.bias": {"b.proj.bias"},
        "a.weight": {"a.weight"},
        "c.lora_A.weight": set(names),
        "b.pro.lora_A.weight": set(names),  # a part of a name is not the name
    }.items():
        save_file({f"base_model.model.{key}": torch.zeros(1)}, file, metadata={"format": "pt"})
        assert adapter.changed(str(tmp_path / "lora"), names) == expected, key
    for other in ('{"peft_type": "IA3"}', '{"peft_type": "LORA", "layer_replication": [[0, 2]]}'):
        settings.write_text(other)
        save_file({"base_model.model.a.weight": torch.zeros(1)}, file, metadata={"format": "pt"})
        assert adapter.changed(str(tmp_path / "lora"), names) == set(names)


def test_an_adapter_by_its_name() -> None:
    assert adapter.locate("builtin/xcomp") == adapter.BUILTIN / "xcomp"
    assert adapter.check("builtin/xcomp").is_dir()
    assert load_file(adapter.check("builtin/xcomp") / "model.safetensors")
    with pytest.raises(ConfigError, match=r"builtin/ and one of \['xcomp'\]"):
        adapter.locate("builtin/nothing")
    with pytest.raises(ConfigError, match="expected a folder with"):
        adapter.check("/no/where")
