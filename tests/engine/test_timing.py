"""Seconds that compare: an operating point timed alone does not see its neighbours; shared seconds do.

Time and memory are pretended: a clock that ticks per unit of work gives the same numbers on every machine.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from evalkit.config import checks
from evalkit.data import video as video_file
from evalkit.engine import timing
from evalkit.engine.stage_times import Clock, Meter
from evalkit.engine.timing import Timer
from evalkit.errors import ConfigError
from evalkit.ledger import Ledger
from evalkit.method import Budget, Method, OperatingPoint
from evalkit.model.families.qwen2_vl import Qwen2VL
from evalkit.model.prefill_state import PrefillState
from evalkit.model.video_feed import VideoFeed
from evalkit.runs.folder import TIMING, RunFolder
from evalkit.types import Benchmark, FramePlan, Question, Video
from methods.controls import Blind
from methods.qccomp import QCComp
from methods.uniform import Uniform
from tests.support import clips
from tests.support.loop import DENSE, answer, engine, question

pytestmark = pytest.mark.slow

FEW = OperatingPoint("uniform", Uniform(), 0.125)
NEIGHBOURS = [
    DENSE,
    FEW,
    OperatingPoint("half", Uniform(), 0.5),
    OperatingPoint("qccomp", QCComp(), 0.5),
    OperatingPoint("blind", Blind(), 1.0),
]
SAME = {"device": "pretended", "threads": 1, "encode_cells": 32}


@dataclass
class Ticking(Meter):
    """Ticks per unit of work, and bytes that are held while work is done."""

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    ticks: int = 0
    peak: int = 0
    calls: list[str] = field(default_factory=list)

    def now(self) -> float:
        return float(self.ticks)

    def reset_peak(self) -> None:
        self.peak = 0

    def peak_bytes(self) -> int:
        return self.peak

    def release(self) -> None:
        self.calls.append("release")

    def work(self, ticks: int, held: int, name: str) -> None:
        self.ticks += ticks
        self.peak = max(self.peak, held)
        self.calls.append(name)


@pytest.fixture
def meter(monkeypatch: pytest.MonkeyPatch) -> Ticking:
    """Ticks as a decoder that runs through the file up to the last frame that anyone wants, then 10 per encoded frame
    and 100 per token fed. The encoder holds most.
    """
    found = Ticking()
    decode, encode, feed = video_file.sized_frames, Qwen2VL.encode, Qwen2VL.prefill_text
    read = VideoFeed.read

    def decoding(video: Video, plans: Sequence[FramePlan], reader: str = "pyav") -> Iterator[video_file.SizedFrame]:
        if plans:
            found.work(max(plan.indices[-1] for plan in plans) + 1, 0, f"decode {video.path.name}")
        yield from decode(video, plans, reader)

    def encoding(self: Qwen2VL, pixels: np.ndarray, *, slice_cells: int) -> torch.Tensor:
        found.work(10 * len(pixels), 1000 * len(pixels), "encode")
        return encode(self, pixels, slice_cells=slice_cells)

    def feeding(self: Qwen2VL, context: PrefillState, ids: list[int], *args: Any, **kwargs: Any) -> Any:
        found.work(100 * len(ids), len(ids), "feed")
        return feed(self, context, ids, *args, **kwargs)

    def watching(self: VideoFeed) -> None:
        found.work(100 * len(self.tokens), len(self.tokens), "feed")
        read(self)

    monkeypatch.setattr(video_file, "sized_frames", decoding)
    monkeypatch.setattr(Qwen2VL, "encode", encoding)
    monkeypatch.setattr(Qwen2VL, "prefill_text", feeding)
    monkeypatch.setattr(VideoFeed, "read", watching)
    return found


@pytest.fixture(scope="module")
def benchmark(tmp_path_factory: pytest.TempPathFactory) -> Benchmark:
    """Six videos of rising length with two questions each, the fourth of them broken."""
    root = tmp_path_factory.mktemp("videos")
    asked: list[Question] = []
    for n, length in enumerate((120, 40, 80, 0, 60, 100)):
        path = root / f"v{n}.mp4"
        if length:
            clips.make(path, frames=length, size=(112, 112))
        else:
            path.write_bytes(b"no video")
        asked += [question(path, 2 * n), question(path, 2 * n + 1)]
    return Benchmark(name="mlvu", label="MLVU", root=root, split="dev", questions=tuple(asked))


def spent(found: dict[Any, Any], point: OperatingPoint, question_id: str = "q0") -> Ledger:
    ledger = found[point.name, point.ratio, question_id].ledger
    assert isinstance(ledger, Ledger)
    return ledger


def measured(
    folder: Path,
    points: Sequence[OperatingPoint],
    benchmark: Benchmark,
    backbone: Qwen2VL,
    meter: Ticking,
    videos: int = 3,
) -> dict[OperatingPoint, list[dict[str, Any]]]:
    """timing.jsonl of each operating point after one start that times `operating_points` one after the other."""
    own = engine(backbone, gauge=meter)
    timer = Timer(lambda: own, SAME, videos)
    for place, point in enumerate(points):
        run = RunFolder(folder / str(place), {"identity": point.name}, "cpu")
        assert timer.measure(point, run, timing.drawn(benchmark, videos, seed=0)) == 0
        run.close()
    return {point: lines(folder / str(place)) for place, point in enumerate(points)}


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / TIMING).read_text().splitlines()]


def test_seconds_of_an_operating_point_timed_alone_do_not_depend_on_its_neighbours(
    tmp_path: Path, benchmark: Benchmark, backbone: Qwen2VL, meter: Ticking
) -> None:
    alone = measured(tmp_path / "alone", [FEW], benchmark, backbone, meter)
    beside = measured(tmp_path / "beside", NEIGHBOURS, benchmark, backbone, meter)
    assert beside[FEW] == alone[FEW]
    assert len(alone[FEW]) == 3
    for point in NEIGHBOURS:
        assert [line["video_id"] for line in beside[point]] == [line["video_id"] for line in alone[FEW]]
        assert {(line["method"], line["ratio"], line["status"]) for line in beside[point]} == {
            (point.name, point.ratio, "ok")
        }
    few = alone[FEW][-1]["seconds"]
    assert few["decode"] > 0
    assert few["encode"] == 10 * 4
    assert few["prefill"] > 100 * 32
    assert beside[DENSE][-1]["seconds"]["encode"] == 10 * 32


def test_shared_seconds_depend_on_neighbours_and_say_so(
    benchmark: Benchmark, backbone: Qwen2VL, meter: Ticking
) -> None:
    """The negative control: the same clock, the same operating point, answered together with others."""
    own, asked = engine(backbone, gauge=meter), [benchmark.questions[0]]
    alone, beside = (spent(answer(own, points, asked), FEW) for points in ([FEW], NEIGHBOURS))
    assert beside.seconds.decode < alone.seconds.decode / 2
    assert (alone.seconds_shared, beside.seconds_shared) == (False, True)


def test_questions_about_one_video_share_their_seconds(benchmark: Benchmark, backbone: Qwen2VL, meter: Ticking) -> None:
    asked = list(benchmark.questions[:2])
    together = answer(engine(backbone, gauge=meter), [FEW], asked)
    apart = answer(engine(backbone, gauge=meter, share=False), [FEW, DENSE], asked)
    assert [spent(together, FEW, q.id).seconds_shared for q in asked] == [True, True]
    assert {spent(apart, point, q.id).seconds_shared for point in (FEW, DENSE) for q in asked} == {False}


def test_peak_memory_includes_the_encoder(benchmark: Benchmark, backbone: Qwen2VL, meter: Ticking) -> None:
    """Beside others, too, and of the own frames alone: the encoder of the dense run is not a small plan's."""
    found = answer(engine(backbone, gauge=meter), [DENSE, FEW, NEIGHBOURS[-1]], [benchmark.questions[0]])
    assert (spent(found, DENSE).peak_bytes, spent(found, FEW).peak_bytes) == (32_000, 4_000)
    assert 0 < spent(found, NEIGHBOURS[-1]).peak_bytes < 1000  # blind: nothing is encoded


