"""A process that has loaded the libraries of a worker, from which workers on the CPU are forked.

They are ready in a tenth of the time that a spawned process takes to load torch and transformers, and share the memory
of both. Workers with a GPU are spawned: CUDA does not survive a fork. This module is light, so that the process can
load while its parent still plans its run.
"""

from __future__ import annotations

import multiprocessing
import sys
from multiprocessing import forkserver

from evalkit.child_process import signals_blocked

# Libraries of others alone: evalkit itself is imported in the worker, where its parent found it.
LIBRARIES = (
    "torch",
    "transformers.models.auto.modeling_auto",
    "transformers.models.auto.processing_auto",
    "transformers.models.qwen2_vl.modeling_qwen2_vl",
    "pandas",
    "datasets",
    "av",
)


def possible() -> bool:
    """Whether this system can; elsewhere than on Linux libraries do not expect it."""
    return sys.platform == "linux" and "forkserver" in multiprocessing.get_all_start_methods()


def start() -> None:
    """Start that process unless it runs; it loads in the background and ends with this one."""
    with signals_blocked():
        forkserver.set_forkserver_preload(list(LIBRARIES))
        forkserver.ensure_running()
