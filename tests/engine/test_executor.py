"""Worker processes: every answer once whatever dies, errors of the whole run end it, and no process is left behind."""

from __future__ import annotations

import math
import multiprocessing
import os
import select
import signal
import subprocess
import sys
import threading
from collections import Counter, deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from evalkit import machine
from evalkit.data import protocols
from evalkit.data.sampling import Sampling
from evalkit.engine.backbone import Backbone
from evalkit.engine.executor import description, forking, local, pool
from evalkit.engine.executor.base import Given
from evalkit.engine.executor.local import LocalExecutor
from evalkit.engine.executor.messages import Message, Ready, Task
from evalkit.engine.executor.pool import Pool, Starter, Worker
from evalkit.engine.executor.process import Processes
from evalkit.engine.executor.worker import Answerer
from evalkit.engine.setup import EngineSetup
from evalkit.errors import ConfigError, EvalkitError
from evalkit.method import Method, OperatingPoint
from evalkit.model.checkpoint import locate
from tests.support.golden import ROOT
from tests.support.loop import FirstLetterProtocol
from tests.support.stub_engine import POINTS, StubEngine, StubFactory, pool_of, videos


@pytest.fixture(scope="module", autouse=True)
def libraries() -> None:
    """All tests of this process have one that forks for them: here it would do without libraries, elsewhere not."""
    if forking.possible():
        forking.start()


def run(folder: Path, names: list[str], workers: int, forked: bool = False) -> list[Given]:
    with pool_of(*[StubFactory(folder)] * workers, forked=forked) as pool:
        return list(pool.answers(videos(*names)))


def asked(folder: Path) -> list[list[str]]:
    """Process, video, ratio and question of everything that an engine was asked."""
    return [line.split() for line in (folder / "asked").read_text().splitlines()]


STARTS = pytest.mark.parametrize("forked", [False, True], ids=["spawned", "forked"])


@pytest.mark.slow
@STARTS
def test_every_answer_comes_once_and_a_video_is_not_split(tmp_path: Path, forked: bool) -> None:
    names = [f"plain-{n}" for n in range(9)]
    found = run(tmp_path, names, 2, forked)
    expected = {
        (n, point, f"{name}:{q} at {point.ratio:g}") for n, name in enumerate(names) for point in POINTS for q in (0, 1)
    }
    assert {(one.video, one.point, one.answer.text) for one in found} == expected
    assert len(found) == len(expected)
    by_video: dict[str, set[str]] = {}
    for process, video, *_ in asked(tmp_path):
        by_video.setdefault(video, set()).add(process)
    assert all(len(processes) == 1 for processes in by_video.values())
    assert 1 <= len(set.union(*by_video.values())) <= 2
    assert str(os.getpid()) not in set.union(*by_video.values())
    assert multiprocessing.active_children() == []


