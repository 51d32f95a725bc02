"""The traces in tests/golden are a part of the whole set; where they are required, no run passes without them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.support.golden import ROOT, traces

MOST_BYTES = 4 * 10**6
# cases of the whole set that each hold the inputs which the part has once
INPUTS = {"retake": "retake/*.safetensors", "zoo_layers": "zoo_layers/fastv/k[23]_*.safetensors"}


def test_a_missing_folder_fails_where_it_is_required(tmp_path: Path) -> None:
    assert traces(tmp_path, required=True) == tmp_path
    with pytest.raises(pytest.fail.Exception, match=r"no golden traces at .*nowhere"):
        traces(tmp_path / "nowhere", required=True)
    with pytest.raises(pytest.skip.Exception, match=r"no golden traces at .*nowhere"):
        traces(tmp_path / "nowhere", required=False)


def test_ci_requires_them() -> None:
    assert 'make check test PYTEST="--require-parity' in (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "python -m pytest $(PARALLEL) $(PYTEST)\n" in (ROOT / "Makefile").read_text(encoding="utf-8")
    assert ".ci/run" in (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")


def test_the_part_is_small(small_golden: Path) -> None:
    assert sum(file.stat().st_size for file in small_golden.rglob("*")) < MOST_BYTES


def test_the_part_is_of_the_whole(small_golden: Path, whole_golden: Path) -> None:
    files = [f.relative_to(small_golden) for f in small_golden.rglob("*") if f.suffix in (".safetensors", ".json")]
    assert len(files) == 49
    for name in files:
        if name.name == "inputs.safetensors" and name.parts[0] in INPUTS:
            for other in whole_golden.glob(INPUTS[name.parts[0]]):
                _expect_part(load_file(small_golden / name), load_file(other), name)
        elif name.suffix == ".json":
            _expect_inside(_json(small_golden / name), _json(whole_golden / name), str(name))
        else:
            _expect_part(load_file(small_golden / name), load_file(whole_golden / name), name)


def _json(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8"))


def _expect_inside(part: Any, whole: Any, where: str) -> None:
    """The same, but for keys and cases that are left out."""
    if isinstance(part, list) and where.startswith(("zoo_layers/aks", "zoo_layers/bolt")):
        assert all(case in whole for case in part), where
        return
    if not isinstance(part, dict):
        assert part == whole, where
        return
    assert set(part) <= set(whole), where
    assert set(whole) - set(part) <= {"grad_norms", "prompts"}, where
    for key, value in part.items():
        _expect_inside(value, whole[key], f"{where}: {key}")


def _expect_part(part: dict[str, torch.Tensor], whole: dict[str, torch.Tensor], name: Path) -> None:
    """The same tensors, but for rows, layers and clips that are left out."""
    for key, tensor in part.items():
        if key.startswith("layer_rows"):
            continue
        theirs = whole[key]
        if key.startswith("layer_in"):
            theirs = theirs[part[key.replace("layer_in", "layer_rows")]]
        if key.startswith("clip_scores") or name.parts[0] == "videochat_flash":
            theirs = theirs[: len(tensor)]
        assert torch.equal(tensor.to(theirs.dtype), theirs), f"{name}: {key}"
