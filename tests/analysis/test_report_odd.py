"""Odd sets of runs and hostile texts in the report, and the page as a file. test_report_browser opens them."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from evalkit.analysis import report
from evalkit.analysis.grid.measured_points import question_sets
from evalkit.analysis.results import Results
from evalkit.runs import load
from tests.support.report_odd import HOSTILE, ODD, hostile, rows
from tests.support.report_page import Page, page, summary, tables
from tests.support.report_runs import averages, grid
from tests.support.run_folders import write_run

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(ODD))
def test_odd_sets_of_runs(name: str) -> None:
    text = page(ODD[name])
    shown = Page(text)
    assert text.count("<article") == text.count("</article>") == len(question_sets(ODD[name]))
    texts = [line for tag, lines in shown.texts.items() if tag not in ("script", "style") for line in lines]
    assert not {"nan", "None", "NaN", "undefined", "inf"} & {word for line in texts for word in line.split()}
    assert summary(text)


def test_several_setups_are_never_in_one_table(tmp_path: Path) -> None:
    write_run(tmp_path / "a", rows("rw"), identity="1")
    write_run(tmp_path / "b", rows("rr"), identity="2", backbone={"name": "qwen2_vl_7b"})
    text = page(load.load(tmp_path))
    assert re.findall(r'<option value="(.*?)">', text) == [
        "qwen2-vl-7b-generated-videos-mlvu-format-dev",
        "tiny-generated-videos-mlvu-format-dev",
    ]
    assert text.count('<article data-set="tiny-') == 1


def test_runs_that_look_alike_are_told_apart(tmp_path: Path) -> None:
    write_run(tmp_path / "a", rows("rw"), identity="aaaaaaaaaa")
    write_run(tmp_path / "b", rows("rr"), identity="bbbbbbbbbb")
    text = page(load.load(tmp_path))
    assert "uniform#aaaaaaaa" in tables(text)
    assert "uniform#bbbbbbbb" in tables(text)


# ---- hostile texts, and the page as a file


def test_hostile_texts_stay_texts(tmp_path: Path) -> None:
    text = page(hostile(tmp_path))
    text.encode("utf-8")
    assert "\x00" not in text
    shown = Page(text)
    assert shown.tags.count("script") == 2
    assert "img" not in shown.tags
    assert not [name for name, _ in shown.attributes if name.startswith("on") and name != "onsubmit"]
    assert "49" not in shown.texts["title"][0]
    assert any("alert('x')" in line for line in shown.texts["h2"])
    carried = json.loads(re.findall(r'<script type="application/json" id="payload">(.*?)</script>', text, re.DOTALL)[0])
    assert any(line.startswith("</script><script>alert('x')") for line in carried["texts"])


def test_a_page_that_is_not_escaped_would_be_seen() -> None:
    broken = Page(f"<p>{HOSTILE}</p>")
    assert "img" in broken.tags
    assert any(name == "onerror" for name, _ in broken.attributes)


def test_one_file_that_needs_nothing_else(tmp_path: Path) -> None:
    runs = grid(12)
    path = report.write(Results(runs, averages), tmp_path / "out", thumbnails_mb=0)
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["report.html"]
    shown = Page(path.read_text(encoding="utf-8"))
    assert not {"link", "iframe", "img", "object"} & set(shown.tags)
    assert not [value for name, value in shown.attributes if name in ("src", "srcset", "action")]
    assert all(value.startswith("#") for name, value in shown.attributes if name in ("href", "xlink:href"))
    assert not re.search(r"@import|url\((?!#)", " ".join(shown.texts["style"]))
    first = path.read_bytes()
    assert report.write(Results(grid(12), averages), tmp_path / "out", thumbnails_mb=0).read_bytes() == first
    assert report.write(Results(grid(13), averages), tmp_path / "out", thumbnails_mb=0).read_bytes() != first
