"""Wrong checkpoints are refused by name, before a run folder exists; right ones are read as they are published."""

from __future__ import annotations

import builtins
import io
import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from evalkit.errors import ConfigError
from evalkit.model import adapter
from evalkit.model.load import check, load
from evalkit.model.weights_identity import weights_identity
from tests.support.checkpoints import INDEX, SHARDS, copied, edit, published, rewrite
from tests.support.refused_runs import one_question, refused
from tests.support.run_eval import run_eval

pytestmark = pytest.mark.slow


@pytest.fixture
def folder(checkpoint: Path, tmp_path: Path) -> Path:
    """A checkpoint to spoil."""
    return copied(checkpoint, tmp_path / "checkpoint")


# ---- right ones


def test_the_published_layout_is_read(checkpoint: Path, tmp_path: Path) -> None:
    """Flat config.json, published names of tensors, two shards: the same model."""
    theirs = published(checkpoint, tmp_path / "theirs")
    assert "text_config" not in json.loads((theirs / "config.json").read_text())
    assert "model.layers.0.mlp.up_proj.weight" in json.loads((theirs / INDEX).read_text())["weight_map"]
    assert check(str(theirs)) == {"repetition_penalty": 1.05}
    one, other = load(str(theirs), device="cpu"), load(str(checkpoint), device="cpu")
    with torch.inference_mode():
        found, expected = (b.logits(b.prefill_text(b.new_state(), [5, 6, 7])) for b in (one, other))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)  # weights lie at other places in their files
    weights = one.model.state_dict()
    assert all(torch.equal(weights[name], weight) for name, weight in other.model.state_dict().items())


def test_qwen25_is_read(qwen25: Path, tmp_path: Path) -> None:
    theirs = copied(qwen25, tmp_path / "theirs")
    with pytest.raises(ConfigError, match="tokenizer"):
        check(str(theirs))
    (theirs / "tokenizer.json").write_text("{}")
    assert check(str(theirs)) == {}


def tied(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: weight for name, weight in tensors.items() if name != "lm_head.weight"}


def test_a_tied_head_is_no_tensor_of_its_own(folder: Path) -> None:
    rewrite(folder, tied)
    with pytest.raises(ConfigError, match=r"1 missing \(lm_head\.weight\)"):
        check(str(folder))
    edit(
        folder,
        "config.json",
        lambda c: c.update(tie_word_embeddings=True) or c["text_config"].update(tie_word_embeddings=True),
    )
    assert check(str(folder)) == {}
    model = load(str(folder), device="cpu").model
    assert model.lm_head.weight is model.get_input_embeddings().weight


# ---- wrong ones


def without_15(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return dict(list(tensors.items())[15:])


def misshapen(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    name = "model.layers.1.mlp.up_proj.weight"
    return {**tensors, name: tensors[name][:-8]}


def prefixed(prefix: str) -> Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]:
    return lambda tensors: {prefix + name: weight for name, weight in tensors.items()}


def extra(name: str) -> Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]:
    return lambda tensors: {**tensors, name: torch.zeros(3)}


SPOILED = {
    "missing": (without_15, r"15 missing \(lm_head\.weight, model\.language_model\.embed_tokens\.weight.* …\)"),
    "unexpected": (extra("model.layers.0.scale"), r"1 unexpected \(model.*layers\.0\.scale\)"),
    "misshapen": (
        misshapen,
        r"1 of another shape \(model\.language_model\.layers\.1\.mlp\.up_proj\.weight 376×128 for 384×128",
    ),
    "module.": (prefixed("module."), r"106 missing .* 106 unexpected .*every name begins with 'module\.'"),
    "student.": (prefixed("student.model."), "every name begins with 'student"),
    "lora": (extra("model.layers.0.self_attn.q_proj.lora_A.weight"), "unmerged LoRA"),
    "quantised": (lambda t: {**t, "lm_head.weight": t["lm_head.weight"].to(torch.int8)}, "as I8.*quantised"),
}


