"""The report's strips shade where the evidence of an answer is: from the answers, in thousandths of the video."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from evalkit.analysis import report
from evalkit.analysis.report.document import document
from evalkit.analysis.report.payload import payload
from evalkit.analysis.report.setup import views
from evalkit.analysis.results import Results
from evalkit.data import benchmarks
from evalkit.types import Benchmark
from tests.support.browser import chromium, probe
from tests.support.report_runs import averages, run
from tests.support.run_folders import row

if TYPE_CHECKING:
    from evalkit.runs.load import Run


@pytest.fixture
def runs() -> list[Run]:
    """Three questions about videos of 40 s; of the second nothing is known, the third's video has no length."""
    known = ([[10, 12], [39, 44]], [], [[1, 2]])
    rows = [
        row(f"q{n}", True, f"v{n}", duration_s=None if n == 2 else 40.0, evidence_s=spans)
        for n, spans in enumerate(known)
    ]
    return [run("uniform", "reference", 1.0, rows, root="no folder")]


def shaded(runs: list[Run]) -> Any:
    (view,) = views(Results(runs, averages))
    return payload([view], ["set"], [{}], [{}])["setups"][0]["evidence"]


def test_spans_by_hand(runs: list[Run]) -> None:
    assert shaded(runs) == {"0": [[250, 300], [975, 1000]]}


def test_answers_of_older_versions_have_none() -> None:
    line = row("q0", True, duration_s=40.0)
    assert "evidence_s" not in line
    assert shaded([run("uniform", "reference", 1.0, [line], root="no folder")]) == {}


def test_no_benchmark_is_read_for_them(runs: list[Run], monkeypatch: pytest.MonkeyPatch) -> None:
    """The answers say it: the report reads a benchmark's rows for the files of thumbnails alone."""
    read: list[Any] = []
    empty = Benchmark(name="", label="", root=Path(), split="", questions=())
    monkeypatch.setattr(benchmarks, "load", lambda *where: read.append(where) or [empty])
    document(Results(runs, averages), thumbnails_mb=0)
    assert read == []
    document(Results(runs, averages), thumbnails_mb=1)
    assert len(read) == 1


@pytest.mark.slow
@pytest.mark.skipif(chromium() is None, reason="no chromium on the PATH: apt-get install chromium")
def test_they_are_drawn_on_the_strips(runs: list[Run], tmp_path: Path) -> None:
    """A band for each span where it is known, none where it is not."""
    page = report.write(Results(runs, averages), tmp_path, thumbnails_mb=0)
    script = """
      for (const one of document.querySelectorAll("details")) one.open = true;
      await new Promise((done) => setTimeout(done, 100));
      const band = (one) => [one.getAttribute("x"), one.getAttribute("width")];
      return [...document.querySelectorAll(".opened")].map((one) => [...one.querySelectorAll(".seen")].map(band));
    """
    found = probe(page, script, tmp_path / "browser")
    assert found == [[["250", "50"], ["975", "25"]], [], []]
