"""`tune method=lpcomp` on Qwen3-VL: it learns, from conversations, and what it leaves is what an evaluation loads."""

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


@pytest.mark.parametrize("how", ["full", "lora"])
def test_it_learns_and_loads(how: str, qwen3: Path, tmp_path: Path) -> None:
    clips.make(tmp_path / "clip.mp4", frames=24, size=(96, 128))
    talk = [{"from": "human", "value": "<video>Which place is shown?"}, {"from": "gpt", "value": "A"}]
    rows = [{"id": f"r{number}", "video": "clip.mp4", "conversations": talk} for number in range(3)]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    words = [f"backbone.path={qwen3}", "backbone.device=cpu", "backbone=qwen3_vl_4b", "backbone.revision=null"]
    words += ["backbone.dtype=float32", f"out={tmp_path / 'out'}", "method=lpcomp", f"data={tmp_path / 'rows.json'}"]
    words += [f"videos={tmp_path}", "sampling.frames=8", "sampling.min_pixels=1024", "sampling.max_pixels=16384"]
    words += ["steps=8", f"tuned={how}", "rate=3e-3", "warmup=0", "log_every=1", "accumulate=1"]
    train.run(words)
    with (tmp_path / "out" / train.CURVE).open(encoding="utf-8") as file:
        losses = [float(row["loss"]) for row in csv.DictReader(file)]
    assert losses[-1] < 0.8 * losses[0]
    weights = tmp_path / "out" / train.WEIGHTS
    tuned, before = (load(str(qwen3), device="cpu", adapter=adapter) for adapter in (str(weights), None))
    with torch.inference_mode():
        assert not torch.equal(
            tuned.text.layers[0].self_attn.q_proj.weight, before.text.layers[0].self_attn.q_proj.weight
        )
        assert torch.equal(tuned.vision.module.merger.linear_fc1.weight, before.vision.module.merger.linear_fc1.weight)
    (file_,) = weights.glob("*.safetensors")
    assert not any("visual" in name for name in load_file(file_))
