"""An editor or a synchronisation changes answers.jsonl under a run: it stops, and the next start goes on."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from evalkit.engine.executor.base import Executor, Given
from evalkit.engine.grid import Grid
from evalkit.errors import StorageError
from evalkit.runs.folder import ANSWERS, RunFolder
from evalkit.types import Benchmark
from tests.support.stub_engine import POINTS, answered, question

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from evalkit.engine.executor.base import Pending
    from evalkit.engine.setup import EngineSetup
    from evalkit.method import OperatingPoint
    from evalkit.types import Question

IDS = [f"v:{number}" for number in range(4)]


def give(folder: RunFolder, *numbers: int) -> None:
    for number in numbers:
        folder.append(answered(POINTS[0], question("v", number)))


def replaced(file: Path) -> None:
    (file.parent / "new").write_bytes(file.read_bytes())
    (file.parent / "new").replace(file)


def truncated(file: Path) -> None:
    with file.open("r+b") as stream:
        stream.truncate(file.read_bytes().index(b"\n") + 1)


def lengthened(file: Path) -> None:
    with file.open("ab") as stream:
        stream.write(b"\n")


@pytest.mark.parametrize(
    ("change", "says", "left"),
    [
        (replaced, "another file is in its place", {"v:0", "v:1"}),
        (truncated, "expected [0-9,]+ bytes, it has", {"v:0"}),
        (Path.unlink, "it is not there any more", set()),
    ],
)
def test_the_next_answer_stops(tmp_path: Path, change: Callable[[Path], None], says: str, left: set[str]) -> None:
    folder = RunFolder(tmp_path, {}, "cpu")
    give(folder, 0, 1)
    change(tmp_path / ANSWERS)
    with pytest.raises(StorageError, match=rf"{ANSWERS}: changed by another program .*{says}"):
        give(folder, 2)
    folder.close()
    again = RunFolder(tmp_path, {}, "cpu")
    assert again.answered() == left
    give(again, *(number for number, id_ in enumerate(IDS) if id_ not in left))
    again.expect_all(IDS)
    again.close()


@pytest.mark.parametrize(("change", "stored"), [(replaced, 3), (truncated, 2)])
def test_without_the_look_at_the_file_nobody_notices(
    tmp_path: Path, change: Callable[[Path], None], stored: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The negative control: three answers were given, and none said that one is not there any more."""
    monkeypatch.setattr(RunFolder, "_expect_own", lambda *_: None)
    folder = RunFolder(tmp_path, {}, "cpu")
    give(folder, 0, 1)
    change(tmp_path / ANSWERS)
    give(folder, 2)
    assert folder.close()["questions"] == 3
    assert len((tmp_path / ANSWERS).read_text().splitlines()) == stored


def test_what_is_there_at_the_end(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, {}, "cpu")
    give(folder, 0, 1, 2)
    with pytest.raises(StorageError, match="1 of 4 questions have no line, such as 'v:3'"):
        folder.expect_all(IDS)
    give(folder, 3)
    folder.expect_all(IDS)
    lengthened(tmp_path / ANSWERS)  # after the last answer
    with pytest.raises(StorageError, match="bytes, it has"):
        folder.expect_all(IDS)
    folder.close()


def test_an_edit_of_the_same_size_is_found_at_the_end(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, {}, "cpu")
    give(folder, *range(4))
    file = tmp_path / ANSWERS
    with file.open("r+b") as stream:
        stream.write(file.read_bytes().replace(b'"v:1"', b'"v:9"'))
    with pytest.raises(StorageError, match="1 of 4 questions have no line, such as 'v:1'"):
        folder.expect_all(IDS)
    folder.close()


@dataclass(frozen=True)
class Losing(Executor):
    """Answers all but the last `lost` questions."""

    lost: int

    @contextmanager
    def answers(self, setup: EngineSetup, videos: Sequence[Pending]) -> Iterator[Iterator[Given]]:
        asked = [(k, p, q) for k, pending in enumerate(videos) for p, some in pending.items() for q in some]
        yield (Given(k, point, answered(point, one)) for k, point, one in asked[: len(asked) - self.lost])


class PlainGrid(Grid):
    """A grid without a model."""

    def config(self, benchmark: Benchmark, rows: str, point: OperatingPoint) -> dict[str, Any]:
        return {"identity": rows}


def settings(tmp_path: Path, asked: Sequence[Question]) -> dict[str, Any]:
    """Of a grid of one operating point."""
    setup = SimpleNamespace(
        backbone=SimpleNamespace(torch_device="cpu", name="none"),
        decode=None,
        expect_prompts=lambda _: None,
        check_settings=lambda _: None,
    )
    return {
        "points": POINTS[:1],
        "benchmarks": [Benchmark(name="mlvu", label="MLVU", root=tmp_path, split="dev", questions=tuple(asked))],
        "setup": setup,
        "results_dir": tmp_path,
        "order": ["all"],
        "reference": "all",
    }


def test_a_run_ends_well_only_if_each_question_has_its_line(tmp_path: Path) -> None:
    grid = settings(tmp_path, [question("v", number) for number in range(4)])
    with pytest.raises(StorageError, match="1 of 4 questions have no line, such as 'v:3'"):
        PlainGrid(**grid, executor=Losing(1)).run()
    ((folder,), failed) = PlainGrid(**grid, executor=Losing(0)).run()
    assert (failed, len((folder / ANSWERS).read_text().splitlines())) == (0, 4)


def test_the_answers_about_a_video_are_synced_before_the_next_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines, right = list[int](), RunFolder.sync

    def watched(folder: RunFolder) -> int:
        lines.append((folder.path / ANSWERS).read_bytes().count(b"\n"))
        return right(folder)

    monkeypatch.setattr(RunFolder, "sync", watched)
    grid = settings(tmp_path, [question(video, number) for video in "vw" for number in range(2)])
    PlainGrid(**grid, executor=Losing(0)).run()
    assert lines == [0, 2, 4, 4]  # no bad rows; the videos; closed
