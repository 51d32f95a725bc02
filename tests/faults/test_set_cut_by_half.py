"""A set whose files were all cut off on their way: no answer about what is left of them, and verify says so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from evalkit.__main__ import main
from evalkit.runs.folder import ANSWERS
from tests.support import rows
from tests.support.clips import make
from tests.support.run_eval import run_eval

FAST = {"movflags": "faststart"}  # the index in front: what is left decodes
VIDEOS, QUESTIONS = 2, 6


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Six questions about two whole videos in Video-MME's format."""
    root = tmp_path / "videomme"
    asked = [rows.videomme_row(number) for number in range(1, QUESTIONS + 1)]
    rows.write_parquet(root / rows.VIDEOMME_FILE, asked)
    (root / "data").mkdir(parents=True)
    for name in {row["videoID"] for row in asked}:
        make(root / "data" / f"{name}.mp4", frames=60, size=(56, 56), b_frames=0, muxer=FAST)
    return root


def cut(root: Path) -> None:
    for file in sorted((root / "data").iterdir()):
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def answered(root: Path, results: Path, checkpoint: Path, *settings: str) -> tuple[int, list[dict[str, Any]]]:
    common = [f"benchmark.root={root}", f"backbone.path={checkpoint}", "methods=[uniform]", "ratios=[1.0]"]
    words = ["benchmark=videomme", *common, "sampling.frames=8", "executor.workers=1", "report=false"]
    code = run_eval(*words, f"results_dir={results}", *settings)
    lines = [line for file in results.rglob(ANSWERS) for line in file.read_text().splitlines()]
    return code, [json.loads(line) for line in lines]


def verified(root: Path, out: Path) -> int:
    return main(["data", "verify", "videomme", "--root", str(root), "--workers", "1", "--out", str(out)])


@pytest.mark.slow
def test_no_question_is_answered_about_half_a_video(
    data: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before and after, and the negative control: whoever wants what is left gets it, marked."""
    code, whole = answered(data, tmp_path / "whole", checkpoint)
    assert (code, len(whole), {line["status"] for line in whole} & {"failed"}) == (0, QUESTIONS, set())
    verified(data, tmp_path / "checked")
    assert "0 broken" in capsys.readouterr().out  # it has far fewer rows than Video-MME: that is another line
    cut(data)
    code, left = answered(data, tmp_path / "cut", checkpoint)
    assert (code, [line["status"] for line in left]) == (3, ["failed"] * QUESTIONS)
    assert all("60 frames announced" in line["error"] for line in left)
    assert verified(data, tmp_path / "checked again") == 1
    assert f"{VIDEOS} broken" in capsys.readouterr().out
    code, marked = answered(data, tmp_path / "tolerated", checkpoint, "decode.tolerate_short=true")
    assert (code, len(marked)) == (0, QUESTIONS)
    assert all(line["short"].startswith("60 frames announced") for line in marked)
