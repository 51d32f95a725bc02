"""Tuning learns, goes on where it was killed, and what it leaves is what an evaluation loads."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig
from safetensors.torch import load_file

from evalkit.__main__ import main
from evalkit.config.build import sampling
from evalkit.engine.frame_encoder import FrameEncoder
from evalkit.errors import ConfigError, DataError
from evalkit.method import Budget
from evalkit.model import adapter
from evalkit.model.load import load
from evalkit.model.weights_identity import weights_identity
from evalkit.runs.environment import provenance
from evalkit.tune import settings, train
from evalkit.tune.builtin import Builtin
from evalkit.tune.tunable import TunableBackbone
from evalkit.types import VisualTokens
from methods.lpcomp import LPComp
from tests.support.tuning import curve, tuned

pytestmark = pytest.mark.slow

SMALL = ("builtin.cells=[4,2]", "builtin.per_sequence=4", "builtin.questions=2", "log_every=1", "accumulate=1")
QUICK = ("method=lpcomp", "method.frame_ratio=1", "data=builtin", "backbone.device=cpu", *SMALL)


def words(checkpoint: Path, out: Path, *more: str) -> list[str]:
    return [f"backbone.path={checkpoint}", f"out={out}", *QUICK, *more]


class KilledError(RuntimeError):
    """Stands for kill -9."""


@pytest.mark.slow
@pytest.mark.parametrize("how", ["full", "lora"])
def test_a_killed_run_goes_on(tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    settings = ("steps=4", "save_every=2", f"tuned={how}", "rate=1e-3", "lora.dropout=0.1")
    train.run(words(checkpoint, tmp_path / "whole", *settings))
    with monkeypatch.context() as patch:
        on_log = train.Curve.on_log

        def killed(self: Any, args: Any, state: Any, control: Any, **more: Any) -> None:
            if state.global_step == 3:
                raise KilledError
            on_log(self, args, state, control, **more)

        patch.setattr(train.Curve, "on_log", killed)
        with pytest.raises(KilledError):
            train.run(words(checkpoint, tmp_path / "killed", *settings))
    assert not (tmp_path / "killed" / train.WEIGHTS).exists()
    forward, calls = TunableBackbone.forward, []
    monkeypatch.setattr(TunableBackbone, "forward", lambda self, sample: calls.append(1) or forward(self, sample))
    train.run(words(checkpoint, tmp_path / "killed", *settings))
    assert len(calls) == 2, "it should have gone on after the second step"
    whole, resumed = tuned(tmp_path / "whole"), tuned(tmp_path / "killed")
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert curve(tmp_path / "whole") == curve(tmp_path / "killed")
    assert [row["step"] for row in curve(tmp_path / "whole")] == ["1", "2", "3", "4"]
    # negative control: another seed learns something else
    train.run(words(checkpoint, tmp_path / "other", *settings, "seed=1"))
    assert not all(torch.equal(whole[name], other) for name, other in tuned(tmp_path / "other").items())


def test_the_loss_falls_and_the_vision_tower_stays(tmp_path: Path, checkpoint: Path) -> None:
    # the same sequence again and again is learned by heart
    more = ("steps=12", "tuned=full", "rate=3e-3", "warmup=0", "builtin.cells=[2]", "builtin.per_sequence=2")
    train.run(words(checkpoint, tmp_path, *more))
    losses = [float(row["loss"]) for row in curve(tmp_path)]
    assert losses[-1] < 0.7 * losses[0]
    changed = tuned(tmp_path)
    assert all(name.startswith(("model.language_model.", "lm_head.")) for name in changed)
    base = load_file(checkpoint / "model.safetensors")
    assert any(not torch.equal(weight, base[name]) for name, weight in changed.items() if name in base)


def test_a_second_start_does_nothing_and_other_settings_are_refused(
    tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train.run(words(checkpoint, tmp_path, "steps=1"))
    with pytest.raises(ConfigError, match="other settings"):
        train.run(words(checkpoint, tmp_path, "steps=2"))
    monkeypatch.setattr(train.load, "load", lambda *_, **__: pytest.fail("should not load a model"))
    assert train.run(words(checkpoint, tmp_path, "steps=1")) == tmp_path / train.WEIGHTS
    assert not (tmp_path / train.CHECKPOINTS).exists()


# ---- what it leaves


def tunable(checkpoint: Path, out: Path, *more: str, **loading: Any) -> tuple[TunableBackbone, Builtin]:
    cfg = settings.composed(words(checkpoint, out, "steps=1", *more))
    point = settings.point(cfg)
    frame_encoder = FrameEncoder(backbone=load(str(checkpoint), device="cpu", **loading), sampling=sampling(cfg))
    return TunableBackbone(cfg, frame_encoder, point).eval(), settings.data(cfg, frame_encoder, point)[0]


@pytest.fixture(
    scope="module", params=["tuned=full", "tuned=lora", "tuned=full projector=true", "tuned=lora projector=true"]
)
def saved(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, checkpoint: Path
) -> tuple[Path, float, float]:
    """An adapter folder of arbitrary weights, and the loss of one sample with them and without."""
    folder = tmp_path_factory.mktemp("saved")
    found, samples = tunable(checkpoint, folder, *request.param.split())
    before = found(samples[0])["loss"].item()
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in found.free().values():
            weight.add_(torch.randn_like(weight), alpha=0.02)
    after = found(samples[0])["loss"].item()
    found.save(folder / "weights", {"backbone": "tiny", "base": weights_identity(str(checkpoint))})
    return folder / "weights", after, before


@pytest.fixture
def left(saved: tuple[Path, float, float], tmp_path: Path) -> tuple[Path, float, float]:
    """The same, to be changed."""
    folder, after, before = saved
    return shutil.copytree(folder, tmp_path / "weights"), after, before


def test_what_is_saved_is_what_is_loaded(
    left: tuple[Path, float, float], tmp_path: Path, checkpoint: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder, after, before = left
    again, samples = tunable(checkpoint, tmp_path, adapter=str(folder))
    assert again(samples[0])["loss"].item() == pytest.approx(after, abs=1e-4)
    assert abs(after - before) > 1e-2
    assert not caplog.records
    text = "".join(f.read_text() for f in folder.glob("*.json"))
    assert str(checkpoint) not in text
    assert str(tmp_path.parent) not in text


def test_the_projector_learns_only_when_asked(tmp_path: Path, checkpoint: Path) -> None:
    for more, expected in (("projector=false", False), ("projector=true", True)):
        found, samples = tunable(checkpoint, tmp_path, "tuned=lora", more)
        found.train()(samples[0])["loss"].backward()
        learned = [name for name, weight in found.named_parameters() if weight.grad is not None]
        assert any("merger" in name for name in learned) is expected
        assert not [name for name in learned if "visual" in name and "merger" not in name]


def test_checkpointing_learns_the_same(tmp_path: Path, checkpoint: Path) -> None:
    def learned(*more: str) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        found, samples = tunable(checkpoint, tmp_path, "tuned=full", *more)
        loss = found.train()(samples[0])["loss"]
        loss.backward()
        return loss.detach(), {name: weight.grad for name, weight in found.free().items()}

    (loss, grads), (again, again_grads) = learned(), learned("checkpointing=true")
    assert torch.equal(loss, again)
    for name, grad in grads.items():
        torch.testing.assert_close(again_grads[name], grad, rtol=0, atol=1e-6)


@pytest.mark.parametrize("how", ["tuned=full", "tuned=lora"])
def test_half_precision_keeps_what_is_tuned_whole(tmp_path: Path, checkpoint: Path, how: str) -> None:
    exact, samples = tunable(checkpoint, tmp_path, how)
    found, _ = tunable(checkpoint, tmp_path, how, dtype="bfloat16")
    with torch.autocast("cpu", torch.bfloat16):  # as the Trainer has it on a GPU
        loss = found.train()(samples[0])["loss"]
    loss.backward()
    assert loss.item() == pytest.approx(exact(samples[0])["loss"].item(), rel=0.05)
    assert {weight.dtype for weight in found.free().values()} == {torch.float32}
    assert all(weight.grad is not None for weight in found.free().values())
    found.save(tmp_path / "weights", {"backbone": "tiny"})
    (saved,) = {weight.dtype for weight in tuned(tmp_path).values()}
    assert saved == (torch.bfloat16 if how == "tuned=full" else torch.float32)


def test_the_adapter_is_part_of_the_identity(left: tuple[Path, float, float], tmp_path: Path, checkpoint: Path) -> None:
    folder, base = left[0], weights_identity(str(checkpoint))
    found = weights_identity(str(checkpoint), str(folder))
    assert found != base
    assert weights_identity(str(checkpoint), str(shutil.copytree(folder, tmp_path / "elsewhere"))) == found
    (file,) = (tmp_path / "elsewhere").glob("*.safetensors")
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    assert weights_identity(str(checkpoint), str(tmp_path / "elsewhere")) != found


def test_environment_names_the_weights() -> None:
    backbone = {"path": "builtin", "commit": None, "adapter": "tuned/weights"}
    config = {"identity_parts": {"weights": "abc"}, "backbone": backbone}
    assert provenance(config, "cpu")["weights"] == {"identity": "abc", **backbone}


def test_other_weights_than_it_was_tuned_on(left: tuple[Path, float, float], checkpoint: Path) -> None:
    note = left[0] / adapter.NOTE
    note.write_text(json.dumps({**json.loads(note.read_text()), "base": "another"}))
    with pytest.raises(ConfigError, match="another"):
        load(str(checkpoint), device="cpu", adapter=str(left[0]))
    load(str(checkpoint), device="cpu", adapter=str(left[0]), adapter_any_base=True)


def test_folders_that_do_not_fit(left: tuple[Path, float, float], tmp_path: Path, checkpoint: Path) -> None:
    with pytest.raises(ConfigError, match=r"expected a folder with adapter_config\.json"):
        load(str(checkpoint), device="cpu", adapter=str(tmp_path))
    (file,) = left[0].glob("*.safetensors")
    weights = load_file(file)
    for name, changed in {"shape": lambda w: w.repeat(2, *[1] * (w.ndim - 1)), "name": None}.items():
        wrong = {k: changed(w) for k, w in weights.items()} if changed else {f"not.{k}": w for k, w in weights.items()}
        adapter._write(wrong, file)
        with pytest.raises(ConfigError, match="expected weights that fit this backbone"):
            load(str(checkpoint), device="cpu", adapter=str(left[0]))
        assert name


# ---- wrong settings


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (["data=builtin", "steps=1"], "expected method=NAME"),
        (["method=nothing"], "lpcomp"),  # what there is
        (["method=lpcomp"], "expected data=builtin"),
        (["method=lpcomp", "data=builtin"], "expected steps=N"),
        (["method=lpcomp", f"data={__file__}"], "needs videos=DIR"),
        (["method=lpcomp", "data=builtin", "steps=1", "tuned=half"], "tuned=lora or tuned=full"),
        (["method=lpcomp", "data=builtin", "steps=1", "stepz=1"], "stepz"),
        (["method=lpcomp", "data=builtin", "steps=1", "warmup=3"], "warmup"),
        (["method=lpcomp", "data=builtin", "steps=1", "backbone.adapter=x"], "backbone.adapter=null"),
        (["method=uniform", "data=builtin", "steps=1"], "drops no tokens between layers"),
        (["method=retake", "data=builtin", "steps=1"], "drops no tokens between layers"),
        (
            ["method=lpcomp", "data=builtin", "steps=1", "backbone.device=cpu", "backbone.dtype=bfloat16"],
            "backbone.dtype=float32 for tuning on cpu",
        ),
        (["method=lpcomp", "data=nowhere.json", "videos=."], "no such file"),
        (["method=lpcomp", f"data={__file__}", "videos=."], "expected builtin, or a JSON list"),
        ([*QUICK, "steps=1", "builtin.cells=[8]"], "at most per_sequence"),
        ([*QUICK, "steps=1", "tuned=lora", "lora.targets=[nothing]"], "lora.targets"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_wrong_settings_are_explained(
    tmp_path: Path, checkpoint: Path, caplog: pytest.LogCaptureFixture, wrong: list[str], told: str
) -> None:
    assert main(["tune", f"out={tmp_path}", f"backbone.path={checkpoint}", *wrong]) == 2
    assert told in caplog.text
    assert not list(tmp_path.iterdir()), "a start that failed should not stand in the way of the next"


def test_lora_without_peft(tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ConfigError, match=r"evalkit\[tune\]"):
        tunable(checkpoint, tmp_path, "tuned=lora")


def test_empty_data(tmp_path: Path, checkpoint: Path) -> None:
    (tmp_path / "rows.json").write_text("[]")
    more = [f"data={tmp_path / 'rows.json'}", f"videos={tmp_path}"]
    with pytest.raises(DataError, match="expected rows to learn from"):
        train.run([*words(checkpoint, tmp_path / "out"), *more])


@dataclass(frozen=True, kw_only=True)
class Both(LPComp):
    """Drops between layers, and chooses tokens before them."""

    def select(self, tokens: VisualTokens, budget: Budget, *_: Any) -> VisualTokens:
        return tokens


def test_a_method_that_does_more_is_refused() -> None:
    cfg = DictConfig({"method": {"name": "both", "_target_": f"{__name__}.Both"}, "ratio": 1.0})
    with pytest.raises(ConfigError, match="also intervenes in select"):
        settings.point(cfg)
