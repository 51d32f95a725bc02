"""`tune method=lpcomp` on Qwen3-VL: it learns, from conversations, and what it leaves is what an evaluation loads.

With `projector=true` all mergers learn: that of the features and one for each level of deepstack features.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from evalkit.model.load import load
from evalkit.tune import train
from tests.support import clips

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(("how", "projector"), [("full", False), ("lora", True)])
def test_it_learns_and_loads(how: str, projector: bool, qwen3: Path, tmp_path: Path) -> None:
    clips.make(tmp_path / "clip.mp4", frames=24, size=(96, 128))
    talk = [{"from": "human", "value": "<video>Which place is shown?"}, {"from": "gpt", "value": "A"}]
    rows = [{"id": f"r{number}", "video": "clip.mp4", "conversations": talk} for number in range(3)]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    words = [f"backbone.path={qwen3}", "backbone.device=cpu", "backbone=qwen3_vl_4b", "backbone.revision=null"]
    words += ["backbone.dtype=float32", f"out={tmp_path / 'out'}", "method=lpcomp", f"data={tmp_path / 'rows.json'}"]
    words += [f"videos={tmp_path}", "sampling.frames=8", "sampling.min_pixels=1024", "sampling.max_pixels=16384"]
    words += ["steps=8", f"tuned={how}", "rate=3e-3", "warmup=0", "log_every=1", "accumulate=1"]
    words += [f"projector={str(projector).lower()}"]
    train.run(words)
    with (tmp_path / "out" / train.CURVE).open(encoding="utf-8") as file:
        losses = [float(row["loss"]) for row in csv.DictReader(file)]
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
    (file_,) = weights.glob("*.safetensors")
    assert any("visual" in name for name in load_file(file_)) is projector
