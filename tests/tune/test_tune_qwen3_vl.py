"""`tune method=lpcomp` on Qwen3-VL: it learns, from conversations, and what it leaves is what an evaluation loads.

With `projector=true` all mergers learn: that of the features and one for each level of deepstack features.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from evalkit.model.load import load
from evalkit.tune import train
from tests.support.tuning import conversations, curve
from tests.support.tuning import tuned as saved

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(("how", "projector"), [("full", False), ("lora", True)])
def test_it_learns_and_loads(how: str, projector: bool, qwen3: Path, tmp_path: Path) -> None:
    data = conversations(tmp_path, 3, (96, 128))
    words = [f"backbone.path={qwen3}", "backbone.device=cpu", "backbone=qwen3_vl_4b", "backbone.revision=null"]
    words += ["backbone.dtype=float32", f"out={tmp_path / 'out'}", "method=lpcomp", f"data={data}"]
    words += [f"videos={tmp_path}", "sampling.frames=8", "sampling.min_pixels=1024", "sampling.max_pixels=16384"]
    words += ["steps=8", f"tuned={how}", "rate=3e-3", "warmup=0", "log_every=1", "accumulate=1"]
    words += [f"projector={str(projector).lower()}"]
    train.run(words)
    losses = [float(row["loss"]) for row in curve(tmp_path / "out")]
    assert losses[-1] < 0.8 * losses[0]
    weights = tmp_path / "out" / train.WEIGHTS
    tuned, before = (load(str(qwen3), device="cpu", adapter=adapter) for adapter in (str(weights), None))
    weight = "self_attn.q_proj.weight"
    assert not torch.equal(*(model.text.layers[0].get_parameter(weight) for model in (tuned, before)))
    towers = [model.vision.module.state_dict() for model in (tuned, before)]
    changed = {name for name, tensor in towers[0].items() if not torch.equal(tensor, towers[1][name])}
    mergers = {name for name in towers[0] if "merger" in name and name.endswith("linear_fc2.weight")}
    assert len(mergers) == 4
    assert mergers & changed == (mergers if projector else set())
    assert all("merger" in name for name in changed)
    assert any("visual" in name for name in saved(tmp_path / "out")) is projector
