"""Which run, which file of a video, which libraries an answer is of is known, and looked at when a run starts."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from evalkit.data.benchmarks import load as load_benchmark
from evalkit.data.fingerprint import described, fingerprint
from evalkit.engine.executor.base import Executor, Given
from evalkit.engine.grid import Grid
from evalkit.errors import DataError
from evalkit.runs import identity, load, parse_answer
from evalkit.runs.folder import ANSWERS, RunFolder
from evalkit.types import Benchmark
from tests.support import rows
from tests.support.run_folders import row, write_run
from tests.support.stub_engine import POINTS, answered, question

if TYPE_CHECKING:
    from evalkit.engine.executor.base import Pending
    from evalkit.engine.setup import EngineSetup
    from evalkit.method import OperatingPoint

CONFIG = {"identity": "mine"}

# ---- a run's identity


def test_a_bad_row_does_not_bring_the_path_in(tmp_path: Path) -> None:
    found = []
    for place, answer in (("here", "Green"), ("there/below", "Green"), ("here too", 7)):
        good, bad = rows.mlvu_row(), rows.mlvu_row(candidates="none")
        rows.write_json(tmp_path / place / "json" / "1_plotQA.json", [good | {"answer": answer}, bad])
        (benchmark,) = load_benchmark("mlvu", tmp_path / place)
        assert str(tmp_path) in benchmark.bad_rows[-1].message
        found.append(identity.rows(benchmark))
    assert found[0] == found[1] != found[2]


def test_the_reader_and_what_it_decodes_with_belong_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    before = {reader: identity.code(reader) for reader in ("pyav", "torchcodec", "of another package")}
    version = identity.version

    def newer(changed: str) -> Callable[[str], str]:
        return lambda name: "99" if name == changed else version(name)

    for changed, differ in (("av", set(before)), ("torchcodec", {"torchcodec"}), ("nothing", set())):
        monkeypatch.setattr(identity, "version", newer(changed))
        assert {reader for reader in before if identity.code(reader) != before[reader]} == differ
    monkeypatch.setattr(identity, "version", version)
    monkeypatch.setattr(identity, "ffmpeg", lambda: "libavcodec 99")
    assert identity.code() != before["pyav"]


# ---- lines of another run, and lines that are none


def given(folder: Path, config: dict[str, Any], *numbers: int) -> None:
    run = RunFolder(folder, config, "cpu")
    for number in numbers:
        run.append(answered(POINTS[0], question("v", number)))
    run.close()


def test_a_line_says_which_run_it_is_of(tmp_path: Path) -> None:
    given(tmp_path / "a", CONFIG, 0, 1)
    given(tmp_path / "b", {"identity": "another"}, 2)
    own, other = (tmp_path / name / ANSWERS for name in "ab")
    with own.open("a") as stream:
        stream.write(other.read_text())
    with pytest.raises(DataError, match=rf"{ANSWERS}, line 3: expected a line of the run mine, came one of another"):
        given(tmp_path / "a", CONFIG)


def test_nor_is_it_read(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", [row("1", True), row("2", True, identity="1f0c22aa00000000")])
    assert len(load.load(folder)[0].answers) == 2  # of an older version, and of this one
    with (folder / ANSWERS).open("a") as stream:
        stream.write(json.dumps(row("3", True, identity="another")) + "\n")
    with pytest.raises(DataError, match="line 3: expected a line of the run 1f0c22aa00000000"):
        load.load(folder)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"status": "good"}, "expected status ok with a letter"),
        ({"correct": "yes"}, "expected correct to be bool or null"),
        ({"letter": 3}, "expected letter to be str or null"),
        ({"video_file": 3}, "expected video_file to be str"),
        ({"groups": []}, "expected groups to be dict"),
    ],
)
def test_a_line_is_read_whole_before_the_work(tmp_path: Path, change: dict[str, Any], says: str) -> None:
    given(tmp_path, CONFIG, 0)
    line = json.loads((tmp_path / ANSWERS).read_text())
    (tmp_path / ANSWERS).write_text(json.dumps(line | change) + "\n")
    with pytest.raises(DataError, match=rf"line 1: {says}"):
        given(tmp_path, CONFIG)


def test_without_the_check_a_line_of_another_run_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The negative control."""
    given(tmp_path, {"identity": "another"}, 0)
    monkeypatch.setattr(parse_answer, "expect_run", lambda *_: None)
    folder = RunFolder(tmp_path, CONFIG, "cpu")
    assert folder.answered() == {"v:0"}
    folder.close()


# ---- a video's file


@dataclass(frozen=True)
class Noting(Executor):
    """Answers, and notes which videos it was asked about."""

    asked: list[str] = field(default_factory=list)

    @contextmanager
    def answers(self, setup: EngineSetup, videos: Sequence[Pending]) -> Iterator[Iterator[Given]]:
        yield (self._given(k, p, q) for k, pending in enumerate(videos) for p, some in pending.items() for q in some)

    def _given(self, place: int, point: OperatingPoint, one: Any) -> Given:
        self.asked.append(one.id)
        file = described(fingerprint(one.video_path), 60)
        return Given(place, point, replace(answered(point, one), video_file=file))


class PlainGrid(Grid):
    """A grid without a model."""

    def config(self, benchmark: Benchmark, rows: str, point: OperatingPoint) -> dict[str, Any]:
        return {"identity": rows}


def asked_by(folder: Path) -> list[str]:
    """Run, and say which questions were asked."""
    setup: Any = SimpleNamespace(
        backbone=SimpleNamespace(torch_device="cpu", name="none"),
        decode=None,
        expect_prompts=lambda _: None,
        check_settings=lambda _: None,
    )
    asked = tuple(replace(question(v, n), video_path=folder / v) for v in ("a", "b") for n in range(2))
    executor = Noting()
    grid = PlainGrid(
        points=POINTS[:1],
        benchmarks=[Benchmark(name="mlvu", label="MLVU", root=folder, split="dev", questions=asked)],
        setup=setup,
        results_dir=folder / "results",
        order=["all"],
        reference="all",
        executor=executor,
    )
    grid.run()
    return executor.asked


def test_a_repaired_video_is_answered_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "ab":
        (tmp_path / name).write_bytes(os.urandom(1_000_000))
    assert asked_by(tmp_path) == ["a:0", "a:1", "b:0", "b:1"]
    assert asked_by(tmp_path) == []
    (tmp_path / "a").touch()  # another time, the same file
    assert asked_by(tmp_path) == []
    data = (tmp_path / "b").read_bytes()
    (tmp_path / "b").write_bytes(data[:300_000] + os.urandom(200_000) + data[500_000:])  # of the same size
    assert asked_by(tmp_path) == ["b:0", "b:1"]
    assert "2 questions are asked again, as the files of their videos have changed" in caplog.text
    (tmp_path / "a").unlink()
    assert asked_by(tmp_path) == []
    (tmp_path / "b").write_bytes(data)
    monkeypatch.setattr("evalkit.engine.grid.unchanged", lambda *_: True)  # negative control: old answers, new video
    assert asked_by(tmp_path) == []
