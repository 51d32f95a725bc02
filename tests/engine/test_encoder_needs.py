"""What a method needs of the vision encoder is computed once, and charged to those who asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from evalkit.method import Method, OperatingPoint
from evalkit.model.families.qwen2_vl import Qwen2VL
from evalkit.testing.loop import answer, answer_key, engine, question
from methods.fastvid import FastVID
from methods.visionzip import VisionZip
from tests.support import clips


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clips.make(tmp_path_factory.mktemp("clip") / "clip.mp4", frames=64, size=(112, 112))


@pytest.mark.slow
def test_who_does_not_ask_does_not_pay(clip: Path, backbone: Qwen2VL, monkeypatch: pytest.MonkeyPatch) -> None:
    passes: list[int] = []
    encode = type(backbone).encode

    def counting(self: Qwen2VL, pixels: object, *, slice_cells: int) -> object:
        passes.append(slice_cells)
        return encode(self, pixels, slice_cells=slice_cells)  # type: ignore[arg-type]

    monkeypatch.setattr(type(backbone), "encode", counting)
    methods = {"dense": Method(), "visionzip": VisionZip(), "fastvid": FastVID()}
    points = [OperatingPoint(name, method, 0.5 if name != "dense" else 1.0) for name, method in methods.items()]
    together = answer(engine(backbone, chunk_cells=4), points, [question(clip, 0)])
    assert len(passes) == 1
    for point in points:
        (alone,) = answer(engine(backbone, chunk_cells=4), [point], [question(clip, 0)]).values()
        shared = together[point.name, point.ratio, "q0"]
        assert answer_key(alone) == answer_key(shared)
        assert alone.ledger is not None
        assert shared.ledger is not None
        assert alone.ledger.flops is not None
        assert alone.ledger.flops == shared.ledger.flops
        extra = backbone.view_flops(point.method.needs, 16, (4, 4))
        assert alone.ledger.flops.encode == backbone.encode_flops(16, (4, 4)) + extra
        assert (extra > 0) == (point.name != "dense")
        assert min(vars(alone.ledger.seconds).values()) >= 0
