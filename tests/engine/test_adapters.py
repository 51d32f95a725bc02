"""Operating points with weights of their own: one decode for all, and the answers of a run of their own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from evalkit.data import video as video_file
from evalkit.data.sampling import Sampling
from evalkit.engine import encoding
from evalkit.engine.backbone import Backbone
from evalkit.engine.setup import EngineSetup
from evalkit.errors import ConfigError
from evalkit.method import OperatingPoint
from evalkit.model import load
from evalkit.model.checkpoint import locate
from evalkit.model.families.qwen2_vl import Qwen2VL
from evalkit.model.shared_weights import same_encoder
from evalkit.testing.loop import FirstLetterProtocol
from evalkit.types import Answer
from methods.pivotkv import PivotKV
from methods.uniform import Uniform
from tests.support import clips
from tests.support.adapters import LAYER, MERGER, tuned
from tests.support.loop import answer, answer_key, question

Key = tuple[str, float, str]  # method, ratio, question

PLAIN = [OperatingPoint("uniform", Uniform(), 1.0), OperatingPoint("pivotkv", PivotKV(), 0.5)]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clips.make(tmp_path_factory.mktemp("clip") / "clip.mp4", frames=60, size=(112, 112))


@pytest.fixture(scope="module", params=[LAYER, MERGER], ids=["language model", "projector"])
def folder(request: pytest.FixtureRequest, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tuned(checkpoint, tmp_path_factory.mktemp("tuned") / "own", request.param))


def setup(checkpoint: Path, adapter: str | None = None, **changes: Any) -> EngineSetup:
    backbone = Backbone(name="tiny", checkpoint=locate(str(checkpoint)), device="cpu", threads=1, adapter=adapter)
    sampling = Sampling(preset="lmms_eval", frames=16, min_pixels=28 * 28, max_pixels=112 * 112)
    return EngineSetup(backbone=backbone, sampling=sampling, protocol=FirstLetterProtocol(), **changes)


def with_own(points: list[OperatingPoint], adapter: str) -> list[OperatingPoint]:
    return [replace(point, name=f"tuned {point.name}", adapter=adapter) for point in points]


def keys(found: Mapping[Key, Answer]) -> dict[Key, Any]:
    """Every field but the name of the method, seconds and memory."""
    return {
        (name.removeprefix("tuned "), ratio, asked): answer_key(replace(one, method=one.method.removeprefix("tuned ")))
        for (name, ratio, asked), one in found.items()
    }


def of(found: Mapping[Key, Answer], *, tuned: bool) -> dict[Key, Answer]:
    """The answers by the adapter's weights, or by the backbone's."""
    return {key: one for key, one in found.items() if key[0].startswith("tuned") == tuned}


@pytest.mark.slow
def test_one_run_answers_as_two(clip: Path, checkpoint: Path, folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Decoded once; encoded once where the adapter leaves vision tower and projector alone, else by each."""
    decoded, encoded = [], []
    decode, encode = video_file.sized_frames, Qwen2VL.encode

    def counted(*args: Any) -> Any:
        decoded.append(len(set(args[1])))
        return decode(*args)

    def counting(self: Qwen2VL, pixels: np.ndarray, *, slice_cells: int) -> torch.Tensor:
        encoded.append(len(pixels))
        return encode(self, pixels, slice_cells=slice_cells)

    questions = [question(clip, n) for n in range(2)]
    base = answer(setup(checkpoint).engine, PLAIN, questions)
    own = answer(setup(checkpoint, folder).engine, PLAIN, questions)
    monkeypatch.setattr(video_file, "sized_frames", counted)
    monkeypatch.setattr(Qwen2VL, "encode", counting)
    both = answer(setup(checkpoint).engine, [*with_own(PLAIN, folder), *PLAIN], questions)
    assert decoded == [1]
    (changed,) = load_file(Path(folder) / "model.safetensors")
    assert encoded == ([16] if changed == LAYER else [16, 16])
    assert keys(of(both, tuned=True)) == keys(own)
    assert keys(of(both, tuned=False)) == keys(base)
    assert keys(own) != keys(base)
    assert all(one.status != "failed" for one in both.values())


