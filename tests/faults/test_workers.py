"""Workers that are killed, hang or talk nonsense cost what they had in hand, and none outlives the run.

Each promise has its negative control beside it: with the protection off, the harm is there.
"""

from __future__ import annotations

import os
import pickle
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import connection
from pathlib import Path

import pytest

from evalkit import child_process
from evalkit.engine.executor import process as worker_process
from evalkit.engine.executor.assignment import Assignment
from evalkit.engine.executor.base import Given
from evalkit.engine.executor.pool import Pool
from evalkit.engine.executor.process import ProcessWorker
from tests.support import odd_workers
from tests.support.golden import ROOT
from tests.support.stub_engine import StubFactory, pool_of, videos

SHORT = 0.5  # of deadlines; a process of the stub engine is silent for milliseconds
LONG = 60.0


def run(folder: Path, names: list[str], workers: int = 2, deadline: float = SHORT) -> list[Given]:
    with pool_of(*[StubFactory(folder)] * workers, deadline=deadline) as pool:
        return list(pool.answers(videos(*names)))


def statuses(found: list[Given], video: str) -> list[str]:
    return [one.answer.status for one in found if one.answer.video_id == video]


# ---- one that hangs


@pytest.mark.slow
def test_a_worker_that_hangs_is_killed_at_its_deadline(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """One stops itself after its first answer, one does so whenever it gets that video; four answers each."""
    found = run(tmp_path, ["stopped", "stops", "plain"])
    assert len({(one.point, one.answer.question_id) for one in found}) == len(found) == 12
    assert statuses(found, "stopped") == statuses(found, "plain") == ["ok"] * 4
    assert statuses(found, "stops") == ["ok", "ok", "failed", "failed"]
    errors = {str(one.answer.error) for one in found if one.answer.status == "failed"}
    silent = "one gave no answer for 0.5 s (executor.deadline) and was killed"
    assert errors == {f"each worker that was given this video was lost: {silent}, {silent}"}
    assert caplog.text.count("the video is tried again") == 2


def test_without_a_deadline_it_is_waited_for(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The negative control: only who continues the process from outside ends the wait."""
    with pool_of(StubFactory(tmp_path), deadline=float("inf")) as pool:
        answers = pool.answers(videos("stopped"))
        first = next(answers)
        process = int((tmp_path / "asked").read_text().split()[0])
        waiting = threading.Thread(target=odd_workers.continued, args=(process,))
        waiting.start()
        found = [first, *answers]
        waiting.join()
    assert statuses(found, "stopped") == ["ok"] * 4
    assert not caplog.text


# ---- nonsense


Write = Callable[..., None]


@pytest.fixture
def first_sends(monkeypatch: pytest.MonkeyPatch) -> Callable[[Write], None]:
    """The first worker that is started does nothing but write: before it is ready, so that the other does its work."""

    def patch(write: Write) -> None:
        monkeypatch.setattr(child_process, "SILENCE_SECONDS", 0.2)
        start, serve = worker_process.Processes.start, worker_process.serve
        begun: list[ProcessWorker] = []

        def started(starter: worker_process.Processes, number: int) -> ProcessWorker:
            monkeypatch.setattr(worker_process, "serve", serve if number else write)
            begun.append(start(starter, number))
            connection.wait(begun[0].waits_for, LONG)  # the other one is started when there is something to hear
            return begun[-1]

        monkeypatch.setattr(worker_process.Processes, "start", started)

    return patch


@pytest.mark.parametrize(
    ("write", "told"),
    [
        (odd_workers.other_object, "sent what is no message and was killed"),
        (odd_workers.no_pickle, "sent what cannot be read"),
        (odd_workers.half, "fell silent in the middle of a message and was killed"),
    ],
)
def test_a_worker_that_sends_nonsense_is_lost(
    write: Write,
    told: str,
    first_sends: Callable[[Write], None],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    first_sends(write)
    found = run(tmp_path, ["a", "b"], deadline=LONG)
    assert [one.answer.status for one in found] == ["ok"] * 8
    assert f"worker 0 {told}" in caplog.text


@pytest.mark.parametrize("write", [odd_workers.no_pickle, odd_workers.half])
def test_without_reading_with_care_nonsense_ends_the_run(
    write: Write,
    first_sends: Callable[[Write], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The negative control."""
    first_sends(write)
    monkeypatch.setattr(ProcessWorker, "receive", lambda worker: worker.waits_for[0].recv())
    with pytest.raises((pickle.UnpicklingError, BlockingIOError)):
        run(tmp_path, ["a", "b"], deadline=LONG)


@pytest.mark.slow
@pytest.mark.parametrize("protected", [True, False])
def test_a_worker_that_sends_another_object_is_not_kept(
    protected: bool,
    first_sends: Callable[[Write], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And the negative control: one that nobody looks at stays to the end."""
    first_sends(odd_workers.other_object)
    if not protected:
        understood = Pool._understood
        monkeypatch.setattr(Pool, "_understood", lambda *said: None if type(said[2]) is tuple else understood(*said))
    with pool_of(*[StubFactory(tmp_path)] * 2, deadline=LONG) as pool:
        assert len(list(pool.answers(videos("a", "b")))) == 8
        assert len(pool._workers) == (1 if protected else 2)


@pytest.mark.slow
def test_answers_that_were_not_asked_for_and_missing_ones_are_no_answers(tmp_path: Path) -> None:
    odd = ["unasked", "other", "twice", "nothing", "less"]
    found = run(tmp_path, [*odd, "plain"], deadline=LONG)
    assert statuses(found, "plain") == ["ok"] * 4
    assert len(found) == len({(one.point, one.answer.question_id) for one in found}) == 24
    assert {video: statuses(found, video).count("ok") for video in odd} == dict(zip(odd, [0, 0, 1, 0, 2], strict=True))


@pytest.mark.slow
def test_without_the_check_they_are_lost_or_doubled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The negative control: one question has no row, another has two."""
    monkeypatch.setattr(Assignment, "done", lambda _: None)
    assert len(run(tmp_path, ["less", "plain"], deadline=LONG)) < 8
    monkeypatch.setattr(
        Assignment, "given", lambda self, told: Given(self.place, self._points[told.point], told.answer)
    )
    found = run(tmp_path, ["twice"], deadline=LONG)
    assert len({(one.point, one.answer.question_id) for one in found}) < len(found)


# ---- no process outlives the run

STOPPED = """
import os
import sys
from pathlib import Path
from tests.support.stub_engine import StubFactory, pool_of, videos
with pool_of(StubFactory(Path(sys.argv[1]), sys.argv[2]), forked=sys.argv[3] == "True") as pool:
    next(pool.answers(videos("stops")))
    worker = (Path(sys.argv[1]) / "processes").read_text().split()[0]
    while ") T " not in Path(f"/proc/{worker}/stat").read_text():
        os.sched_yield()
    print(flush=True)
    sys.stdin.read()
"""


@pytest.mark.slow
@pytest.mark.parametrize(("protected", "forked"), [(True, False), (True, True), (False, False)])
def test_no_stopped_process_outlives_a_parent_that_is_killed(protected: bool, forked: bool, tmp_path: Path) -> None:
    """A worker and its decoder, both stopped: neither can read that its pipe has ended."""
    words = [sys.executable, "-c", STOPPED, str(tmp_path), "decodes" if protected else "unprotected", str(forked)]
    with subprocess.Popen(words, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        parent.stdout.readline()
        processes = [int(name) for name in (tmp_path / "processes").read_text().split()]
        ends = [os.pidfd_open(process) for process in processes]
        parent.kill()
    try:
        assert len(ends) == 2
        for end in ends:
            assert select.select([end], [], [], LONG if protected else 0)[0] == ([end] if protected else [])
    finally:
        for end in ends:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(end, signal.SIGKILL)
            os.close(end)
