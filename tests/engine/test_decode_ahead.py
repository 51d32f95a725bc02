"""Videos that are decoded in a child process, ahead or not: the same answers; a decoder that dies costs one video."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from evalkit import machine
from evalkit.data.decoding.process import DecodeInChild, not_again
from evalkit.data.decoding.source import DecodeInProcess, FrameSource
from evalkit.engine.backbone import Backbone
from evalkit.engine.decode import DecodeSettings, free_cores
from evalkit.engine.executor.base import InProcess
from evalkit.engine.grid import Grid
from evalkit.method import OperatingPoint
from evalkit.model.checkpoint import locate
from evalkit.model.families.qwen2_vl import Qwen2VL
from evalkit.types import Answer, Benchmark
from methods.controls import Blind, Shuffled
from tests.support import clips, odd_readers
from tests.support.loop import DENSE, answer_key, engine, question

GRID = [
    DENSE,
    OperatingPoint("shuffled", Shuffled(), 0.5),
    OperatingPoint("blind", Blind(), 0.5),
]
Key = tuple[str, str, float]


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Path]]:
    folder = tmp_path_factory.mktemp("videos")
    with odd_readers.installed(folder):
        sizes = {"one": 70, "bad": 60, "three": 50}
        yield [clips.make(folder / f"{name}.mp4", frames=n, size=(112, 112)) for name, n in sizes.items()]


def answered(backbone: Qwen2VL, videos: list[Path], source: FrameSource, **options: Any) -> dict[Key, Answer]:
    """All videos in turn, as an executor asks for them."""
    own = engine(backbone, frames=12, source=source, **options)
    work = [{point: [question(path, 0)] for point in GRID} for path in videos]
    found = {}
    for pending, following in zip(work, [*work[1:], None], strict=True):
        for point, answer in own.answers(pending, following):
            assert (answer.video_id, point.name, point.ratio) not in found
            found[answer.video_id, point.name, point.ratio] = answer
    source.close()
    return found


def keys(found: dict[Key, Answer]) -> dict[Key, Any]:
    return {key: answer_key(answer) for key, answer in found.items()}


@pytest.fixture(scope="module")
def plain(videos: list[Path], backbone: Qwen2VL) -> dict[Key, Any]:
    """By frames that are decoded in this process."""
    return keys(answered(backbone, videos, DecodeInProcess()))


@pytest.mark.slow
def test_answers_do_not_depend_on_where_and_when_frames_are_decoded(
    videos: list[Path], backbone: Qwen2VL, plain: dict[Key, Any]
) -> None:
    assert len(plain) == len(videos) * len(GRID)
    ahead = answered(backbone, videos, DecodeInChild(limit=1 << 30), encode_cells=4)
    assert keys(ahead) == plain
    assert min(answer.ledger.seconds.decode for (_, name, _), answer in ahead.items() if name == "dense") > 0  # type: ignore[union-attr]
    alone = keys(answered(backbone, videos[:1], DecodeInChild(), encode_cells=1, share=False))
    assert alone == {key: one for key, one in plain.items() if key in alone}
    swapped = keys(answered(backbone, videos[:1], DecodeInChild(limit=1 << 30), reader="swap"))
    assert swapped.keys() == alone.keys()
    assert swapped != alone  # the negative control


def test_a_decoder_that_dies_costs_its_video_alone(
    videos: list[Path], backbone: Qwen2VL, plain: dict[Key, Any]
) -> None:
    found = answered(backbone, videos, DecodeInChild(limit=1 << 30), reader="crash_bad")
    lost = {key: one for key, one in found.items() if one.status == "failed"}
    assert {key[0] for key in lost} == {"bad.mp4"}
    assert len(lost) == len(GRID)
    assert all("DecoderKilledError" in str(one.error) and "SIGSEGV" in str(one.error) for one in lost.values())
    assert keys({key: one for key, one in found.items() if key not in lost}) == {
        key: one for key, one in plain.items() if key not in lost
    }


def test_a_file_that_ended_the_decoder_is_not_tried_again_until_it_changes(videos: list[Path]) -> None:
    asked = [question(path, n) for n, path in enumerate(videos)]
    benchmark = Benchmark(name="mlvu", label="x", root=Path(), split="test", questions=tuple(asked))
    errors = {"q1": f"DecoderKilledError: {not_again(videos[1], None)}", "q2": "VideoError: it does not decode"}
    run: Any = SimpleNamespace(answered=lambda: {"q0"}, errors=errors)

    def pending(settings: DecodeSettings) -> list[str]:
        grid: Any = SimpleNamespace(setup=SimpleNamespace(decode=settings))
        grid._given_up = lambda *given: Grid._given_up(grid, *given)
        return [q.id for one in Grid._pending(grid, benchmark, {DENSE: run}) for some in one.values() for q in some]

    assert pending(DecodeSettings()) == ["q2"]
    assert pending(DecodeSettings(deadline=900.0)) == ["q1", "q2"]
    errors["q1"] = errors["q1"].replace("bytes", "bytes less")
    assert pending(DecodeSettings()) == ["q1", "q2"]


@pytest.mark.parametrize(
    ("threads", "processes", "free"), [(1, 1, True), (1, 2, False), (None, 1, False), (2, 1, False)]
)
def test_frames_are_decoded_ahead_where_a_core_is_free(
    threads: int | None, processes: int, free: bool, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "cores", lambda: 2)
    own = Backbone(name="small", checkpoint=locate(str(checkpoint)), device="cpu", threads=threads)
    assert (free_cores(own, processes) > 0) is free
    assert DecodeSettings().source(own, processes).ahead is free
    assert DecodeSettings(ahead=1).source(replace(own, threads=2), 9).ahead
    assert not DecodeSettings(ahead=0).source(own, processes).ahead


@pytest.mark.parametrize(
    ("device", "threads", "processes", "ahead", "expected"),
    [
        ("cpu", 1, 1, None, 7),  # one core is the model's
        ("cpu", 1, 2, None, 3),
        ("cpu", 2, 3, None, 1),
        ("cpu", None, 1, None, 8),  # the model waits while frames are decoded
        ("cpu", 1, 8, None, 1),
        ("cpu", 1, 2, 0, 4),
        ("cpu", None, 2, 64, 1),
        ("cuda", None, 1, None, 7),
        ("cuda", None, 4, None, 1),
    ],
)
def test_a_video_is_decoded_on_the_cores_that_are_left(
    device: str,
    threads: int | None,
    processes: int,
    ahead: int | None,
    expected: int,
    checkpoint: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(machine, "cores", lambda: 8)
    monkeypatch.setattr(Backbone, "torch_device", torch.device(device))
    own = Backbone(name="small", checkpoint=locate(str(checkpoint)), threads=threads)
    assert DecodeSettings(ahead=ahead).source(own, processes).threads == expected


def test_the_first_video_is_looked_at_while_the_model_is_loaded(videos: list[Path]) -> None:
    done = list[object]()
    source = SimpleNamespace(
        start=lambda: done.append("start"), announce=done.append, close=lambda: done.append("close")
    )
    own = SimpleNamespace(frame_encoders=lambda _: done.append("load"), answers=lambda *_: iter(()))
    setup: Any = SimpleNamespace(backbone=SimpleNamespace(name="none"), source=source, engine=own)
    with InProcess().answers(setup, [{DENSE: [question(path, 0)]} for path in videos]) as given:
        assert list(given) == []
    assert done == ["start", videos[0], "load", "close"]
