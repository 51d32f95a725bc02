"""objective=states: the targets are right, the error is that of a plain computation, and steps lower it."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from evalkit.__main__ import main
from evalkit.config.build import WEIGHTS, sampling
from evalkit.config.choices import CONF
from evalkit.method import Method
from evalkit.model import adapter
from evalkit.model.families.qwen2_vl import Qwen2VL
from evalkit.model.load import load
from evalkit.model.packed_questions import IGNORE
from evalkit.model.weights_identity import weights_identity
from evalkit.tiny.training import symbols
from evalkit.tiny.training.auxiliary_head import CLEAR
from evalkit.tune import forward, settings, states, train
from evalkit.tune.builtin import Builtin, target_shares
from evalkit.tune.sample import Sample
from tests.support.tuning import POINT, frame_encoder

pytestmark = pytest.mark.slow

OWN = torch.eye(16).expand(2, 3, -1, -1)
SHAPE = {"cells": [3], "per_sequence": 6, "questions": 2, "dense": 64}


def sample(backbone: Qwen2VL, number: int = 0, *, uncompressed: float = 0.0) -> Sample:
    return Builtin(frame_encoder(backbone), POINT, **SHAPE, uncompressed=uncompressed, seed=0)[number]


def error(backbone: Qwen2VL, of: Sample, depth: int, method: Method, shares: torch.Tensor, other: Qwen2VL) -> float:
    """The loss of a sample, with `other` as the uncompressed model."""
    encoder = frame_encoder(backbone)
    tokens = [encoder.encode(*seen) for seen in of.seen]
    schedules = [
        forward.prune_schedule(
            backbone,
            m,
            tokens[0],
            encoder.budget(POINT, of.seen[0][0]),
            n_prefix=len(of.prefix_ids),
            suffix_shape=(of.suffix_ids.shape[1], of.suffix_ids.shape[2]),
        )
        for m in (method, Method())
    ]
    embeds = forward.embed(backbone, of.prefix_ids, torch.stack([t.features for t in tokens]), of.suffix_ids)
    frozen, learned = states.frozen_layers(other, depth), of.targets != IGNORE
    with torch.no_grad():
        return states.loss(backbone, frozen, (schedules[0], schedules[1]), embeds, shares, learned).item()


# ---- the targets


def test_tokens_after_an_event_have_its_states_as_target() -> None:
    concepts = torch.zeros(1, 3 * 4, len(symbols.CONCEPTS))
    thing, sign = symbols.EVENTS
    concepts[0, 1, thing], concepts[0, 2, thing] = 1.0, 0.5  # the first cell: two tokens show parts of it
    concepts[0, 4 + 0, thing] = CLEAR - 0.01  # the second: too little to name it
    concepts[0, 8 + 3, sign] = 0.6  # the third: nothing comes after it
    concepts[0, :, symbols.COLOR[0]] = 1.0  # shows no event
    first = torch.tensor([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0.8, 0.2, 0], [0, 0.8, 0.2, 0]])
    torch.testing.assert_close(target_shares(concepts, 4), torch.stack([first, torch.eye(4), torch.eye(4)])[None])


def test_targets_are_made_of_states_at_or_before_the_token(backbone: Qwen2VL) -> None:
    found = sample(backbone).target_shares
    assert found is not None
    assert found.shape == (2, 3, 16, 16)
    torch.testing.assert_close(found.sum(-1), torch.ones(2, 3, 16))
    assert torch.equal(found, found.tril())
    assert mixed(found).any(), "cells with an event come first"


def mixed(of: torch.Tensor | None) -> torch.Tensor:
    """Which tokens have another target than their own state, (B, N) bool."""
    assert of is not None
    return (of != torch.eye(16)).any(-1).flatten(1)


def test_shown_cells_are_drawn_from_the_dense_ones(backbone: Qwen2VL) -> None:
    ahead = sample(backbone)
    without = Builtin(frame_encoder(backbone), POINT, **{**SHAPE, "dense": 0}, seed=0)[0]
    assert [f.pixels.shape for _, _, f in ahead.seen] == [f.pixels.shape for _, _, f in without.seen]
    assert not np.array_equal(ahead.seen[0][2].pixels, without.seen[0][2].pixels)
    # with an event in nearly every cell that is shown, more tokens have a mixed target
    assert mixed(ahead.target_shares).sum() > mixed(without.target_shares).sum()


def test_a_share_of_the_samples_is_uncompressed(backbone: Qwen2VL) -> None:
    assert [sample(backbone, n, uncompressed=1.0).uncompressed for n in range(3)] == [True] * 3
    assert [sample(backbone, n).uncompressed for n in range(3)] == [False] * 3
    assert {sample(backbone, n, uncompressed=0.5).uncompressed for n in range(6)} == {True, False}


# ---- the error


def test_a_model_makes_no_error_against_itself(backbone: Qwen2VL) -> None:
    found = sample(backbone)
    assert error(backbone, found, 3, Method(), OWN, backbone) == 0
    # nothing is dropped before the first layer has run
    assert error(backbone, found, 1, POINT.method, OWN, backbone) == 0
    # negative controls: later layers miss what was dropped, and a random model mixes no states
    assert error(backbone, found, 3, POINT.method, OWN, backbone) > 1e-4
    assert found.target_shares is not None
    assert error(backbone, found, 1, Method(), found.target_shares, backbone) > 1e-2


def test_the_error_is_that_of_the_stock_model(checkpoint: Path) -> None:
    # transformers leaves hooks on a model that has been asked for hidden states, so none that tests share
    backbone, other = (load(str(checkpoint), device="cpu") for _ in range(2))
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in other.text.layers.parameters():
            weight.add_(torch.randn_like(weight), alpha=0.03)
    found = sample(backbone)
    one = replace(found, suffix_ids=found.suffix_ids[:, :1], targets=found.targets[:, :1])
    assert one.target_shares is not None
    has_mixture = mixed(one.target_shares)

    def stock(of: Qwen2VL) -> tuple[torch.Tensor, ...]:
        encoded = [frame_encoder(of).encode(*seen) for seen in one.seen]
        features = torch.stack([tokens.features for tokens in encoded])
        n_prefix, length, at = len(one.prefix_ids), one.suffix_ids.shape[-1], of.positions
        after = at.text_ids(n_prefix + at.ids_after(encoded[0]), length)
        ids = [at.text_ids(0, n_prefix), at.video_ids(n_prefix, encoded[0]), after]
        out = of.text(
            inputs_embeds=forward.embed(of, one.prefix_ids, features, one.suffix_ids),
            position_ids=torch.cat(ids, 1)[:, None].expand(-1, 2, -1),
            output_hidden_states=True,
            use_cache=False,
        )
        states: tuple[torch.Tensor, ...] = out.hidden_states
        return states

    with torch.no_grad():
        ours, theirs = stock(backbone), stock(other)
    expected, n_prefix = 0.0, len(one.prefix_ids)
    for layer in (1, 2):
        video = slice(n_prefix, n_prefix + 3 * 16)
        cells = zip(theirs[layer][:, video].split(16, 1), one.target_shares.unbind(1), strict=True)
        goal = torch.cat([torch.einsum("bpq,bqd->bpd", shares, states) for states, shares in cells], 1)
        pairs = [(ours[layer][:, video][m], goal[m]) for m in (has_mixture, ~has_mixture)]
        text = (slice(n_prefix), slice(n_prefix + 3 * 16, None))
        pairs += [(ours[layer][:, part], theirs[layer][:, part]) for part in text]
        expected += sum(float(((a - b) ** 2).mean() / (b**2).mean()) for a, b in pairs)
    assert error(backbone, one, 2, Method(), one.target_shares, other) == pytest.approx(expected, rel=1e-4)
    assert error(backbone, one, 2, Method(), OWN, other) != pytest.approx(expected, rel=1e-2)


# ---- the run

WORDS = [
    "method=lpcomp",
    "method.frame_ratio=1",
    "data=builtin",
    "backbone.device=cpu",
    "objective=states",
    "depth=2",
    "compared=2",
]
SIZES = ["builtin.cells=[3]", "builtin.per_sequence=3", "builtin.dense=64", "builtin.questions=1", "log_every=1"]


def test_steps_lower_the_error_and_change_the_first_layers_alone(tmp_path: Path, checkpoint: Path) -> None:
    more = ["steps=20", "tuned=full", "rate=3e-3", "warmup=0", "accumulate=1"]
    train.run([f"backbone.path={checkpoint}", f"out={tmp_path}", *WORDS, *SIZES, *more])
    with (tmp_path / train.CURVE).open(encoding="utf-8") as file:
        losses = [float(row["loss"]) for row in csv.DictReader(file)]
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])
    names = load_file(tmp_path / train.WEIGHTS / adapter.WEIGHTS)
    assert {name.split(".layers.")[1].split(".")[0] for name in names} == {"0", "1"}
    found, base = load(str(checkpoint), device="cpu", adapter=str(tmp_path / train.WEIGHTS)), load(str(checkpoint))
    changed = [any((a != b).any() for a, b in zip(*pair, strict=True)) for pair in weights(found, base)]
    assert changed == [True, True, False, False, False, False]


def weights(a: Qwen2VL, b: Qwen2VL) -> list[tuple[list[torch.Tensor], list[torch.Tensor]]]:
    """The parameters of each layer of both."""
    return [(list(x.parameters()), list(y.parameters())) for x, y in zip(a.text.layers, b.text.layers, strict=True)]


def test_a_second_run_goes_on_from_the_first(tmp_path: Path, checkpoint: Path) -> None:
    quick = [f"backbone.path={checkpoint}", *WORDS, *SIZES, "tuned=full", "accumulate=1", "warmup=0"]
    first = train.run([*quick, f"out={tmp_path / 'first'}", "steps=6", "rate=3e-3"])
    # the second run's rate is too small to change a float32: it leaves what the first run left
    second = train.run([*quick, f"out={tmp_path / 'second'}", "steps=1", "rate=1e-60", f"start={first}"])
    left, again = (load_file(folder / adapter.WEIGHTS) for folder in (first, second))
    assert left.keys() == again.keys()
    assert all(torch.equal(left[name], again[name]) for name in left)
    # targets are still the checkpoint's: the error is that of the first run's last steps, not zero
    with (tmp_path / "second" / train.CURVE).open(encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    assert float(row["loss"]) > 0.1
    assert str(tmp_path) not in (tmp_path / "second" / train.CONFIG).read_text()


def test_a_lora_of_the_first_layers(tmp_path: Path, checkpoint: Path) -> None:
    train.run([f"backbone.path={checkpoint}", f"out={tmp_path}", *WORDS, *SIZES, "steps=1", "accumulate=1"])
    names = load_file(tmp_path / train.WEIGHTS / adapter.LORA[1])
    assert {name.split(".layers.")[1].split(".")[0] for name in names} == {"0", "1"}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["objective=letters"], "objective=answers or objective=states"),
        ([f"data={__file__}", "videos=."], "expected data=builtin"),
        (["start=x", "tuned=lora"], "expected tuned=full"),
        (["start=nowhere", "tuned=full"], "expected a folder with"),
        (["depth=7"], "expected depth of 1 to 6"),
        (["compared=7"], "expected compared of 1 to 6"),
        (["compared=0"], "compared: expected an integer from 1 on, or null, got 0"),
        (["builtin.dense=-1"], "builtin.dense: expected an integer from 0 on, got -1"),
        (["builtin.uncompressed=2"], "builtin.uncompressed: expected a share from 0 to 1, got 2"),
        (["method.frame_ratio=0.5"], "every cell"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_wrong_settings_are_explained(
    tmp_path: Path, checkpoint: Path, caplog: pytest.LogCaptureFixture, wrong: list[str], message: str
) -> None:
    assert (
        main(["tune", f"out={tmp_path / 'out'}", f"backbone.path={checkpoint}", *WORDS, *SIZES, "steps=1", *wrong]) == 2
    )
    assert message in caplog.text
    assert not list(tmp_path.iterdir())


# ---- the weights that come with evalkit


@pytest.mark.parametrize("name", [file.stem for file in sorted((CONF / "recipe").glob("*.yaml"))])
def test_recipes_are_settings_that_hold(name: str, backbone: Qwen2VL) -> None:
    cfg = settings.composed([f"recipe={name}"])
    assert (cfg.objective, cfg.depth, cfg.backbone.name) == ("states", 3, "tiny")
    encoder = replace(frame_encoder(backbone), sampling=sampling(cfg))
    samples, _ = settings.data(cfg, encoder, settings.point(cfg))
    assert [shape.cells for shape in samples.shapes] == list(cfg.builtin.cells)


def test_the_shipped_weights_move_states_to_the_tokens_that_stay() -> None:
    folder = adapter.BUILTIN / "xcomp"
    assert (folder / adapter.WEIGHTS).stat().st_size <= 4 * 10**6
    assert adapter.note(folder)["base"] == weights_identity(str(WEIGHTS))
    base, found = load(str(WEIGHTS), device="cpu"), load(str(WEIGHTS), device="cpu", adapter=str(folder))
    changed = [any((a != b).any() for a, b in zip(*pair, strict=True)) for pair in weights(found, base)]
    assert changed == [True] * 3 + [False] * 5
    given = sample(base)
    assert given.target_shares is not None
    before, after = (error(of, given, 3, POINT.method, given.target_shares, base) for of in (base, found))
    assert after < 0.2 * before
