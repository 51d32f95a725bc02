"""Checkpoints of published widths with few layers: sharded half-precision weights answer a question by run_eval.py."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from evalkit.data.protocols.lmms_eval import LmmsEval
from evalkit.data.protocols.table_protocol import TableProtocol
from evalkit.runs.folder import ANSWERS
from tests.support import clips, llava, published_widths, qwen2_vl, qwen3_vl, rows, videochat_flash
from tests.support.run_eval import run_eval

pytestmark = pytest.mark.slow

MANY, PART = 8, 512  # rows of a product, and of a weight


@pytest.fixture(autouse=True)
def wide_products(monkeypatch: pytest.MonkeyPatch) -> None:
    """Products of many rows are summed in float32 and rounded: a CPU without bfloat16 takes half a minute for one.

    A few rows of the weight are widened at a time, as memory that is new costs more than the product.
    """
    linear, conv3d = F.linear, F.conv3d

    def rounded(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        if x.dtype == torch.float32 or x.numel() < MANY * x.shape[-1]:
            return linear(x, weight, bias)
        wide = x.float()
        out = torch.cat([linear(wide, part.float()) for part in torch.split(weight, PART)], -1)
        return (out if bias is None else out + bias.float()).to(x.dtype)

    def rounded_patches(x: torch.Tensor, weight: torch.Tensor, bias: Any, *how: Any) -> torch.Tensor:
        return conv3d(x.float(), weight.float(), None if bias is None else bias.float(), *how).to(x.dtype)

    monkeypatch.setattr(F, "linear", rounded)
    monkeypatch.setattr(F, "conv3d", rounded_patches)


@pytest.fixture
def short_replies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each further token is a product with the whole vocabulary, as the first ones are."""
    for protocol in (LmmsEval, TableProtocol):
        monkeypatch.setattr(protocol, "max_new_tokens", lambda *_: 3)


def answered(checkpoint: Path, tmp_path: Path, *options: str) -> dict[str, Any]:
    """The answer to one question about one video at half the tokens, which did not fail."""
    assert len(list(checkpoint.glob("model-*.safetensors"))) > 1
    root = tmp_path / "data" / "mlvu"
    rows.write_json(root / "json" / "1_plotQA.json", [rows.mlvu_row()])
    video = root / "video" / "1_plotQA" / "street_1.mp4"
    video.parent.mkdir(parents=True)
    clips.make(video, frames=40, size=(128, 192))
    settings = ["benchmark=mlvu", f"benchmark.root={root}", f"backbone.path={checkpoint}", "backbone.revision=null"]
    settings += ["backbone.device=cpu", "backbone.threads=1", "ratios=[0.5]", f"results_dir={tmp_path / 'results'}"]
    code = run_eval("report=false", *settings, *options)
    shutil.rmtree(checkpoint / published_widths.BLOBS)  # gigabytes, which pytest would keep for its next sessions
    assert code == 0
    files = sorted((tmp_path / "results").rglob(ANSWERS))
    (answer,) = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    assert answer["error"] is None
    found: dict[str, Any] = answer
    return found


@pytest.mark.usefixtures("short_replies")
@pytest.mark.parametrize("name", ["qwen2_vl_7b", "qwen2_5_vl_7b"])
def test_qwen2_vl(name: str, tmp_path: Path) -> None:
    """A vocabulary of 152,064 with the published special tokens, and the repetition penalty of both."""
    own = qwen2_vl.QWEN2 if name == "qwen2_vl_7b" else qwen2_vl.QWEN2_5
    folder = qwen2_vl.published(tmp_path / name, own, layers=1, depth=2)
    options = [f"backbone={name}", "methods=[retake]", "sampling.frames=2", "sampling.min_pixels=3136"]
    spent = answered(folder, tmp_path, *options)["ledger"]
    assert spent["tokens_dense"] == 5 * 7
    assert spent["ratio_achieved"] == pytest.approx(0.5, rel=0.05)


def test_qwen3_vl(tmp_path: Path) -> None:
    """Qwen3-VL-4B's: a vocabulary of 151,936, its generation settings, its settings as transformers 4 wrote them."""
    folder = qwen3_vl.published(tmp_path / "qwen3", layers=2, depth=3)
    # the default protocol: 16 new tokens
    options = ["backbone=qwen3_vl_4b", "methods=[retake]", "sampling.frames=8", "sampling.min_pixels=4096"]
    spent = answered(folder, tmp_path, *options)["ledger"]
    assert spent["tokens_dense"] == 4 * 4 * 6
    assert spent["ratio_achieved"] == pytest.approx(0.5, rel=0.05)
    assert min(spent["kv_separators_per_layer"]) > 0


@pytest.mark.usefixtures("short_replies")
def test_videochat_flash(tmp_path: Path) -> None:
    """VideoChat-Flash-2B's: frames of 448 x 448 pixels, clips of 4, LP-Comp."""
    folder = videochat_flash.published(tmp_path / "flash", layers=2, depth=1)
    options = ["backbone=videochat_flash_2b", "protocol=xcomp", "methods=[lpcomp]"]
    answer = answered(folder, tmp_path, *options, "sampling.frames=8", "sampling.min_frames=8")
    assert answer["prompt"].startswith("The video lasts for 1.60 seconds, and 8 frames are uniformly sampled from it. ")
    spent = answer["ledger"]
    assert spent["tokens_dense"] == 8 * 16
    assert spent["ratio_achieved"] == pytest.approx(0.5, rel=0.02)


@pytest.mark.usefixtures("short_replies")
def test_llava_onevision(tmp_path: Path) -> None:
    """LLaVA-OneVision-7B's: llava-hf's names, float16 taken as bfloat16, 196 tokens a frame, one newline at the end."""
    folder = llava.onevision_published(tmp_path / "onevision", layers=1, depth=1)
    options = ["backbone=llava_onevision_7b", "methods=[retake]", "sampling.frames=1"]
    spent = answered(folder, tmp_path, *options)["ledger"]
    assert spent["tokens_dense"] == 14 * 14
    assert spent["ratio_achieved"] == pytest.approx(0.5, rel=0.02)
    assert spent["kv_separators_per_layer"] == [1]


@pytest.mark.usefixtures("short_replies")
def test_llava_video(tmp_path: Path) -> None:
    """LLaVA-Video-7B's: lmms-lab's names and `model_type` llava, 169 tokens a frame, a newline for each row left."""
    folder = llava.video_published(tmp_path / "llava_video", layers=1, depth=1)
    options = ["backbone=llava_video_7b", "methods=[retake]", "sampling.frames=1"]
    spent = answered(folder, tmp_path, *options)["ledger"]
    assert spent["tokens_dense"] == 13 * 13
    assert spent["ratio_achieved"] == pytest.approx(0.5, rel=0.02)
    (newlines,) = spent["kv_separators_per_layer"]
    assert 0 < newlines <= 13
