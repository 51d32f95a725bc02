"""Actors of a Ray cluster answer as processes do: every answer once, whichever of them is killed or hangs.

One cluster of two cores serves all tests of this file but one.
"""

from __future__ import annotations

import importlib.util
import multiprocessing
import os
import select
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from evalkit.config import build
from evalkit.engine.backbone import Backbone
from evalkit.engine.executor import forking
from evalkit.engine.executor.base import Given
from evalkit.engine.executor.pool import DEADLINE, Pool
from evalkit.engine.executor.ray_cluster import Cluster, RayExecutor, Share, connected
from evalkit.errors import ConfigError
from evalkit.model.checkpoint import locate
from tests.support import clips, rows, small_ray
from tests.support.answer_lines import without_measured
from tests.support.configs import composed
from tests.support.stub_engine import StubFactory, videos

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from evalkit.engine.executor.ray_actor import Actors

pytest.importorskip("ray")


# ---- how many, and with what


@pytest.mark.parametrize(
    ("cluster", "options", "device", "videos", "expected"),
    [
        (Cluster(1, 2, 0, 2), {}, "auto", 9, Share(2, 1, 0.0)),
        (Cluster(2, 16, 0, 4), {"workers": 3}, "cpu", 9, Share(3, 1, 0.0)),
        (Cluster(2, 64, 8, 32), {}, "auto", 99, Share(8, 1, 1.0)),
        (Cluster(2, 64, 8, 32), {}, "cuda", 3, Share(3, 1, 1.0)),
        (Cluster(2, 64, 8, 32), {"gpus_per_worker": 0.5}, "auto", 99, Share(16, 1, 0.5)),
        (Cluster(2, 64, 8, 32), {"gpus_per_worker": 0}, "auto", 99, Share(64, 1, 0.0)),
        (Cluster(2, 64, 8, 32), {}, "cpu", 99, Share(64, 1, 0.0)),
    ],
)
def test_as_many_as_the_cluster_has_room_for(
    cluster: Cluster, options: dict[str, Any], device: str, videos: int, expected: Share, checkpoint: Path
) -> None:
    own = Backbone(name="small", checkpoint=locate(str(checkpoint)), device=device, threads=1)
    assert RayExecutor(**options).share(own, cluster, videos) == expected


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"workers": 9}, "executor.workers=9: the cluster has 64 CPU cores and 8 GPUs, room for 8 workers of 1 GPUs"),
        ({"gpus_per_worker": 0.5, "workers": 17}, "room for 16 workers of 0.5 GPUs"),
    ],
)
def test_more_than_there_is_room_for_is_refused(options: dict[str, Any], told: str, checkpoint: Path) -> None:
    own = Backbone(name="small", checkpoint=locate(str(checkpoint)), threads=1)
    with pytest.raises(ConfigError, match=told):
        RayExecutor(**options).share(own, Cluster(2, 64, 8, 32), 99)


def test_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["executor=ray", "executor.address=auto", "executor.gpus_per_worker=0.5", "executor.workers=3"]
    found = build.executor(composed(*words))
    assert found == RayExecutor(workers=3, deadline=DEADLINE, address="auto", gpus_per_worker=0.5)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(
        ConfigError, match=r"^executor=ray needs Ray, which is not installed: pip install 'evalkit\[ray\]'$"
    ):
        build.executor(composed(*words))


# ---- on a cluster


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with small_ray.cluster(cores=2) as address:
        before = signal.getsignal(signal.SIGTERM)
        with connected(address) as found:
            assert signal.getsignal(signal.SIGTERM) is before
            yield found


def actors(folder: Path) -> Actors:
    from evalkit.engine.executor.ray_actor import Actors

    return Actors(StubFactory(folder), cpus=1, gpus=0)


