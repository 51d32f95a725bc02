"""Weights, tokenizers and adapters that are not what they seem: one error before there is a run folder."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from evalkit.engine.backbone import Backbone
from evalkit.errors import ConfigError
from evalkit.model import adapter, file_hashes, prompt_check, weights_identity
from evalkit.model.checkpoint import locate
from evalkit.model.load import check, load
from evalkit.model.weights_identity import weights_identity as identity
from tests.support.adapters import LAYER, tuned
from tests.support.checkpoints import copied, edit, rewrite
from tests.support.refused_runs import one_question, refused

TEMPLATE = "chat_template.jinja"
PIXELS = "video_preprocessor_config.json"


@pytest.fixture
def folder(checkpoint: Path, tmp_path: Path) -> Path:
    """A checkpoint to spoil."""
    return copied(checkpoint, tmp_path / "checkpoint")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return one_question(tmp_path / "data")


# ---- tokenizer, template, preprocessor


def no_vision_tokens(folder: Path) -> None:
    text = (folder / "tokenizer.json").read_text()
    (folder / "tokenizer.json").write_text(text.replace("<|vision_start|>", "<|spare_token|>"))


def smaller_embedding(folder: Path) -> None:
    """Fewer rows than the tokenizer has ids."""
    rewrite(folder, lambda tensors: {k: w[:900] if w.shape[0] == 960 else w for k, w in tensors.items()})
    edit(folder, "config.json", lambda c: c["text_config"].update(vocab_size=900, pad_token_id=None))


def template(text: str) -> Callable[[Path], Any]:
    return lambda folder: (folder / TEMPLATE).write_text(text)


SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('no system turn') }}{% endif %}"
SPOILED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "template raises": (template("{{ raise_exception('not today') }}"), "cannot write a question.*not today"),
    "template with an error": (template("{% for %}"), "chat template cannot write a question about a video"),
    "template without video": (template("hello"), "expected one"),
    "template without question": (template("<|video_pad|>"), "leaves the question out"),
    "template without system turns": (
        template(SYSTEM + "<|video_pad|>{{ messages[-1].content[1].text }}"),
        "no system turn",
    ),
    "no vision tokens": (no_vision_tokens, r"it has no <\|vision_start\|>"),
    "garbled tokenizer": (lambda f: (f / "tokenizer.json").write_text('{"version": '), "expected a tokenizer that"),
    "ids beyond the embedding": (smaller_embedding, r"the embedding has 900 rows, and the tokenizer gives \d+ ids"),
    "garbled preprocessor": (lambda f: (f / PIXELS).write_bytes(b"\xff{"), f"{PIXELS} is no JSON"),
    "no deviation": (
        lambda f: edit(f, PIXELS, lambda c: c.update(image_std=[0.5, 0, 0.5])),
        r"expected image_std with three numbers above 0, got \[0.5, 0, 0.5\]",
    ),
    "no number": (lambda f: edit(f, PIXELS, lambda c: c.update(image_mean=[0.5, "x", 0.5])), "expected image_mean"),
    "one of the two": (lambda f: edit(f, PIXELS, lambda c: c.pop("image_mean")), "expected image_mean .* got None"),
}


@pytest.mark.slow
@pytest.mark.parametrize("how", SPOILED)
def test_what_no_question_can_be_asked_with(folder: Path, data: Path, tmp_path: Path, how: str) -> None:
    spoil, message = SPOILED[how]
    spoil(folder)
    # official: the protocol with a system turn
    assert re.search(message, refused(data, tmp_path / "results", f"backbone.path={folder}", "protocol=official"))


def test_a_tokenizer_that_is_not_looked_at_would_answer(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The negative control: letters stand where a special token should."""
    no_vision_tokens(folder)
    backbone = Backbone(name="tiny", checkpoint=locate(str(folder)), device="cpu")
    with pytest.raises(ConfigError, match="vision_start"):
        backbone.expect_prompt(None, "")
    monkeypatch.setattr(prompt_check, "_expect_tokens", lambda *_: None)
    backbone.expect_prompt(None, "")
    prefix, _ = backbone.model.prompt("?", video=True)
    assert len(prefix) > 10