def test_a_worker_that_dies_costs_no_answer_and_a_second_death_is_recorded(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """After each answer of `dies` its process is killed; `once` kills its first one."""
    found = run(tmp_path, ["plain", "dies", "once", "last"], 2)
    assert Counter((one.point, one.answer.question_id) for one in found).most_common(1)[0][1] == 1
    assert len(found) == 4 * 2 * 2
    failed = [one.answer for one in found if one.answer.status == "failed"]
    assert [(a.ratio, a.question_id) for a in failed] == [(0.5, "dies:0"), (0.5, "dies:1")]  # two came before it died
    assert all("was lost: one ended with SIGKILL, one ended with SIGKILL" in str(a.error) for a in failed)
    assert max(Counter(tuple(line[1:]) for line in asked(tmp_path)).values()) == 1  # nothing was asked twice
    assert "the video is tried again" in caplog.text


def test_the_next_video_is_announced_with_each_and_none_idles(tmp_path: Path) -> None:
    """The engine gets the same object again that it was told would follow, by which it knows what it has begun."""
    names = [f"plain-{n}" for n in range(6)]
    run(tmp_path, names, 1)
    notes = [line.split()[1:] for line in (tmp_path / "followed").read_text().splitlines()]
    assert notes == [
        [name, after, str(n > 0)] for n, (name, after) in enumerate(zip(names, [*names[1:], "-"], strict=True))
    ]


def test_a_busy_workers_next_video_goes_to_one_that_idles(tmp_path: Path) -> None:
    """The first waits for a signal that never comes; what it was told would follow is answered by the other."""
    with pool_of(*[StubFactory(tmp_path)] * 2) as pool:
        answers = pool.answers(videos("waits", "a", "b", "c"))
        found = {one.answer.question_id for _, one in zip(range(13), answers, strict=False)}
    assert found == {"waits:0", *(f"{name}:{n}" for name in "abc" for n in (0, 1))}


def test_a_process_that_waits_may_do_something_meanwhile(tmp_path: Path) -> None:
    """Once, and not in the thread that takes answers in."""
    done = threading.Event()
    threads: list[threading.Thread] = []

    def meanwhile() -> None:
        threads.append(threading.current_thread())
        done.set()

    with Pool(Processes([StubFactory(tmp_path)]), 1, meanwhile=meanwhile) as pool:
        answers = pool.answers(videos("a", "b"))
        assert done.wait(60)
        assert len(list(answers)) == 2 * 2 * len(POINTS)
    assert len(threads) == 1
    assert threads != [threading.current_thread()]


class Scripted(Worker):
    """Has its answers as soon as it has its video."""

    def __init__(self, number: int, folder: Path) -> None:
        super().__init__(number)
        self.messages: deque[Message] = deque([Ready()])
        self._answerer = Answerer(StubEngine(folder))

    def send(self, task: Task) -> None:
        self.messages.extend(self._answerer.messages(task))

    def receive(self) -> Message:
        return self.messages.popleft()

    def dismiss(self) -> None:
        pass

    def end(self, seconds: float) -> str:
        return "ended"


class OneByOne(Starter[Scripted]):
    """Where there is time to wait, it tells of one worker alone; all that have messages where there is none."""

    remedy = ""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def start(self, number: int) -> Scripted:
        return Scripted(number, self._folder)

    def wait(self, workers: Sequence[Scripted], seconds: float) -> Collection[Scripted]:
        heard = [worker for worker in workers if worker.messages]
        return heard[:1] if seconds > 0 else heard


def test_a_slow_caller_costs_no_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What waits in its pipe came in time, however long the caller held an answer of another worker."""
    clock = [0.0]
    monkeypatch.setattr(pool, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    found = []
    with Pool(OneByOne(tmp_path), 2) as workers:
        for given in workers.answers(videos("a", "b", "c")):
            found.append(given.answer.status)
            clock[0] += 10 * pool.DEADLINE
    assert found == ["ok"] * 3 * 2 * len(POINTS)
    assert caplog.records == []


def test_the_shortest_video_is_begun_first_and_then_the_longest(tmp_path: Path) -> None:
    """By questions, and of as many by the size of the file."""
    sizes = {"small": 1, "large": 3, "missing": 0, "middle": 2, "more questions": 1}
    for name, size in sizes.items():
        (tmp_path / name).write_bytes(b"x" * size)
    (tmp_path / "missing").unlink()
    work = [
        {point: [replace(one, video_path=tmp_path / one.video_id) for one in some] for point, some in pending.items()}
        for pending in videos(*sizes)
    ]
    for some in work[-1].values():
        some.append(replace(some[-1], id=f"{some[-1].video_id}:2"))
    with pool_of(StubFactory(tmp_path)) as pool:
        order = dict.fromkeys(one.answer.video_id for one in pool.answers(work))
    assert list(order) == ["small", "more questions", "large", "middle", "missing"]


@pytest.mark.parametrize(
    ("video", "kind", "told"),
    [("setting", ConfigError, "^a setting is wrong$"), ("defect", RuntimeError, "ZeroDivisionError: a defect")],
)
def test_what_concerns_the_whole_run_ends_it(tmp_path: Path, video: str, kind: type[Exception], told: str) -> None:
    with pytest.raises(kind, match=told):
        run(tmp_path, [video, "waits"], 2)
    assert multiprocessing.active_children() == []


def test_an_engine_that_cannot_be_built_ends_the_run(tmp_path: Path) -> None:
    with (
        pytest.raises(ConfigError, match=r"^no such weights$"),
        pool_of(StubFactory(tmp_path, "no such weights")) as pool,
    ):
        list(pool.answers(videos("plain")))


@STARTS
def test_workers_that_do_not_start(tmp_path: Path, forked: bool) -> None:
    """One that dies before it is ready leaves its work to the others; without others there is an error."""
    with pool_of(StubFactory(tmp_path, "dies"), StubFactory(tmp_path), forked=forked) as pool:
        assert len(list(pool.answers(videos("a", "b", "c")))) == 12
    told = "no worker could be started, the last ended with SIGKILL"
    with pytest.raises(EvalkitError, match=told), pool_of(StubFactory(tmp_path, "dies"), forked=forked) as pool:
        list(pool.answers(videos("a")))


# ---- signals

GROUP = """
import sys
from pathlib import Path
from tests.support.stub_engine import StubFactory, pool_of, videos
with pool_of(*[StubFactory(Path(sys.argv[1]))] * 2, forked=sys.argv[2] == "True") as pool:
    for one in pool.answers(videos("waits-1", "waits-2")):
        print(one.answer.question_id, flush=True)
"""


@pytest.mark.slow
@STARTS
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL])
def test_a_run_that_is_stopped_leaves_no_process_behind(tmp_path: Path, sent: signal.Signals, forked: bool) -> None:
    """Ctrl-C reaches the whole group, with one traceback, the parent's own; a kill reaches the parent alone."""
    command = [sys.executable, "-c", GROUP, str(tmp_path), str(forked)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=ROOT, start_new_session=True, **pipes) as parent:  # type: ignore[call-overload]
        assert {parent.stdout.readline().strip() for _ in range(2)} == {"waits-1:0", "waits-2:0"}
        workers = [os.pidfd_open(int(process)) for process in {line[0] for line in asked(tmp_path)}]
        assert len(workers) == 2
        if sent is signal.SIGINT:
            os.killpg(parent.pid, sent)
        else:
            parent.kill()
        _, stderr = parent.communicate(timeout=60)
    for worker in workers:
        assert select.select([worker], [], [], 60)[0] == [worker]  # it has ended
        os.close(worker)
    assert stderr.count("Traceback") == (sent is signal.SIGINT), stderr


# ---- how many, and where


def backbone(folder: Path, **options: Any) -> Backbone:
    return Backbone(name="small", checkpoint=locate(str(folder)), **options)


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three GPUs, as far as anybody asks torch."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(machine, "cores", lambda: 24)


@pytest.mark.usefixtures("gpus")
def test_gpus_by_turns_unless_one_is_named(checkpoint: Path) -> None:
    every, one = backbone(checkpoint), backbone(checkpoint, device="cuda:2")
    assert (local.fitting(every), local.fitting(one)) == (3, 1)
    assert local.placement(every, 4) == [("cuda:0", 6), ("cuda:1", 6), ("cuda:2", 6), ("cuda:0", 6)]
    assert local.placement(one, 2) == [("cuda:2", 12), ("cuda:2", 12)]
    assert local.placement(backbone(checkpoint, device="cuda", threads=1), 2) == [("cuda:0", 1), ("cuda:1", 1)]


@pytest.mark.parametrize(
    ("threads", "cores", "gigabytes", "fit"),
    [(1, 8, 64, 8), (4, 8, 64, 2), (None, 8, 64, 1), (3, 8, 64, 2), (16, 8, 64, 1), (1, 8, 5, 3), (1, 8, 0.1, 1)],
)
def test_as_many_as_cores_and_memory_allow(
    threads: int | None, cores: int, gigabytes: float, fit: int, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "cores", lambda: cores)
    monkeypatch.setattr(machine, "free_bytes", lambda: gigabytes * (1 << 30))
    assert local.fitting(backbone(checkpoint, device="cpu", threads=threads)) == fit


def test_cores_are_not_oversubscribed(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "cores", lambda: 8)
    threads = {n: local.placement(backbone(checkpoint, device="cpu", threads=4), n)[0] for n in (1, 2, 4, 16)}
    assert threads == {1: ("cpu", 4), 2: ("cpu", 4), 4: ("cpu", 2), 16: ("cpu", 1)}


def test_limits_of_a_container_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "CGROUP", tmp_path)
    monkeypatch.setattr(machine, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    assert (machine.cores(), machine.free_bytes()) == (64, math.inf)  # nothing says more
    for name, value in (("cpu.max", "max 100000"), ("meminfo", "MemTotal: 9 kB\nMemAvailable:  4 kB\n")):
        (tmp_path / name).write_text(value)
    assert (machine.cores(), machine.free_bytes()) == (64, 4096)
    for name, value in (("cpu.max", "250000 100000"), ("memory.max", "3000"), ("memory.current", "1000")):
        (tmp_path / name).write_text(value)
    assert (machine.cores(), machine.free_bytes()) == (3, 2000)


# ---- what is sent


@dataclass(frozen=True, kw_only=True)
class Picks(Method):
    """A method that no process can be sent when `pick` is a lambda."""

    pick: Callable[[int], int] = abs


def setup(folder: Path) -> EngineSetup:
    sampling = Sampling(preset="lmms_eval", frames=8, min_pixels=28 * 28, max_pixels=112 * 112)
    own = backbone(folder, device="cpu", threads=1)
    return EngineSetup(backbone=own, sampling=sampling, protocol=FirstLetterProtocol())


def test_what_cannot_be_sent_is_refused_or_answered_in_this_process(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(local, "fitting", lambda _: 2)
    point = OperatingPoint("picks", Picks(pick=lambda n: n), 1.0)
    work = [{point: next(iter(pending.values()))} for pending in videos("a", "b")]
    common = setup(checkpoint)
    vars(common)["engine"] = StubEngine(tmp_path)
    with LocalExecutor().answers(common, work) as answers:
        assert len(list(answers)) == 4
    assert {line[0] for line in asked(tmp_path)} == {str(os.getpid())}
    assert "answering in one process: methods and protocols must be in a module" in caplog.text
    with pytest.raises(ConfigError, match=r"executor\.workers=2: methods and protocols must be in a module"):
        LocalExecutor(workers=2).answers(common, work).__enter__()


def test_protocols_go_by_name_where_they_have_one(checkpoint: Path) -> None:
    common = setup(checkpoint)
    for name in ("official", "official_subtitles", "lmms_eval"):
        sent = description.description(replace(common, protocol=protocols.get(name)), "cpu", 1, ())
        assert sent.protocol == name
        assert description.unsendable(sent) == ""
    assert description.description(common, "cpu", 1, ()).protocol is common.protocol
    shadow = replace(protocols.get("lmms_eval"), stop=("x",))  # another one under a known name  # type: ignore
    assert description.description(replace(common, protocol=shadow), "cpu", 1, ()).protocol is shadow


def test_what_is_loaded_is_not_sent(checkpoint: Path) -> None:
    common = setup(checkpoint)
    vars(common.backbone)["model"] = lambda: "weights"  # which could not be sent
    sent = description.description(common, "cpu", 3, ())
    assert (sent.setup["backbone"].threads, description.unsendable(sent)) == (3, "")
