"""Checkpoints of published widths with few layers: sharded bfloat16 weights answer a question through run_eval.py."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from evalkit.runs.folder import ANSWERS
from tests.support import clips, qwen3_vl, rows, videochat_flash

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow


def test_qwen3_vl(tmp_path: Path) -> None:
    """Qwen3-VL-4B's: a vocabulary of 151,936, its generation settings, its settings as transformers 4 wrote them."""
    folder = qwen3_vl.published_widths(tmp_path / "qwen3", layers=2, depth=3)
    assert len(list(folder.glob("model-*.safetensors"))) > 1
    rows.write_json(tmp_path / "data" / "mlvu" / "json" / "1_plotQA.json", [rows.mlvu_row()])
    video = tmp_path / "data" / "mlvu" / "video" / "1_plotQA" / "street_1.mp4"
    video.parent.mkdir(parents=True)
    clips.make(video, frames=40, size=(128, 192))
    command = [sys.executable, "run_eval.py", "benchmark=mlvu", f"benchmark.root={tmp_path / 'data' / 'mlvu'}"]
    command += ["backbone=qwen3_vl_4b", f"backbone.path={folder}", "backbone.revision=null", "backbone.device=cpu"]
    command += ["methods=[retake]", "ratios=[0.5]", "sampling.frames=8", "sampling.min_pixels=4096"]
    command += ["backbone.threads=2", f"results_dir={tmp_path / 'results'}"]  # the default protocol: 16 new tokens
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    files = sorted((tmp_path / "results").rglob(ANSWERS))
    (answer,) = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    assert answer["error"] is None
    spent = answer["ledger"]
    assert spent["tokens_dense"] == 4 * 4 * 6
    assert spent["ratio_achieved"] == pytest.approx(0.5, rel=0.05)
    assert min(spent["kv_separators_per_layer"]) > 0


def test_videochat_flash(tmp_path: Path) -> None:
    """VideoChat-Flash-2B's: frames of 448 x 448 pixels, clips of 4, LP-Comp."""
    folder = videochat_flash.published_widths(tmp_path / "flash", layers=2, depth=1)
    assert len(list(folder.glob("model-*.safetensors"))) > 1
    rows.write_json(tmp_path / "data" / "mlvu" / "json" / "1_plotQA.json", [rows.mlvu_row()])
    video = tmp_path / "data" / "mlvu" / "video" / "1_plotQA" / "street_1.mp4"
    video.parent.mkdir(parents=True)
    clips.make(video, frames=40, size=(128, 192))
    command = [sys.executable, "run_eval.py", "benchmark=mlvu", f"benchmark.root={tmp_path / 'data' / 'mlvu'}"]
    command += ["backbone=videochat_flash_2b", f"backbone.path={folder}", "backbone.revision=null"]
    command += ["backbone.device=cpu", "backbone.threads=2", "protocol=xcomp", f"results_dir={tmp_path / 'results'}"]
    command += ["methods=[lpcomp]", "ratios=[0.5]", "sampling.frames=8", "sampling.min_frames=8"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    files = sorted((tmp_path / "results").rglob(ANSWERS))
    (answer,) = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    assert answer["error"] is None
    assert answer["prompt"].startswith("The video lasts for 1.60 seconds, and 8 frames are uniformly sampled from it. ")
    spent = answer["ledger"]
    assert spent["tokens_dense"] == 8 * 16
    assert spent["ratio_achieved"] == pytest.approx(0.5, rel=0.02)
