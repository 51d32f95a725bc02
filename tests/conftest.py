"""What many tests share: traces of released reference code, and a small random backbone.

tests/golden has a part of the traces, so that parity is tested in any clone; the whole set is tested in addition where
it lies beside the project, or where EVALKIT_GOLDEN says. With --require-parity a folder that is missing although it
should be there is a failure and no skip.
"""

# ruff: noqa: E402

from __future__ import annotations

import gc

gc.disable()  # libraries make half a million objects, which stay; until tests are collected

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from transformers import Qwen2ForCausalLM

from evalkit.model.families.qwen2 import Qwen2
from evalkit.model.families.qwen2_vl import Qwen2VL
from evalkit.model.load import load
from evalkit.testing import method_contract
from evalkit.tiny.model import random_checkpoint
from tests.support import builtin_part, qwen3_vl, small_qwen2, unchanged_model
from tests.support.golden import GOLDEN, NAMED, WHOLE, traces
from tests.support.order import longest_first

# the models of the tests are so small that more threads mostly wait for each other; in processes that tests start, too
torch.set_num_threads(1)
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--require-parity`, for CI."""
    parser.addoption("--require-parity", action="store_true", help="fail where parity tests have no traces")


def pytest_collection_finish() -> None:
    """Libraries and collected tests stay: looking for garbage among them time and again takes long."""
    gc.freeze()
    gc.enable()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """After pytest's own order, by fixtures."""
    longest_first(items)


@pytest.fixture(scope="session")
def small_golden(request: pytest.FixtureRequest) -> Path:
    """Traces of the released reference code that come with the project: tests/golden/README.md."""
    return traces(GOLDEN, required=request.config.getoption("--require-parity"))


@pytest.fixture(scope="session")
def whole_golden(request: pytest.FixtureRequest) -> Path:
    """All of them; not part of the project."""
    return traces(WHOLE, required=NAMED is not None and request.config.getoption("--require-parity"))


@pytest.fixture(scope="session", params=["small", "whole"])
def golden(request: pytest.FixtureRequest) -> Path:
    """Either, one after the other."""
    found: Path = request.getfixturevalue(f"{request.param}_golden")
    return found


@pytest.fixture(scope="session")
def builtin_data(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """The built-in sets with a part of ci-50, to be read alone: made once for all processes of pytest-xdist."""
    base = tmp_path_factory.getbasetemp()
    root = (base if worker_id == "master" else base.parent) / "builtin"
    with FileLock(f"{root}.lock"):
        builtin_part.data(root)
    return root


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random tiny checkpoint."""
    return random_checkpoint(tmp_path_factory.mktemp("backbone") / "tiny", seed=0)


@pytest.fixture(scope="session")
def backbone(checkpoint: Path) -> Iterator[Qwen2VL]:
    """The same, loaded on the CPU."""
    with unchanged_model.held(load(str(checkpoint), device="cpu")) as found:
        assert isinstance(found, Qwen2VL)
        yield found


@pytest.fixture(scope="session")
def shallow() -> Iterator[Qwen2VL]:
    """That of the contract, of four layers, for what is tried with every method."""
    with unchanged_model.held(method_contract.backbone()) as found:
        assert isinstance(found, Qwen2VL)
        yield found


@pytest.fixture(scope="module")
def stock() -> Qwen2ForCausalLM:
    """A random Qwen2 of six layers with transformers' own attention."""
    return small_qwen2.plain()


@pytest.fixture(scope="module")
def qwen2(stock: Qwen2ForCausalLM) -> Qwen2:
    """The same weights with evalkit's attention."""
    return small_qwen2.attached(stock)


@pytest.fixture(scope="session")
def qwen3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random tiny Qwen3-VL with three levels of deepstack features."""
    return qwen3_vl.tiny(tmp_path_factory.mktemp("backbone") / "qwen3")


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