def test_features_shared_across_encoders_would_change_answers(
    clip: Path, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The negative control of the test above."""
    folder = str(tuned(checkpoint, tmp_path / "own", MERGER))
    own = answer(setup(checkpoint, folder).engine, PLAIN, [question(clip, 0)])
    monkeypatch.setattr(encoding, "encoder_tensors", lambda decoder: {})
    both = answer(setup(checkpoint).engine, [*PLAIN, *with_own(PLAIN, folder)], [question(clip, 0)])
    assert keys(of(both, tuned=True)) != keys(own)
    assert keys(of(both, tuned=False)) == keys(answer(setup(checkpoint).engine, PLAIN, [question(clip, 0)]))


def test_only_what_is_needed_is_loaded_and_once(
    clip: Path, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = str(tuned(checkpoint, tmp_path / "own", LAYER))
    loaded: list[str] = []
    whole, beside = load.load, load.load_beside

    def loading(*args: Any, **options: Any) -> Qwen2VL:
        loaded.append("tuned alone" if options["adapter"] else "base")
        return whole(*args, **options)

    def sharing(*args: Any, **options: Any) -> Qwen2VL:
        loaded.append("tuned beside")
        return beside(*args, **options)

    monkeypatch.setattr(load, "load", loading)
    monkeypatch.setattr(load, "load_beside", sharing)
    engine = setup(checkpoint).engine
    assert loaded == []
    first = answer(engine, with_own(PLAIN, folder), [question(clip, 0)])
    assert loaded == ["tuned alone"]  # no base: nothing pending wants it
    both = answer(engine, [*with_own(PLAIN, folder), *PLAIN], [question(clip, 0)])
    assert loaded == ["tuned alone", "base", "tuned beside"]
    again = answer(engine, [*PLAIN, *with_own(PLAIN, folder)], [question(clip, 0)])
    assert len(loaded) == 3
    for own in (True, False):
        assert keys(of(both, tuned=own)) == keys(of(again, tuned=own))
    assert keys(first) == keys(of(both, tuned=True))
    found = engine.frame_encoders((None, folder))
    assert same_encoder(found[None].backbone, found[folder].backbone)


@pytest.mark.slow
def test_a_methods_adapter_takes_the_place_of_the_backbones(clip: Path, checkpoint: Path, tmp_path: Path) -> None:
    """Not on top of it; the one that the backbone has already is no other."""
    one = str(tuned(checkpoint, tmp_path / "a", LAYER))
    two = str(tuned(checkpoint, tmp_path / "b", LAYER.replace("q_proj", "v_proj")))
    common = setup(checkpoint, one)
    found = answer(common.engine, [*PLAIN, *with_own(PLAIN, two)], [question(clip, 0)])
    for prefix, folder in (("", one), ("tuned", two)):
        alone = answer(setup(checkpoint, folder).engine, PLAIN, [question(clip, 0)])
        assert keys(of(found, tuned=bool(prefix))) == keys(alone)
    (same,) = with_own(PLAIN[:1], one)
    assert common.record_for(same) == common.record == common.record_for(PLAIN[0])
    other = common.record_for(with_own(PLAIN[:1], two)[0])
    assert other.adapter is not None
    assert other.adapter.weights == setup(checkpoint, two).backbone.weights
    assert (other.adapter.name, other.identity_parts) == ("b", common.record.identity_parts)


def test_an_adapter_that_does_not_fit_is_named_before_anything_is_answered(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "odd").mkdir()
    save_file({LAYER: torch.zeros(2, 2)}, tmp_path / "odd" / "model.safetensors")
    with pytest.raises(ConfigError, match=r"method tuned uniform: adapter=.*odd: expected weights that fit"):
        setup(checkpoint).record_for(with_own(PLAIN, str(tmp_path / "odd"))[0])