def test_a_cuda_meter_waits_for_kernels_and_asks_the_allocator(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the order of calls: no CUDA device is needed."""
    calls: list[str] = []
    names = ("synchronize", "reset_peak_memory_stats", "max_memory_allocated", "empty_cache")
    for name in names:
        monkeypatch.setattr(torch.cuda, name, lambda *_, name=name: calls.append(name) or 7)
    meter = Meter(torch.device("cuda"))
    meter.reset_peak()
    with Clock(meter).stage("encode"):
        calls.append("work")
    assert meter.peak_bytes() == 7
    meter.release()
    first, *inside, peak, released = calls
    assert (first, inside) == ("reset_peak_memory_stats", ["synchronize", "work", "synchronize"])
    assert (peak, released) == ("max_memory_allocated", "empty_cache")


def test_one_answer_warms_up_and_is_not_counted(
    tmp_path: Path, benchmark: Benchmark, backbone: Qwen2VL, meter: Ticking
) -> None:
    found = measured(tmp_path, [DENSE, FEW], benchmark, backbone, meter)
    own = [line["video_id"] for line in found[DENSE]]
    decoded = [call for call in meter.calls if call == "release" or call.startswith("decode")]
    each = ["release", *(f"decode {video}" for video in [own[-1], *own])]  # the longest one twice
    assert decoded == each * 2


def test_videos_are_drawn_from_strata_of_duration_the_same_for_all(benchmark: Benchmark) -> None:
    """Readable ones only, each stratum gives one, and the seed decides which."""
    lengths = [[seconds for _, seconds in timing.drawn(benchmark, 2, seed)] for seed in range(20)]
    assert {short for short, _ in lengths} == {40 / 25, 60 / 25}
    assert {long for _, long in lengths} == {80 / 25, 100 / 25, 120 / 25}
    assert [q.id for q, _ in timing.drawn(benchmark, 2, 7)] == [q.id for q, _ in timing.drawn(benchmark, 2, 7)]
    every = timing.drawn(benchmark, 99, 0)
    assert [q.video_id for q, _ in every] == ["v1.mp4", "v4.mp4", "v2.mp4", "v5.mp4", "v0.mp4"]
    assert {q.id for q, _ in every} == {"q0", "q2", "q4", "q8", "q10"}  # the first question about each


def test_a_second_start_measures_only_what_is_missing(
    tmp_path: Path, benchmark: Benchmark, backbone: Qwen2VL, meter: Ticking
) -> None:
    def unneeded() -> Any:
        raise AssertionError("nothing is missing, so that no model is loaded")

    measured(tmp_path, [FEW], benchmark, backbone, meter)
    file, drawn = tmp_path / "0" / TIMING, timing.drawn(benchmark, 3, 0)
    run = RunFolder(tmp_path / "0", {"identity": "x"}, "cpu")
    assert Timer(unneeded, SAME, 3).measure(FEW, run, drawn) == 0
    assert len(Timer(unneeded, {**SAME, "device": "another"}, 3).missing(run, drawn)) == 3
    whole = file.read_text()
    file.write_text(whole[:-9])  # killed while it wrote the last line
    own = engine(backbone, gauge=meter)
    meter.calls.clear()
    assert Timer(lambda: own, SAME, 3).measure(FEW, run, drawn) == 0
    run.close()
    assert file.read_text() == whole
    assert [call for call in meter.calls if call.startswith("decode")] == [f"decode {drawn[-1][0].video_id}"] * 2


def test_a_failed_measurement_is_recorded_and_tried_again(
    tmp_path: Path, benchmark: Benchmark, backbone: Qwen2VL, meter: Ticking
) -> None:
    @dataclass(frozen=True, kw_only=True)
    class Broken(Method):
        def frames(self, video: Video, budget: Budget) -> FramePlan:
            raise RuntimeError("no such luck")

    own, drawn = engine(backbone, gauge=meter), timing.drawn(benchmark, 2, 0)
    run = RunFolder(tmp_path, {"identity": "x"}, "cpu")
    timer = Timer(lambda: own, SAME, 2)
    assert timer.measure(OperatingPoint("broken", Broken(), 1.0), run, drawn) == 2
    assert [(line["status"], line["error"], line["seconds"]) for line in lines(tmp_path)] == [
        ("failed", "RuntimeError: no such luck", None)
    ] * 2
    assert len(timer.missing(run, drawn)) == 2
    run.close()


@pytest.mark.parametrize("value", [-1, 2.5, "many", None, True])
def test_a_wrong_number_of_videos_is_explained(value: Any) -> None:
    with pytest.raises(ConfigError, match="timing=8"):
        checks.timed_videos(value)
