"""A Ray cluster on this machine without what watches it: several runs may connect to it, one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

STORE_BYTES = 100_000_000


@contextmanager
def cluster(cores: int = 2) -> Iterator[str]:
    """Its address, for the length of a block."""
    from ray.cluster_utils import Cluster

    told: dict[str, Any] = {"num_cpus": cores, "object_store_memory": STORE_BYTES}
    told |= {"include_dashboard": False, "include_log_monitor": False, "no_monitor": True}
    started = Cluster(initialize_head=True, head_node_args=told)
    try:
        yield started.address
    finally:
        started.shutdown()
