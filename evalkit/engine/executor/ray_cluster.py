"""Workers on the nodes of a Ray cluster, or of one that is started on this machine for the run."""

from __future__ import annotations

import importlib.util
import logging
import math
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

from evalkit import machine
from evalkit.engine.encoded_video import Pending
from evalkit.engine.executor.base import Executor, Given, adapters_of
from evalkit.engine.executor.description import description
from evalkit.engine.executor.pool import DEADLINE, Pool
from evalkit.engine.setup import EngineSetup
from evalkit.errors import ConfigError

if TYPE_CHECKING:
    from evalkit.engine.backbone import Backbone

log = logging.getLogger(__name__)

STORE_BYTES = 100_000_000  # Ray's object store, through which nothing of ours goes


class Cluster(NamedTuple):
    """What a Ray cluster has."""

    nodes: int
    cpus: int  # of all nodes
    gpus: float
    cpus_of_smallest: int  # node


class Share(NamedTuple):
    """What each worker takes."""

    workers: int
    threads: int
    gpus: float


@dataclass(frozen=True, kw_only=True)
class RayExecutor(Executor):
    """Videos side by side in actors of a Ray cluster, each with an engine of its own."""

    workers: int | None = None  # None: as many as the cluster has room for
    deadline: float = DEADLINE  # seconds without an answer, after which an actor is killed
    address: str | None = None  # auto, or HOST:PORT of a cluster; None: this machine alone, on which Ray is started
    gpus_per_worker: float | None = None  # 1, a fraction, or 0; None: 1 where backbone.device and the cluster allow it
    meanwhile: Callable[[], object] | None = field(default=None, compare=False)  # for a process that waits, as in Pool

    def __post_init__(self) -> None:
        """ConfigError where Ray is not installed."""
        if importlib.util.find_spec("ray") is None:
            raise ConfigError("executor=ray needs Ray, which is not installed: pip install 'evalkit[ray]'")

    @contextmanager
    def answers(self, setup: EngineSetup, videos: Sequence[Pending]) -> Iterator[Iterator[Given]]:
        """As Executor; without videos no cluster is asked for."""
        if not videos:
            yield iter(())
            return
        with connected(self.address) as cluster:
            from evalkit.engine.executor.ray_actor import Actors

            share = self.share(setup.backbone, cluster, len(videos))
            device = "cuda:0" if share.gpus else "cpu"  # of those that Ray lets an actor see
            beside = replace(setup, processes=math.ceil(share.workers / cluster.nodes))
            described = description(beside, device, share.threads, adapters_of(videos))
            log.info("starting %s, each loads the backbone %s", _said(share, cluster), setup.backbone.name)
            actors = Actors(described, cpus=0 if share.gpus else share.threads, gpus=share.gpus)
            with Pool(actors, share.workers, self.deadline, self.meanwhile) as pool:
                yield pool.answers(videos)

    def share(self, backbone: Backbone, cluster: Cluster, videos: int) -> Share:
        """How many workers there are, and what each takes. ConfigError for more than the cluster has room for."""
        gpus = self._gpus(backbone, cluster)
        if gpus:
            room = int(cluster.gpus) * int(1 / gpus)
        else:
            room = cluster.cpus // (backbone.threads or (1 if self.workers else cluster.cpus_of_smallest))
        if (self.workers or 1) > room:
            raise ConfigError(
                f"executor.workers={self.workers or 1}: the cluster has {cluster.cpus} CPU cores and {cluster.gpus:g} "
                f"GPUs, room for {room} workers of {gpus:g} GPUs and {backbone.threads or 1} threads each: give fewer "
                "workers, or less to each (executor.gpus_per_worker, backbone.threads)"
            )
        workers = min(videos, self.workers or room)
        most = max(1, cluster.cpus_of_smallest // math.ceil(workers / cluster.nodes))
        return Share(workers, min(backbone.threads or most, most), gpus)

    def _gpus(self, backbone: Backbone, cluster: Cluster) -> float:
        if self.gpus_per_worker is None:
            return 1.0 if backbone.device != "cpu" and cluster.gpus else 0.0
        if self.gpus_per_worker and backbone.device == "cpu":
            raise ConfigError(
                f"executor.gpus_per_worker={self.gpus_per_worker:g} with backbone.device=cpu: give one of the two"
            )
        return self.gpus_per_worker


@contextmanager
def connected(address: str | None) -> Iterator[Cluster]:
    """A cluster for the length of a block. One that this process is connected to already stays so.

    ConfigError where none answers at `address`.
    """
    import ray

    if ray.is_initialized():
        yield _cluster()
        return
    own = {"num_cpus": machine.cores(), "object_store_memory": STORE_BYTES, "include_dashboard": False}
    try:
        with _own_sigterm():
            ray.init(
                address or "local",
                log_to_driver=False,  # what an actor logs comes with its answers
                logging_level=logging.ERROR,
                **({} if address else own),
            )
    except (ConnectionError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(
            f"executor.address={address}: no Ray cluster could be joined ({reason}); start one with `ray start --head` "
            "and `ray start --address=HOST:PORT` on the other nodes, or leave executor.address out"
        ) from error
    try:
        yield _cluster()
    finally:
        ray.shutdown()


@contextmanager
def _own_sigterm() -> Iterator[None]:
    """Ray puts a handler of its own in the place of ours, which ends a run with one line."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


def _cluster() -> Cluster:
    import ray

    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    cpus = [int(node.get("CPU", 0)) for node in nodes]
    gpus = sum(node.get("GPU", 0.0) for node in nodes)
    return Cluster(len(nodes), sum(cpus), gpus, min((count for count in cpus if count), default=1))


def _said(share: Share, cluster: Cluster) -> str:
    nodes = "one node" if cluster.nodes == 1 else f"{cluster.nodes} nodes"
    with_gpus = f"{share.gpus:g} GPUs and " if share.gpus else ""
    return f"{share.workers} actors on {nodes} ({with_gpus}{share.threads} threads each)"
