"""Data folders are checked as a whole, and no video can stop that."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from evalkit.__main__ import main
from evalkit.data import benchmarks
from evalkit.data.benchmarks.spec import KnownRows
from evalkit.data.prepare import subsets, verify
from evalkit.data.prepare.checksums import ids_sha256, rows_sha256
from evalkit.data.prepare.worker_pool import Worker, ask_all
from evalkit.errors import ConfigError, EvalkitError, VideoError
from evalkit.types import Benchmark
from tests.support import clips, rows
from tests.support.faulty_decoder import fine_or_not

ANNOTATIONS = Path(__file__).parents[3] / "shared" / "annotations"
PROMPT, LONG = 0.1, 600.0  # seconds: for a process that hangs on purpose, and for one that does not


def change_spec(monkeypatch: pytest.MonkeyPatch, **changes: object) -> None:
    """LVBench's spec with other fields."""
    spec = replace(benchmarks.REGISTRY["lvbench"], **changes)  # type: ignore[arg-type]
    monkeypatch.setitem(benchmarks.REGISTRY.loaded, "lvbench", spec)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clips.make(tmp_path_factory.mktemp("clips") / "clip.mp4", frames=40)


def lvbench(root: Path, clip: Path, count: int = 4) -> Benchmark:
    """LVBench rows on `count` videos of two questions each, all there and sound."""
    lines = []
    for n in range(count):
        asked = [rows.lvbench_qa(uid=str(2 * n + k)) for k in (0, 1)]
        lines.append(rows.lvbench_line(key=f"v{n}", qa=asked))
        path = root / "videos" / f"v{n}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(clip.read_bytes())
    rows.write_lines(root / rows.LVBENCH_LINES, lines)
    return loaded(root)


def loaded(root: Path) -> Benchmark:
    (benchmark,) = benchmarks.load("lvbench", root)
    return benchmark


# ---- processes


@pytest.mark.slow
def test_what_crashes_costs_one_file(tmp_path: Path) -> None:
    names = ["fine_1", "crash", "fine_2", "kill", "bad", "odd", "fine_3"]
    found = dict(ask_all(fine_or_not, [tmp_path / name for name in names], workers=2, seconds=LONG))
    assert {path.name: fault for path, fault in found.items()} == {
        "fine_1": "",
        "fine_2": "",
        "fine_3": "",
        "crash": "the process that decoded it ended with exit code 7",
        "kill": "the process that decoded it ended with exit code -9",
        "bad": "not a video",
        "odd": "ZeroDivisionError: of a library",
    }


@pytest.mark.slow
def test_what_hangs_costs_one_file_and_its_process(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    worker = Worker(fine_or_not)
    assert worker.ask(tmp_path / "fine", LONG) == ""
    process = worker._process
    assert process is not None
    assert process.is_alive()
    assert worker.ask(tmp_path / "hang", PROMPT) == f"not decoded within {PROMPT} s"
    assert process.exitcode == -9
    assert worker.ask(tmp_path / "fine", LONG) == ""  # by another process
    worker.stop()


@pytest.mark.slow
def test_giving_up_midway_leaves_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Worker] = []
    start = Worker._start
    monkeypatch.setattr(Worker, "_start", lambda self: (seen.append(self), start(self))[1])
    os.mkfifo(tmp_path / "pipe")
    answers = ask_all(fine_or_not, [tmp_path / "fine", tmp_path / "hang"], workers=2, seconds=LONG)
    assert next(answers) == (tmp_path / "fine", "")
    processes = [worker._process for worker in seen]
    answers.close()  # the other one would wait for ten minutes
    assert processes
    assert not any(process and process.is_alive() for process in processes)


def not_importable(path: Path) -> None:
    raise AssertionError(path)


def test_a_process_that_cannot_start_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(not_importable, "__module__", "no_such_module")
    monkeypatch.setitem(sys.modules, "no_such_module", sys.modules[__name__])  # here it exists, there it does not
    with pytest.raises(EvalkitError, match="no process could be started"):
        Worker(not_importable).ask(tmp_path, 60)
    assert "no_such_module" in capfd.readouterr().err


# ---- videos


def test_real_videos_are_decoded_to_their_end(tmp_path: Path, clip: Path) -> None:
    verify.decodes(clip)
    tail = clips.make(tmp_path / "fast.mp4", frames=100, keyframes=10, muxer={"movflags": "faststart"})
    verify.decodes(tail)
    for broken in (
        clips.damaged(tail, tmp_path / "tail.mp4", 0.9, 1.0),
        clips.truncated(clip, tmp_path / "t.mp4", 0.5),
    ):
        with pytest.raises(VideoError, match=broken.name):
            verify.decodes(broken)


def test_missing_and_broken_are_told_apart(tmp_path: Path, clip: Path) -> None:
    benchmark = lvbench(tmp_path, clip)
    (tmp_path / "videos" / "v1.mp4").unlink()
    clips.truncated(clip, tmp_path / "videos" / "v3.mp4", 0.5)
    report = verify.verify(benchmark)
    assert {video: (c.problem, c.questions) for video, c in report.videos.items()} == {
        "v0": (None, 2),
        "v1": ("missing", 2),
        "v2": (None, 2),
        "v3": ("broken", 2),
    }
    assert not report.complete
    assert report.videos["v3"].path == "videos/v3.mp4"


# ---- rows


