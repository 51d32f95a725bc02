"""What fails at every video, and through no fault of a video, stops the run after a few; nothing finished is lost."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from evalkit.commands import run as commands
from evalkit.engine import records
from evalkit.engine.executor.base import Executor, Given
from evalkit.engine.grid import Grid
from evalkit.errors import ConfigError, SystematicError
from evalkit.runs.folder import ANSWERS
from evalkit.types import Benchmark
from tests.support import rows
from tests.support.configs import composed
from tests.support.run_eval import run_eval
from tests.support.stub_engine import POINTS, answered, question

if TYPE_CHECKING:
    from evalkit.engine.executor.base import Pending
    from evalkit.engine.setup import EngineSetup
    from evalkit.method import OperatingPoint
    from evalkit.types import Answer, Question

VIDEOS = [f"v{number:02d}" for number in range(9)]
MEMORY = "RuntimeError: CUDA out of memory, {n} bytes asked for {video}"


@dataclass(frozen=True)
class Failing(Executor):
    """Answers what `errors` has no error for; it maps a video's id to one."""

    errors: dict[str, str]
    spared: tuple[float, ...] = ()  # ratios that are answered in any case

    @contextmanager
    def answers(self, setup: EngineSetup, videos: Sequence[Pending]) -> Iterator[Iterator[Given]]:
        yield (
            Given(place, point, self.answer(point, one))
            for place, pending in enumerate(videos)
            for point, some in pending.items()
            for one in some
        )

    def answer(self, point: OperatingPoint, one: Question) -> Answer:
        error = self.errors.get(one.video_id)
        if error is None or point.ratio in self.spared:
            return answered(point, one)
        return records.failed(point, one, error.format(n=17 * int(one.video_id[1:]), video=one.video_id))


class PlainGrid(Grid):
    """A grid without a model."""

    def config(self, benchmark: Benchmark, rows: str, point: OperatingPoint) -> dict[str, Any]:
        return {"identity": f"{rows}-{point.ratio}"}


def grid(folder: Path, executor: Executor, **changes: Any) -> Grid:
    setup: Any = SimpleNamespace(
        backbone=SimpleNamespace(torch_device="cpu", name="none"),
        decode=None,
        expect_prompts=lambda _: None,
        check_settings=lambda _: None,
    )
    asked = tuple(question(video, number) for video in VIDEOS for number in range(2))
    return PlainGrid(
        points=POINTS,
        benchmarks=[Benchmark(name="mlvu", label="MLVU", root=folder, split="dev", questions=asked)],
        setup=setup,
        results_dir=folder,
        order=["all"],
        reference="all",
        executor=executor,
        **changes,
    )


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for file in folder.rglob(ANSWERS) for line in file.read_text().splitlines()]


def test_it_stops_says_why_and_goes_on(tmp_path: Path) -> None:
    errors = dict.fromkeys(VIDEOS[2:], MEMORY)
    reason = (
        r"5 videos one after the other have no answer.*CUDA out of memory, 102 bytes asked for v06.*max_failed=null"
    )
    with pytest.raises(SystematicError, match=reason):
        grid(tmp_path, Failing(errors)).run()
    stored = lines(tmp_path)
    assert [line["status"] for line in stored].count("ok") == 2 * 2 * 2
    assert {line["video_id"] for line in stored} == set(VIDEOS[:7])
    folders, failed = grid(tmp_path, Failing({})).run()
    assert (len(folders), failed) == (2, 0)
    assert len(lines(tmp_path)) == len(stored) + 7 * 2 * 2  # the failed ones, and those that were not tried


@pytest.mark.parametrize(
    ("executor", "settings"),
    [
        (Failing(dict.fromkeys(VIDEOS, MEMORY)), {"max_failed": None}),
        (Failing(dict.fromkeys(VIDEOS, MEMORY)), {"max_failed": 10}),
        (Failing(dict.fromkeys(VIDEOS, "VideoError: {video}.mp4: expected a video")), {}),
        (Failing(dict.fromkeys(VIDEOS, "DecoderKilledError: {video}.mp4: SIGSEGV")), {}),
        (Failing(dict.fromkeys(VIDEOS, MEMORY), spared=(0.5,)), {}),
        (Failing(dict.fromkeys(VIDEOS[:4] + VIDEOS[5:], MEMORY)), {}),
        (Failing({video: MEMORY if n % 2 else "MethodError: no" for n, video in enumerate(VIDEOS)}), {}),
    ],
    ids=["never", "more", "videos missing", "decoders killed", "one method", "one answered", "two reasons"],
)
def test_what_does_not_stop_it(tmp_path: Path, executor: Executor, settings: dict[str, Any]) -> None:
    """The first two are the negative control of the test above."""
    _, failed = grid(tmp_path, executor, **settings).run()
    assert len(lines(tmp_path)) == len(VIDEOS) * 2 * 2
    assert failed > 0


def test_the_exit_code(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fails(_: object) -> None:
        raise SystematicError("5 videos")

    monkeypatch.setattr(commands, "run", fails)
    assert run_eval() == 4
    assert capsys.readouterr().err.splitlines()[-1] == "SystematicError: 5 videos"


# ---- settings


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """One question; its video is not there."""
    rows.write_json(tmp_path / "data" / "json" / "1_plotQA.json", [rows.mlvu_row()])
    return tmp_path / "data"


def test_settings_are_checked_before_a_video_is_opened(
    data: Path, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLVU has no subtitles; without the check that is found when the first video has been decoded, or never."""
    chosen = ["benchmark=mlvu", f"benchmark.root={data}", f"results_dir={tmp_path / 'results'}", "report=false"]
    chosen += ["backbone=tiny_random", f"backbone.path={checkpoint}", "methods=[uniform]", "ratios=[1]"]
    cfg = composed(*chosen, "protocol=lmms_eval_subtitles")
    with pytest.raises(ConfigError, match="mlvu has no subtitles"):
        commands.run(cfg)
    monkeypatch.setattr("evalkit.engine.setup.EngineSetup.check_settings", lambda *_: None)
    assert commands.run(cfg).failed == 1


def test_the_setting(data: Path) -> None:
    with pytest.raises(ConfigError, match="max_failed: expected an integer from 1 on, or null, got 0"):
        commands.run(composed("benchmark=mlvu", f"benchmark.root={data}", "max_failed=0"))


@pytest.mark.parametrize("name", ["executor.deadline", "decode.deadline"])
def test_a_deadline_that_no_system_call_waits_for(data: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=rf"{name}: expected a number above 0, below 864000.*, got 1000000"):
        commands.run(composed("benchmark=mlvu", f"benchmark.root={data}", f"{name}=1000000"))