@pytest.mark.parametrize("how", SPOILED)
def test_other_tensors_than_the_models_are_named(folder: Path, how: str) -> None:
    """From the headers, and again by `load` itself, which transformers would let go on with random weights."""
    change, message = SPOILED[how]
    rewrite(folder, change)
    for reading in (check, load):
        with pytest.raises(ConfigError, match=message) as caught:
            reading(str(folder))
        assert "\n" not in str(caught.value)


def lost_shard(folder: Path) -> None:
    (folder / SHARDS[1]).unlink()


def cut_shard(folder: Path) -> None:
    os.truncate(folder / SHARDS[1], (folder / SHARDS[1]).stat().st_size - 8)


def lying_index(folder: Path) -> None:
    save_file(dict(list(load_file(folder / SHARDS[1]).items())[1:]), folder / SHARDS[1], metadata={"format": "pt"})


def elsewhere(folder: Path) -> None:
    edit(folder, INDEX, lambda i: i["weight_map"].update({"lm_head.weight": f"../{folder.name}/{SHARDS[0]}"}))


SHARDED = {
    lost_shard: rf"1 of 2 weight files that {INDEX} names are missing: {SHARDS[1]}",
    cut_shard: f"{SHARDS[1]} cannot be read as safetensors",
    lying_index: "1 missing",
    elsewhere: r"are missing: \.\./",
}


