"""Checkpoints of published widths with few layers: sharded bfloat16 weights answer a question through run_eval.py."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import qwen3_vl

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow


def test_qwen3_vl(tmp_path: Path) -> None:
    """Qwen3-VL-4B's: a vocabulary of 151,936, its generation settings, its settings as transformers 4 wrote them."""
    folder = qwen3_vl.published_widths(tmp_path / "qwen3", layers=4, depth=4)
    shards = sorted(folder.glob("model-*.safetensors"))
    assert len(shards) > 1
    command = [sys.executable, "run_eval.py", "benchmark=builtin", "backbone=qwen3_vl_4b", f"backbone.path={folder}"]
    command += ["backbone.revision=null", "backbone.device=cpu", "methods=[uniform,retake]", "ratios=[0.5]", "limit=1"]
    command += ["sampling.frames=8", "sampling.min_pixels=4096", "sampling.max_pixels=16384", "protocol=official"]
    run = subprocess.run(
        [*command, f"results_dir={tmp_path / 'results'}"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    files = list((tmp_path / "results").rglob("answers.jsonl"))
    answers = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    assert [answer["status"] for answer in answers].count("failed") == 0, answers
    assert len(answers) == 2
    for answer in answers:
        assert answer["ledger"]["ratio_achieved"] == pytest.approx(0.5, rel=0.05)
        assert answer["ledger"]["kv_separators_per_layer"][0] > 0
