"""`tune method=lpcomp` on Qwen2.5-VL: it learns, the tower stays, and what it leaves is what an evaluation loads."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from evalkit.model.load import load
from evalkit.tune import train
from tests.support import qwen2_vl
from tests.support.tuning import conversations, curve


@pytest.mark.slow
def test_it_learns_and_loads(tmp_path: Path) -> None:
    checkpoint = qwen2_vl.tiny_2_5(tmp_path / "qwen25")
    data = conversations(tmp_path, 3, (84, 112))
    words = [f"backbone.path={checkpoint}", "backbone.device=cpu", "backbone=qwen2_5_vl_7b", "backbone.revision=null"]
    words += ["backbone.dtype=float32", f"out={tmp_path / 'out'}", "method=lpcomp", f"data={data}"]
    words += [f"videos={tmp_path}", "sampling.frames=8", "sampling.min_pixels=784", "sampling.max_pixels=12544"]
    train.run([*words, "steps=6", "rate=3e-3", "warmup=0", "log_every=1", "accumulate=1"])
    losses = [float(row["loss"]) for row in curve(tmp_path / "out")]
    assert losses[-1] < losses[0]
    tuned, before = (
        load(str(checkpoint), device="cpu", adapter=adapter)
        for adapter in (str(tmp_path / "out" / train.WEIGHTS), None)
    )
    weight = "self_attn.q_proj.weight"
    assert not torch.equal(*(model.text.layers[0].get_parameter(weight) for model in (tuned, before)))
    towers = [model.vision.module.state_dict() for model in (tuned, before)]
    assert all(torch.equal(tensor, towers[1][name]) for name, tensor in towers[0].items())