def run(folder: Path, names: list[str], deadline: float = 60.0, workers: int = 2) -> list[Given]:
    with Pool(actors(folder), workers, deadline) as pool:
        return list(pool.answers(videos(*names)))


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_actors_that_are_killed_or_hang_cost_no_answer(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As worker processes: once is tried again, twice is recorded; what was answered is not asked again."""
    found = run(tmp_path, ["plain", "dies", "once", "stopped", "last"], deadline=5.0)
    assert len({(one.point, one.answer.question_id) for one in found}) == len(found) == 5 * 4
    assert {one.answer.video_id for one in found if one.answer.status == "failed"} == {"dies"}
    asked = [tuple(line.split()[1:]) for line in (tmp_path / "asked").read_text().splitlines()]
    assert max(Counter(asked).values()) == 1
    assert len({line.split()[0] for line in (tmp_path / "asked").read_text().splitlines()} - {str(os.getpid())}) >= 4
    assert caplog.text.count("the video is tried again") == 3
    assert "gave no answer for 5 s (executor.deadline) and was killed" in caplog.text


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_what_concerns_the_whole_run_ends_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^a setting is wrong$"):
        run(tmp_path, ["setting", "plain"], workers=1)
    with pytest.raises(RuntimeError, match=r"ZeroDivisionError: a defect"):
        run(tmp_path, ["defect", "plain"], workers=1)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two questions about each of four videos."""
    names = [f"street_{n}.mp4" for n in range(4)]
    asked = [{**rows.mlvu_row(video=name), "question": f"What is at {n}?"} for name in names for n in (1, 2)]
    rows.write_json(tmp_path / "mlvu" / "json" / "1_plotQA.json", asked)
    folder = tmp_path / "mlvu" / "video" / "1_plotQA"
    folder.mkdir(parents=True)
    for n, name in enumerate(names):
        clips.make(folder / name, frames=40 + 8 * n, size=(112, 112))
    return tmp_path / "mlvu"


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_two_actors_answer_as_one_process_and_are_resumed_by_it(
    data: Path, checkpoint: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """One of them is killed in the middle."""
    mark = tmp_path / "mark"
    method = f"{{_target_: tests.support.mortal_method.KilledOnce, name: mortal, mark: '{mark}'}}"
    words = ["benchmark=mlvu", f"benchmark.root={data}", f"backbone.path={checkpoint}", "backbone.device=cpu"]

    def answers(results: Path, *executor: str) -> dict[tuple[str, str], dict[str, Any]]:
        grid = [f"methods=[{method}]", "ratios=[1.0,0.5]", "sampling.frames=8", f"results_dir={results}"]
        _, failed = build.grid(composed(*words, *grid, *executor)).run()
        assert failed == 0
        return without_measured(results)

    found = answers(tmp_path / "ray", "executor=ray", "executor.workers=2")
    assert caplog.text.count("the video is tried again") == 1
    assert len(found) == 4 * 2 * 2
    planned = mark.read_text()
    assert answers(tmp_path / "ray", "executor.workers=1") == found
    assert mark.read_text() == planned  # nothing is answered anew
    assert answers(tmp_path / "alone", "executor.workers=1") == found


def drive(pipe: Connection, folder: Path) -> None:
    """Ask two actors of a cluster of its own, and send the ids of what they answer."""
    os.setsid()
    before = signal.getsignal(signal.SIGTERM)
    with connected(None), Pool(actors(folder), 2) as pool:
        assert signal.getsignal(signal.SIGTERM) is before
        for one in pool.answers(videos("waits", "stops")):
            pipe.send(one.answer.question_id)


@pytest.mark.slow
def test_no_actor_outlives_a_driver_that_is_killed(tmp_path: Path) -> None:
    """One waits for a signal, one is stopped."""
    forking.start()
    context = multiprocessing.get_context("forkserver")
    pipe, other = context.Pipe()
    driver = context.Process(target=drive, args=(other, tmp_path))
    driver.start()
    other.close()
    assert {pipe.recv() for _ in range(2)} == {"waits:0", "stops:0"}
    asked = [int(line.split()[0]) for line in (tmp_path / "asked").read_text().splitlines()]
    ends = [os.pidfd_open(actor) for actor in set(asked)]
    driver.kill()
    driver.join()
    pipe.close()
    assert len(ends) == 2
    for end in ends:
        assert select.select([end], [], [], 180)[0] == [end]  # Ray ends them, which takes longer on a busy machine
        os.close(end)


def test_an_address_where_no_cluster_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    ray: Any = pytest.importorskip("ray")

    def refused(*_: object, **__: object) -> None:
        raise ConnectionError("Could not find any running Ray instance.\nPlease specify the one to connect to")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", refused)
    with pytest.raises(ConfigError, match=r"executor.address=auto: no Ray cluster could be joined \(Could not find"):
        connected("auto").__enter__()
