"""The small model's tokenizer, checkpoint folder, and training machinery."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from evalkit.model.packed_questions import packed_mask
from evalkit.tiny import model, prompts, tokenizer
from evalkit.tiny.training import batches, language, recipe, stages, symbols, train, vision
from evalkit.tiny.training.shape import Shape
from evalkit.tiny.videos import questions
from evalkit.tiny.videos.world import COLORS, DIGITS, OBJECTS, PLACES, draw

SHAPE = Shape(videos=2, questions=3, dense=64, cells=8, tokens=24)


@pytest.fixture(scope="module")
def random_model() -> object:
    return model.random_model(0)


@pytest.mark.parametrize(
    "text", ["", "plain words", "  spaces \n\n and\ttabs ", "日本語 🎉 é", "A. star\n(B) 7", "x" * 300]
)
def test_any_text_round_trips(text: str) -> None:
    words = tokenizer.build()
    assert words.decode(words.encode(text)) == text


def test_words_of_the_questions_are_single_tokens() -> None:
    words = tokenizer.build()
    for word in (*PLACES, *COLORS, *OBJECTS, *DIGITS, *questions.COUNTS):
        assert len(words.encode(" " + word)) == 1, word
    for letter in "ABCDEFabcdef":
        assert len(words.encode(letter)) == 1


@pytest.mark.parametrize("benchmark", prompts.FORMATS)
def test_training_prompts_are_those_of_the_chat_template(benchmark: str) -> None:
    words = tokenizer.build()
    choice = questions.choose(questions.ask(draw(0), ["needle"])[0], 1, np.random.default_rng(0))
    content = [{"type": "video"}, {"type": "text", "text": prompts.prompt(choice, benchmark)}]
    text = words.apply_chat_template([{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True)
    head, tail = text.split("<|video_pad|>")
    assert words.encode(head) == prompts.head_ids()
    assert words.encode(tail) == prompts.tail_ids(choice, benchmark)
    assert len(prompts.tail_ids(choice, benchmark)) <= 100


def test_random_checkpoint_is_loadable_and_byte_stable(tmp_path: Path) -> None:
    from transformers import AutoTokenizer, Qwen2VLForConditionalGeneration

    one, two = (model.random_checkpoint(tmp_path / name, 5) for name in "ab")
    files = sorted(p.name for p in one.iterdir())
    assert files == sorted(p.name for p in two.iterdir())
    assert all((one / n).read_bytes() == (two / n).read_bytes() for n in files)
    assert {"config.json", "model.safetensors", "tokenizer.json", "preprocessor_config.json"} <= set(files)
    loaded = Qwen2VLForConditionalGeneration.from_pretrained(one)
    assert len(AutoTokenizer.from_pretrained(one)) <= loaded.config.text_config.vocab_size
    assert sum(p.numel() for p in loaded.parameters()) < 5_000_000
    other = model.random_checkpoint(tmp_path / "c", 6)
    assert (other / "model.safetensors").read_bytes() != (one / "model.safetensors").read_bytes()


def test_batched_tower_equals_transformers(random_model: object) -> None:
    visual = random_model.model.visual  # type: ignore[attr-defined]
    pixels = vision.film(draw(1), symbols.moments(8), np.arange(8))
    with torch.no_grad():
        ours = vision.encode(visual, pixels)
        theirs = visual(vision.patches(pixels).flatten(0, 1), grid_thw=torch.tensor([[8, 8, 8]])).pooler_output
    torch.testing.assert_close(ours.flatten(0, 1), theirs, atol=1e-5, rtol=1e-5)


def test_patches_are_those_of_the_engine(random_model: object) -> None:
    from evalkit.model.families.qwen2_vl import Qwen2VL

    pixels = vision.film(draw(1), symbols.moments(4), np.arange(4))
    family = Qwen2VL(random_model, None)
    theirs = family.vision.patches(pixels.flatten(0, 1).numpy())
    torch.testing.assert_close(vision.patches(pixels).flatten(0, 1), theirs, atol=1e-5, rtol=1e-5)


def test_packed_questions_score_as_if_alone(random_model: object) -> None:
    """Tails share one sequence in training; each must see only the video and itself, at its own positions."""
    batch = batches.make(SHAPE, 3, 960)
    features = language.symbol_features(random_model, batch.concepts, 0.0)  # type: ignore[arg-type]
    with torch.no_grad():
        packed = language.run(random_model, features, batch)  # type: ignore[arg-type]
        alone = [
            language.run(random_model, features, _only(batch, q)).loss  # type: ignore[arg-type]
            for q in range(SHAPE.questions)
        ]
    torch.testing.assert_close(packed.loss, torch.stack(alone).mean(), atol=1e-5, rtol=1e-5)


def _only(batch: batches.Batch, q: int) -> batches.Batch:
    pick = slice(q, q + 1)
    return replace(
        batch,
        tails=batch.tails[:, pick],
        word_at=batch.word_at[:, pick],
        words=batch.words[:, pick],
        reply_at=batch.reply_at[:, pick],
        letter=batch.letter[:, pick],
        options_at=batch.options_at[:, pick],
        marks=batch.marks[:, pick],
    )


def test_mask_keeps_questions_apart() -> None:
    seen = packed_mask(3, 2, 2)
    assert seen[5].tolist() == [True, True, True, False, False, True, False]
    assert seen[4].tolist() == [True, True, True, True, True, False, False]
    assert not seen[:3, 3:].any()


def test_batches_are_a_function_of_their_seed() -> None:
    one, same, other = (batches.make(SHAPE, s, 1024) for s in (1, 1, 2))
    assert torch.equal(one.tails, same.tails)
    assert torch.equal(one.concepts, same.concepts)
    assert not torch.equal(one.concepts, other.concepts)
    assert one.concepts.shape == (2, 24, len(symbols.CONCEPTS))
    ids = prompts.words()
    assert {int(i) for i in one.letter.flatten()} <= {ids[x] for x in "ABCD"}
    assert (one.tails.gather(2, one.word_at[..., None]) == ids["?"]).all()


def test_regression_is_zero_only_at_its_target(random_model: object) -> None:
    batch = batches.make(SHAPE, 1, 1024)
    target = language.symbol_features(random_model, batch.concepts, 0.0).detach()  # type: ignore[arg-type]
    assert stages.regression(target, target, batch.concepts) == 0
    assert float(stages.regression(target + 1, target, batch.concepts)) == pytest.approx(1.0)


def test_training_learns_logs_and_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shape = replace(SHAPE, videos=4, questions=2, cells=4, tokens=8, objects=(2, 2), kinds=("scene",), options=False)
    whole = (_lesson("a", shape, 30, "symbols"), _lesson("b", shape, 2, "frames"), _lesson("c", shape, 2, "pixels"))
    monkeypatch.setattr(recipe, "LESSONS", whole)
    train.train(tmp_path / "whole", tmp_path / "whole" / "model", seed=1)
    monkeypatch.setattr(recipe, "LESSONS", whole[:1])
    train.train(tmp_path / "split", tmp_path / "split" / "model", seed=1)
    monkeypatch.setattr(recipe, "LESSONS", whole)
    train.train(tmp_path / "split", tmp_path / "split" / "model", seed=1)
    one, two = ((tmp_path / n / "model" / "model.safetensors").read_bytes() for n in ("whole", "split"))
    assert one == two
    curve = (tmp_path / "whole" / "curve.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in curve] == ["lesson", "a", "a", "b", "c"]
    losses = [float(line.split(",")[3]) for line in curve[1:3]]
    assert losses[1] < losses[0]


def _lesson(name: str, shape: Shape, steps: int, source: str) -> recipe.Stage:
    return recipe.Stage(name=name, steps=steps, rate=(2e-3, 2e-3), source=source, shapes=(shape,))