@pytest.mark.parametrize("spoil", SHARDED)
def test_shards_must_be_there_and_whole(checkpoint: Path, tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    folder = published(checkpoint, tmp_path / "theirs")
    spoil(folder)
    for reading in (check, load):
        with pytest.raises(ConfigError, match=SHARDED[spoil]):
            reading(str(folder))


def pickled(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def lora(folder: Path) -> None:
    edit(folder, "adapter_config.json", lambda c: c.update(base_model_name_or_path="Qwen/Qwen2-VL-7B-Instruct"))


SETTINGS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "pickled": (pickled, r"pickled weights \(pytorch_model\.bin\), which are never loaded"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "found neither"),
    "no config": (lambda f: (f / "config.json").unlink(), r"it has no config\.json"),
    "broken config": (lambda f: (f / "config.json").write_text("{"), r"config\.json is no JSON"),
    "odd config": (lambda f: edit(f, "config.json", lambda c: c["text_config"].update(hidden_size="x")), "hidden_size"),
    "other family": (lambda f: edit(f, "config.json", lambda c: c.update(model_type="llava_next")), "qwen2_vl"),
    "LoRA": (lora, "give the checkpoint that it changes as backbone.path and this folder as backbone.adapter"),
    "quantised": (lambda f: edit(f, "config.json", lambda c: c.update(quantization_config={"bits": 4})), "quantised"),
    "no tokenizer": (lambda f: [g.unlink() for g in f.glob("*token*")], "expected a tokenizer"),
    "beams": (
        lambda f: edit(f, "generation_config.json", lambda c: c.update(guidance_scale=1.5)),
        r"generation_config\.json: .*got {'guidance_scale': 1\.5}",
    ),
    "code of the model": (
        lambda f: edit(f, "config.json", lambda c: c.update(auto_map={"AutoConfig": "evil.Config"})),
        r"auto_map in config\.json asks for code of the repository's own",
    ),
    "code of the tokenizer": (
        lambda f: edit(f, "tokenizer_config.json", lambda c: c.update(auto_map={"AutoTokenizer": ["evil.T", None]})),
        r"auto_map in tokenizer_config\.json",
    ),
}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return one_question(tmp_path / "data")


@pytest.mark.slow
@pytest.mark.parametrize("how", SETTINGS)
def test_a_run_is_refused_before_it_has_a_folder(
    folder: Path, data: Path, tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(builtins, "input", lambda *_: pytest.fail("somebody is asked"))
    (folder / "evil.py").write_text("raise SystemExit('code of the checkpoint was run')")
    spoil, message = SETTINGS[how]
    spoil(folder)
    assert re.search(message, refused(data, tmp_path / "results", f"backbone.path={folder}"))


def test_tensors_are_checked_before_a_run_has_a_folder(folder: Path, data: Path, tmp_path: Path) -> None:
    rewrite(folder, without_15)
    assert "15 missing" in refused(data, tmp_path / "results", f"backbone.path={folder}")


@pytest.mark.parametrize("path", ["/nonexistent", "nonexistent", "./no/where"])
def test_a_folder_that_is_not_there(data: Path, tmp_path: Path, path: str) -> None:
    assert "no such folder" in refused(data, tmp_path / "results", f"backbone.path={path}")
    assert "that is a file" in refused(data, tmp_path / "results", f"backbone.path={Path(__file__)}")


def test_an_adapter_that_does_not_fit(checkpoint: Path, data: Path, tmp_path: Path) -> None:
    for name, tensors in {
        "unknown": {"no.such.weight": torch.zeros(2)},
        "misshapen": {"lm_head.weight": torch.zeros(2, 2)},
    }.items():
        (tmp_path / name).mkdir()
        save_file(tensors, tmp_path / name / "model.safetensors")
        message = refused(
            data, tmp_path / "results", f"backbone.path={checkpoint}", f"backbone.adapter={tmp_path / name}"
        )
        assert next(iter(tensors)) in message


def test_a_lora_that_does_not_fit(checkpoint: Path, data: Path, tmp_path: Path) -> None:
    """On a model without weights, as a run looks at it before it has a folder."""
    model = load(str(checkpoint), device="cpu").model
    config = adapter.peft().LoraConfig(r=2, target_modules=r".*language_model\.layers\.\d+\.mlp\.up_proj")
    with adapter.without_old_names():
        wrapped = adapter.peft().get_peft_model(model, config)
    adapter.save_lora(wrapped, tmp_path / "lora", {"backbone": "tiny"})
    assert check(str(checkpoint), adapter=str(tmp_path / "lora")) == {}
    file = tmp_path / "lora" / "adapter_model.safetensors"
    tensors = load_file(file)
    name = next(iter(tensors))
    for spoiled, message in (
        ({k: w for k, w in tensors.items() if k != name}, "missing adapter keys"),
        ({**tensors, name.replace("layers.0", "layers.77"): tensors[name] + 0}, "no place for"),
        ({**tensors, name: tensors[name][:1]}, "size mismatch"),
    ):
        save_file(spoiled, file, metadata={"format": "pt"})
        more = (f"backbone.path={checkpoint}", f"backbone.adapter={tmp_path / 'lora'}")
        assert message in refused(data, tmp_path / "results", *more)
        with pytest.raises(ConfigError, match=message):
            load(str(checkpoint), device="cpu", adapter=str(tmp_path / "lora"))


@pytest.mark.slow
def test_no_answer_to_a_question_runs_code(
    folder: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Somebody types y."""
    edit(folder, "config.json", lambda c: c.update(auto_map={"AutoConfig": "evil.Config"}))
    (folder / "evil.py").write_text("from pathlib import Path\nPath('was_here').touch()\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\ny\n"))
    where = [f"benchmark.root={data}", f"backbone.path={folder}", f"results_dir={tmp_path / 'results'}"]
    code, stderr = run_eval("benchmark=mlvu", "backbone=tiny_random", *where), capsys.readouterr().err
    assert code == 2, stderr
    assert "auto_map" in stderr
    assert "Traceback" not in stderr
    assert not (tmp_path / "was_here").exists()
    assert not (tmp_path / "results").exists()


def test_the_template_is_part_of_the_identity(folder: Path) -> None:
    before = weights_identity(str(folder))
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    assert weights_identity(str(folder)) != before
    shutil.rmtree(folder)
    with pytest.raises(ConfigError, match="no such folder"):
        weights_identity(str(folder))
