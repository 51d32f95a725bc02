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


@pytest.fixture(scope="session")
def qwen25(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Qwen2.5-VL with windowed and full layers in its vision tower."""
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    text = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    text |= {"num_attention_heads": 4, "num_key_value_heads": 2, "pad_token_id": 0}
    text["rope_parameters"] = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 1, 1]}
    vision = {"depth": 2, "hidden_size": 32, "out_hidden_size": 32, "intermediate_size": 64, "num_heads": 2}
    vision |= {"window_size": 56, "fullatt_block_indexes": [1], "tokens_per_second": 2}
    torch.manual_seed(0)
    ids = {"video_token_id": 60, "image_token_id": 61, "vision_start_token_id": 62, "vision_end_token_id": 63}
    model = Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(text_config=text, vision_config=vision, **ids))
    folder = tmp_path_factory.mktemp("qwen25")
    model.save_pretrained(folder)
    return folder
