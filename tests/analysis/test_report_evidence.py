"""Where answers are seen, on the report's strips: from the benchmark's rows, in thousandths of the video."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from evalkit.analysis import report
from evalkit.analysis.report.annotations import asked_rows, evidence
from evalkit.analysis.report.setup import sheets
from evalkit.data import benchmarks
from tests.support.browser import chromium, probe
from tests.support.report_runs import averages, run
from tests.support.rows import mlvu_row, write_json
from tests.support.run_folders import row

if TYPE_CHECKING:
    from pathlib import Path

    from evalkit.runs.load import Run


@pytest.fixture
def runs(tmp_path: Path) -> list[Run]:
    """Three questions about videos of 40 s; of the second the file says nothing, the third's video has no length."""
    write_json(tmp_path / "json" / "1_plotQA.json", [mlvu_row(video=f"clip_{n}.mp4") for n in range(3)])
    ids = [question.id for question in benchmarks.load("mlvu", tmp_path)[0].questions]
    known = {ids[0]: [[10, 12], [39, 44]], ids[2]: [[1, 2]]}
    (tmp_path / "evidence.json").write_text(json.dumps(known), encoding="utf-8")
    rows = [row(q, True, f"v{n}", duration_s=None if n == 2 else 40.0) for n, q in enumerate(ids)]
    return [run("uniform", "reference", 1.0, rows, root=str(tmp_path))]


def test_spans_by_hand(runs: list[Run]) -> None:
    (page,) = sheets(runs)
    assert evidence(page, asked_rows(page)) == {"0": [[250, 300], [975, 1000]]}


def test_without_the_folder_there_are_none(runs: list[Run], tmp_path: Path) -> None:
    (tmp_path / "json" / "1_plotQA.json").unlink()
    (page,) = sheets(runs)
    assert asked_rows(page) == {}
    assert evidence(page, {}) == {}


@pytest.mark.skipif(chromium() is None, reason="no chromium on the PATH: apt-get install chromium")
def test_they_are_drawn_on_the_strips(runs: list[Run], tmp_path: Path) -> None:
    """A band for each span where it is known, none where it is not."""
    page = report.write(runs, tmp_path, thumbnails_mb=0, averages=averages)
    script = """
      for (const one of document.querySelectorAll("details")) one.open = true;
      await new Promise((done) => setTimeout(done, 100));
      const band = (one) => [one.getAttribute("x"), one.getAttribute("width")];
      return [...document.querySelectorAll(".opened")].map((one) => [...one.querySelectorAll(".seen")].map(band));
    """
    found = probe(page, script, tmp_path / "browser")
    assert found == [[["250", "50"], ["975", "25"]], [], []]
