"""What works on this machine: versions, device, video readers, lmms-eval's task code, the built-in data, memory."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from evalkit import machine
from evalkit.errors import EvalkitError

PACKAGES = ("torch", "torchvision", "transformers", "lmms-eval", "datasets", "hydra-core", "pandas", "av")
READERS = {
    "pyav": ("av", "pip install av"),
    "torchcodec": ("torchcodec.decoders", "install FFmpeg's shared libraries (e.g. your system's ffmpeg package)"),
    "decord": ("decord", "pip install decord"),
}
PYTHON = (3, 11)
FRAMES = (256, 1024, 2048)  # of a dense run, for which memory is estimated
GIB = 2**30


def report() -> tuple[str, bool]:
    """The findings, a line each, and whether everything that a run needs is there."""
    checks: list[tuple[str, Callable[[], str], bool]] = [
        ("python", _python, True),
        *((name, lambda name=name: version(name), True) for name in PACKAGES),
        ("device", _device, True),
        ("vision imports", _vision, True),
        *((f"reader {name}", lambda name=name: _reader(name), name == "pyav") for name in READERS),
        ("protocol lmms_eval", _protocol, True),
        ("built-in data", _data, False),
        ("disk", lambda: f"{shutil.disk_usage('.').free / 1e9:.0f} GB free here", True),
    ]
    lines: list[str] = []
    healthy = True
    for name, check, needed in checks:
        try:
            mark, found = "ok", check()
        except (ImportError, OSError, RuntimeError, PackageNotFoundError, EvalkitError) as error:
            mark, found = ("MISSING" if needed else "absent"), str(error).splitlines()[0]
            healthy = healthy and not needed
        lines.append(f"{mark:8}{name:20}{found}")
    return "\n".join([*lines, "", fits()]), healthy


def fits() -> str:
    """Which released backbones fit into this machine's free memory, a line each: a table of `FRAMES`."""
    from evalkit.config import choices
    from evalkit.model.memory_need import PublishedSizes

    place, free = _memory()
    lines = [
        f"Memory needed, estimated, in GiB, of {free / GIB:.1f} free on the {place}: weights, KV cache and features of "
        "the dense run. Activations come on top, some GiB; a method that drops tokens on the way needs less cache.",
        "backbone            " + "".join(f"{f'{frames:,} frames':>16}" for frames in FRAMES) + "  licence",
    ]
    for name in choices.files("backbone"):
        settings: Any = choices.settings("backbone", name)
        if "published" in settings:
            sizes = PublishedSizes.of(settings.published)
            needs = [sizes.bytes_needed(frames, settings.dtype) for frames in FRAMES]
            told = [f"{need / GIB:.1f} {'fits' if need < free else 'no'}" for need in needs]
            lines.append(f"{name:20}" + "".join(f"{text:>16}" for text in told) + f"  {sizes.licence}")
    return "\n".join(lines)


def _memory() -> tuple[str, float]:
    """Where a backbone would be loaded, and the bytes that are free there."""
    import torch

    if torch.cuda.is_available():
        return "GPU", float(torch.cuda.mem_get_info()[0])
    return "CPU", machine.free_bytes()


def _python() -> str:
    if sys.version_info < PYTHON:
        raise RuntimeError(
            f"expected Python ≥ 3.11, got {sys.version.split()[0]}: make a virtual environment with a newer one"
        )
    return sys.version.split()[0]


def _device() -> str:
    import torch

    if not torch.cuda.is_available():
        return f"cpu, {torch.get_num_threads()} threads (no CUDA device seen)"
    return f"cuda: {torch.cuda.get_device_name()}"


def _vision() -> str:
    import torchvision

    torchvision.ops.nms  # noqa: B018 – fails where torch and torchvision come from different builds
    return "torch and torchvision fit together"


def _reader(name: str) -> str:
    module, remedy = READERS[name]
    try:
        import_module(module)
    except (ImportError, OSError, RuntimeError) as error:
        raise RuntimeError(f"cannot be loaded ({type(error).__name__}): {remedy}") from error
    return version(module.split(".")[0])


def _protocol() -> str:
    from evalkit.data import protocols

    return f"lmms-eval's task code, {protocols.get('lmms_eval').version}"


def _data() -> str:
    root = Path("data/builtin")
    if not root.is_dir():
        raise RuntimeError("not made yet: python -m evalkit data make")
    return str(root)
