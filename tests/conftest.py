"""What many tests share: where golden traces lie, and a small random backbone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from evalkit.model.families.qwen2_vl import Qwen2VL
from evalkit.model.load import load
from evalkit.tiny.model import random_checkpoint

ROOT = Path(__file__).parents[1]
torch.set_num_threads(1)  # the models of the tests are so small that more threads mostly wait for each other


@pytest.fixture(scope="session")
def golden() -> Path:
    """Traces of the released reference code; not part of the project."""
    folder = Path(os.environ.get("EVALKIT_GOLDEN", ROOT.parent / "shared" / "golden"))
    if not folder.is_dir():
        pytest.skip(f"no golden traces at {folder}: set EVALKIT_GOLDEN to their folder")
    return folder


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random tiny checkpoint."""
    return random_checkpoint(tmp_path_factory.mktemp("backbone") / "tiny", seed=0)


@pytest.fixture(scope="session")
def backbone(checkpoint: Path) -> Qwen2VL:
    """The same, loaded on the CPU."""
    return load(str(checkpoint), device="cpu")