def test_rows_are_held_against_the_known_sets(tmp_path: Path, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    benchmark = lvbench(tmp_path, clip)
    assert "expected 1549 or 1519 or 1492 rows, got 8" in verify.rows_problem(benchmark)
    change_spec(monkeypatch, question_sets={8: "of this test"})
    assert verify.rows_problem(benchmark) == ""
    known = KnownRows(ids=ids_sha256(benchmark), content=rows_sha256(benchmark))
    change_spec(monkeypatch, known_rows=(known,))
    assert verify.rows_problem(benchmark) == ""
    first, *rest = benchmark.questions
    changed = replace(benchmark, questions=(replace(first, answer="A"), *rest))
    assert "content" in verify.rows_problem(changed)
    other_layout = replace(benchmark, questions=(replace(first, id="other", answer="A"), *rest))
    assert verify.rows_problem(other_layout) == ""


@pytest.mark.skipif(not ANNOTATIONS.is_dir(), reason=f"no real annotations at {ANNOTATIONS}")
@pytest.mark.parametrize(("name", "rows_there"), [("mlvu", 2175), ("lvbench", 1519)])
def test_the_published_rows_are_known(name: str, rows_there: int, tmp_path: Path) -> None:
    for file in (ANNOTATIONS / name).glob("[1-7l]*.json"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (benchmark,) = benchmarks.load(name, tmp_path)
    assert len(benchmark.questions) == rows_there
    assert [k.content for k in benchmarks.REGISTRY[name].known_rows if k.ids == ids_sha256(benchmark)] == [
        rows_sha256(benchmark)
    ]
    assert verify.rows_problem(benchmark) == ""
    edited = replace(benchmark, questions=(replace(benchmark.questions[0], text="?"), *benchmark.questions[1:]))
    assert verify.rows_problem(edited)


# ---- stored and carried


def test_a_run_repeats_what_was_found(tmp_path: Path, clip: Path) -> None:
    benchmark = lvbench(tmp_path, clip)
    assert verify.carry(benchmark, benchmark) == benchmark
    (tmp_path / "videos" / "v1.mp4").unlink()
    verify.write(verify.verify(benchmark), tmp_path)
    assert verify.carry(benchmark, benchmark).notes == (
        *benchmark.notes,
        "1 video missing or broken (2 questions), found by data verify",
    )
    without = replace(benchmark, questions=tuple(q for q in benchmark.questions if q.video_id != "v1"))
    assert verify.carry(benchmark, without).notes == benchmark.notes  # a part without that video


def test_a_part_that_was_looked_at_says_so(tmp_path: Path, clip: Path) -> None:
    benchmark = lvbench(tmp_path, clip)
    part = replace(benchmark, questions=benchmark.questions[:4])
    report = verify.verify(part)
    verify.write(replace(report, rows_sha256=rows_sha256(benchmark)), tmp_path)
    assert verify.carry(benchmark, benchmark).notes[-1] == "2 of 4 videos not checked by data verify"


@pytest.mark.slow
@pytest.mark.parametrize("change", ["video comes", "video goes", "video changes", "rows change", "torn"])
def test_a_report_that_is_out_of_date_is_left_out(
    change: str, tmp_path: Path, clip: Path, caplog: pytest.LogCaptureFixture
) -> None:
    benchmark = lvbench(tmp_path, clip)
    gone, there = (tmp_path / "videos" / name for name in ("v1.mp4", "v2.mp4"))
    gone.unlink()
    verify.write(verify.verify(benchmark), tmp_path)
    if change == "video comes":
        gone.write_bytes(clip.read_bytes())
    elif change == "video goes":
        there.unlink()
    elif change == "video changes":
        os.utime(there, ns=(1, 1))
    elif change == "rows change":
        benchmark = replace(benchmark, questions=benchmark.questions[:-1])
    else:
        (tmp_path / verify.FILE).write_text("{", encoding="utf-8")
    assert verify.carry(benchmark, benchmark) == benchmark
    assert "verify again" in caplog.text


def test_a_folder_that_cannot_be_written(tmp_path: Path, clip: Path) -> None:
    report = verify.verify(lvbench(tmp_path, clip))
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="--out"):
        verify.write(report, tmp_path / "file")


# ---- the command


def test_the_command(
    tmp_path: Path, clip: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    change_spec(monkeypatch, question_sets={8: "of this test"})
    lvbench(tmp_path, clip)
    command = ["data", "verify", "lvbench", "--root", str(tmp_path), "--workers", "1"]
    assert main(command) == 0
    assert "4 videos checked, 0 missing, 0 broken" in capsys.readouterr().out
    (tmp_path / "videos" / "v1.mp4").unlink()
    assert main([*command, "--out", str(tmp_path / "elsewhere")]) == 1
    assert "missing: v1 (2 questions)" in capsys.readouterr().out
    stored = json.loads((tmp_path / "elsewhere" / "verify.json").read_text())
    assert (stored["complete"], stored["missing"], stored["broken"]) == (False, ["v1"], [])
    assert stored["videos"]["v1"]["problem"] == "missing"
    assert main([*command[:-4], "--root", str(tmp_path / "nowhere")]) == 2
    assert main([*command, "--subset", "ci-7"]) == 2
    with pytest.raises(SystemExit) as stop:
        main([*command[:-1], "0"])
    assert stop.value.code == 2


def test_too_few_rows_are_something_missing(tmp_path: Path, clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lvbench(tmp_path, clip)
    assert main(["data", "verify", "lvbench", "--root", str(tmp_path), "--subset", subsets.FULL]) == 1
    assert "got 8" in capsys.readouterr().out