# ---- weights


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_a_number_that_is_none(folder: Path, value: float) -> None:
    def spoil(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        tensors["lm_head.weight"][3, 7] = value
        return tensors

    rewrite(folder, spoil)
    check(str(folder))  # headers alone look well
    with pytest.raises(ConfigError, match=r"lm_head\.weight: expected finite numbers, 1 of"):
        load(str(folder), device="cpu")


def test_an_adapter_with_a_number_that_is_none(checkpoint: Path, tmp_path: Path) -> None:
    own = tuned(checkpoint, tmp_path / "own", LAYER)
    rewrite(own, lambda tensors: {name: w.index_fill(0, torch.tensor([1]), torch.nan) for name, w in tensors.items()})
    with pytest.raises(ConfigError, match=r"q_proj\.weight: expected finite numbers"):
        load(str(checkpoint), device="cpu", adapter=str(own))


@pytest.mark.slow
def test_an_adapter_of_another_base(
    checkpoint: Path, data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """For all methods or for one; tuned on these weights, or on none that it names, it is taken."""
    own = tuned(checkpoint, tmp_path / "own", LAYER)
    check(str(checkpoint), adapter=str(own))
    for base in (identity(str(checkpoint)), "another"):
        (own / adapter.NOTE).write_text(json.dumps({"base": base}))
        if base != "another":
            check(str(checkpoint), adapter=str(own))
    path = f"backbone.path={checkpoint}"
    said = refused(data, tmp_path / "results", path, f"backbone.adapter={own}")
    assert f"was tuned on weights another, and those of this backbone are {identity(str(checkpoint))}" in said
    said = refused(data, tmp_path / "results", path, "methods=[uniform,{from: xcomp, adapter: builtin/xcomp}]")
    assert said.startswith("method xcomp: ")
    with pytest.raises(ConfigError, match="adapter_any_base=true"):
        load(str(checkpoint), device="cpu", adapter=str(own))
    assert check(str(checkpoint), adapter=str(own), adapter_any_base=True) == {}
    assert "was tuned on weights another" in caplog.text


# ---- identity of large files


@pytest.fixture
def large(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkpoint whose weights count as large; nothing is remembered yet."""
    monkeypatch.setattr(weights_identity, "WHOLE_FILE_BYTES", 2**20)
    monkeypatch.setattr(file_hashes, "cache_folder", lambda: tmp_path / "cache")
    monkeypatch.setattr(file_hashes, "_known", {})
    return folder


def change_a_byte(file: Path) -> None:
    """In the middle, with the same size and the same time of the last change."""
    before = file.stat()
    with file.open("r+b") as stream:
        stream.seek(before.st_size // 2 + 12345)
        byte = stream.read(1)
        stream.seek(-1, 1)
        stream.write(bytes([byte[0] ^ 1]))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_one_byte_makes_another_model(large: Path) -> None:
    before = identity(str(large))
    assert identity(str(large)) == before
    change_a_byte(large / "model.safetensors")
    assert identity(str(large)) != before


def test_a_large_file_is_read_once(large: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By this process and by the next, unless what is remembered cannot be read."""
    reading: list[str] = []
    digest = file_hashes.hashlib.file_digest

    def counted(stream: Any, kind: str) -> Any:
        reading.append(stream.name)
        return digest(stream, kind)

    monkeypatch.setattr(file_hashes.hashlib, "file_digest", counted)
    before = identity(str(large))
    assert (identity(str(large)), len(reading)) == (before, 1)
    file_hashes._known.clear()  # as in the next process
    assert (identity(str(large)), len(reading)) == (before, 1)
    for remembered in ("{", "[]", '{"a": 1}', "[" * 100_000, ""):
        file_hashes._known.clear()
        (tmp_path / "cache" / file_hashes.NAME).write_text(remembered)
        assert identity(str(large)) == before
    assert len(reading) == 6
    monkeypatch.setattr(file_hashes, "cache_folder", lambda: large / "config.json")  # no folder
    change_a_byte(large / "model.safetensors")
    assert identity(str(large)) == identity(str(large)) != before
    assert len(reading) == 7


def test_a_file_of_the_hubs_cache_is_called_by_its_hash(large: Path, tmp_path: Path) -> None:
    before = identity(str(large))
    (real,) = [entry[-1] for entry in file_hashes._known.values()]
    blob = tmp_path / "models--a--b" / "blobs" / str(real)
    blob.parent.mkdir(parents=True)
    (large / "model.safetensors").rename(blob)
    (large / "model.safetensors").symlink_to(blob)
    file_hashes._known.clear()
    assert identity(str(large)) == before
    assert not file_hashes._known
