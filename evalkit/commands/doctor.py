"""What works on this machine: versions, device, video readers, lmms-eval's task code, the built-in data."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from evalkit.errors import EvalkitError

PACKAGES = ("torch", "torchvision", "transformers", "lmms-eval", "datasets", "hydra-core", "pandas", "av")
READERS = {
    "pyav": ("av", "pip install av"),
    "torchcodec": ("torchcodec.decoders", "install FFmpeg's shared libraries (e.g. your system's ffmpeg package)"),
    "decord": ("decord", "pip install decord"),
}
PYTHON = (3, 11)


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
    lines, healthy = [], True
    for name, check, needed in checks:
        try:
            mark, found = "ok", check()
        except (ImportError, OSError, RuntimeError, PackageNotFoundError, EvalkitError) as error:
            mark, found = ("MISSING" if needed else "absent"), str(error).splitlines()[0]
            healthy = healthy and not needed
        lines.append(f"{mark:8}{name:20}{found}")
    return "\n".join(lines), healthy


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
