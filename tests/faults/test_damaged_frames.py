"""Frames that do not decode: others stand in for them, which answers and tables say, and `data verify` finds."""

from __future__ import annotations

from pathlib import Path

import pytest

from evalkit.analysis.results import Results
from evalkit.analysis.tables import run_tables
from evalkit.data.prepare import verify
from evalkit.errors import VideoError
from evalkit.model.families.qwen2_vl import Qwen2VL
from evalkit.runs import load
from tests.support import clips
from tests.support.loop import DENSE, answer, engine, question
from tests.support.run_folders import row, write_run


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clips.make(tmp_path_factory.mktemp("clips") / "whole.mp4", frames=120, size=(112, 112))


@pytest.fixture(scope="module")
def damaged(whole: Path) -> Path:
    """In the middle: the first and the last frame decode."""
    return clips.damaged(whole, whole.with_name("damaged.mp4"), 0.45, 0.6)


def test_answers_count_stand_ins(whole: Path, damaged: Path, backbone: Qwen2VL) -> None:
    found = {path: answer(engine(backbone), [DENSE], [question(path, 0)]) for path in (whole, damaged)}
    counts = {path: one.stand_ins for path, answers in found.items() for one in answers.values()}
    assert counts[whole] == 0
    assert 0 < (counts[damaged] or 0) <= 16


def test_tables_say_so(tmp_path: Path) -> None:
    write_run(
        tmp_path / "run", [row("1", True, stand_ins=3), row("2", False, stand_ins=2), row("3", True, stand_ins=0)]
    )
    said = run_tables.markdown(Results(load.load(tmp_path)))
    assert "uniform at ratio 0.25: 2 answers from videos with frames that do not decode; others stood in for 5" in said
    write_run(tmp_path / "none" / "run", [row("1", True), row("2", True, stand_ins=0)])
    assert "do not decode" not in run_tables.markdown(Results(load.load(tmp_path / "none")))


def test_verify_looks_at_the_middle(whole: Path, damaged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    verify.decodes(whole)
    with pytest.raises(VideoError, match=r"expected frame \d+ to decode, got frame \d+ in its place"):
        verify.decodes(damaged)
    monkeypatch.setattr(verify, "PARTS", 1)  # the last frame alone
    verify.decodes(damaged)
