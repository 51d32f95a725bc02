"""A Ray cluster on this machine that costs few CPU seconds: without its monitors, and with workers that are forked.

A worker of Ray is a Python process, which takes seconds to load Ray, torch and transformers. Here it is a fork of a
process that has loaded them; what it runs then is Ray's own. For the node it is as if the process that it has started
had started another, as those of a container do: a worker tells it which process it is.
"""

from __future__ import annotations

import gc
import json
import multiprocessing
import os
import runpy
import signal
import socket
import sys
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evalkit.engine.executor import forking
from tests.support.golden import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.connection import Connection

STORE_BYTES = 100_000_000
MOST_BYTES = 1 << 20  # of what a node says about a worker

# In the place of Ray's script of a worker: it hands its own words and streams to the process that forks, and ends when
# the worker has ended.
ASKS_FOR_A_FORK = """
import json, os, socket, sys
told = {"words": sys.argv[1:], "environment": dict(os.environ), "folder": os.getcwd()}
with socket.socket(socket.AF_UNIX) as server:
    server.connect(os.path.join(os.path.dirname(os.path.abspath(__file__)), "socket"))
    socket.send_fds(server, [json.dumps(told).encode()], [0, 1, 2])
    server.shutdown(socket.SHUT_WR)
    server.recv(1)
"""


@contextmanager
def cluster(cores: int = 2) -> Iterator[str]:
    """Its address, for the length of a block."""
    from ray.cluster_utils import Cluster

    with tempfile.TemporaryDirectory() as folder, _forking(folder):
        script = Path(folder, "worker.py")
        script.write_text(ASKS_FOR_A_FORK, encoding="utf-8")
        told: dict[str, Any] = {"num_cpus": cores, "object_store_memory": STORE_BYTES, "worker_path": str(script)}
        told |= {"include_dashboard": False, "include_log_monitor": False, "no_monitor": True}
        started = Cluster(initialize_head=True, head_node_args=told)
        try:
            yield started.address
        finally:
            started.shutdown()


@contextmanager
def _forking(folder: str) -> Iterator[None]:
    """The process that forks, which is itself a fork of the one that has loaded libraries for workers."""
    forking.start()
    context = multiprocessing.get_context("forkserver")
    pipe, other = context.Pipe()
    process = context.Process(target=_serve, args=(other, folder))
    process.start()
    other.close()
    pipe.recv()
    try:
        yield
    finally:
        pipe.close()
        process.join()


# ---- in the forked process


def _serve(pipe: Connection, folder: str) -> None:
    """Fork a worker for each that connects, until the pipe ends."""
    from multiprocessing.connection import wait

    import jsonschema  # noqa: F401 – which Ray loads; Ray itself reads the environment of its process when it is loaded
    import requests  # noqa: F401
    import torch

    import evalkit.config.build
    import evalkit.model.families.qwen2_vl  # noqa: F401

    torch.set_num_threads(1)
    os.chdir(ROOT)
    gc.collect()
    gc.freeze()  # nothing of it is garbage in a worker: what is looked through is copied
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for a worker here
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{folder}/socket")
        listener.listen()
        pipe.send("listening")
        while pipe not in wait([pipe, listener]):
            asked, _ = listener.accept()
            if not os.fork():
                listener.close()
                pipe.close()
                _worker(asked)
            asked.close()


def _worker(asked: socket.socket) -> None:
    """Run Ray's script as that process was to."""
    code = 1
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        text, streams, _, _ = socket.recv_fds(asked, MOST_BYTES, 3)
        while part := asked.recv(MOST_BYTES):
            text += part
        told = json.loads(text)
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        os.environ.clear()
        os.environ.update(told["environment"])
        os.chdir(told["folder"])
        sys.argv = ["default_worker.py", *told["words"]]
        runpy.run_module("ray._private.workers.default_worker", run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as end:
        code = int(end.code or 0)
    finally:
        with suppress(OSError, ValueError):
            sys.stderr.flush()
        os._exit(code)  # at once
