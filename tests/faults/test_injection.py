"""Texts of annotation files, answers and configurations do nothing where they are shown."""

from __future__ import annotations

import csv
import io
import json
import logging
import logging.config
import re
from typing import TYPE_CHECKING

import pytest
import yaml
from markdown_it import MarkdownIt

from evalkit import __main__ as command_line
from evalkit import sanitize
from evalkit.analysis.results import Results
from evalkit.analysis.summary import Terminal, summary
from evalkit.analysis.tables import paper, run_tables
from evalkit.runs import load
from tests.support import rows
from tests.support.golden import ROOT
from tests.support.report_runs import averages
from tests.support.run_folders import row, write_run

if TYPE_CHECKING:
    from pathlib import Path

CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
ACTS = (
    "<script>alert(1)</script>",
    "\\<img src=x onerror=alert(1)>",
    "[here](javascript:alert(1))",
    "![seen](//a.example/x.png)",
    "[a][b]",
    "<https://a.example>",
    "\x1b]0;title\x07\x1b[2J",
    "\x9b31m",
    "\u202egpj.exe",
    "over\rwritten",
    "| 100.0 |",
    "\n[b]: https://a.example\n",
)
FORMULAS = ("=cmd|' /C calc'!A0", "+1+cmd", "-1+cmd", "@SUM(1)", "\t=1", " =1", "\uff1d1+1")


def active(document: str) -> list[str]:
    """What acts in a Markdown document: tags and links as CommonMark reads them, control characters, bare addresses."""
    tokens = [
        inner
        for token in MarkdownIt("commonmark").enable("table").parse(document)
        for inner in (token, *(token.children or ()))
    ]
    found = [token.type for token in tokens if token.type in ("html_block", "html_inline", "link_open", "image")]
    return [*found, *CONTROL.findall(document), *re.findall(r"https?://|www\.", document)]


def starts_formula(document: str) -> list[str]:
    """Cells that a spreadsheet would compute."""
    cells = [cell.lstrip(" ") for line in csv.reader(io.StringIO(document)) for cell in line]
    number = re.compile(r"-?[\d.]+(e-?\d+)?")
    return [cell for cell in cells if cell[:1] in tuple("=+-@\t\r\uff1d") and not number.fullmatch(cell)]


@pytest.mark.parametrize("text", ACTS)
def test_markdown_holds_no_html_and_no_link(text: str) -> None:
    assert active(f"{text}\n\n[b]: https://a.example") or "|" in text or "over" in text
    safe = sanitize.markdown(text)
    assert not active(safe)
    assert sanitize.markdown(safe) == safe
    cells = MarkdownIt("commonmark").enable("table").parse(f"| a |\n|---|\n| {sanitize.table_cell(text)} |\n")
    assert sum(token.type == "td_open" for token in cells) == 1
    assert not active(sanitize.table_cell(text))


@pytest.mark.parametrize("text", FORMULAS)
def test_csv_holds_no_formula(text: str) -> None:
    assert starts_formula(f'"{text}"')
    assert not starts_formula(f'"{sanitize.csv_cell(text)}"')


@pytest.mark.parametrize("value", ["-0.5", "+3", "1e-5", "<2 min", "[0, 1]", "a | b", 3, -1.5])
def test_numbers_and_plain_labels_stay(value: object) -> None:
    assert sanitize.csv_cell(value) == value
    assert sanitize.markdown(str(value)) == str(value)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """Two runs with a text that acts in every field that tables show."""
    folder, every = tmp_path_factory.mktemp("runs"), " ".join(ACTS)
    labels = {every: [every], "formula": list(FORMULAS)}
    lines = [row(f"{every}{n}", right, every, groups=labels) for n, right in enumerate((True, False))]
    names = {"label": every, "split": every, "notes": [every], "questions": 2}
    for ratio in (1.0, 0.5):
        method, own = {"name": FORMULAS[0] + every}, {"identity": f"{ratio}", "ratio": ratio}
        write_run(folder / f"{ratio}", lines, benchmark=names, method=method, backbone={"name": every}, **own)
    return Results(load.load(folder), averages)


def test_tables_of_a_run(results: Results, tmp_path: Path) -> None:
    run_tables.write(results, tmp_path)
    paper.write(results, tmp_path)
    written = {file.relative_to(tmp_path): file.read_text(encoding="utf-8") for file in tmp_path.rglob("*.*")}
    assert len(written) >= 13
    for name, text in written.items():
        assert not CONTROL.findall(text), name
        assert name.suffix != ".md" or not active(text), name
        assert name.suffix != ".csv" or not starts_formula(text), name
    assert not active(run_tables.markdown(results))


def test_the_last_screen_of_a_run(results: Results) -> None:
    assert not CONTROL.findall(summary(results, Terminal(columns=100, rows=40)))


def test_score_and_its_errors(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # the test runner's, with which no other is set up
    every = "".join(ACTS)
    made = [rows.videomme_row(n, domain=every) for n in range(1, 4)]
    rows.write_parquet(tmp_path / "set" / rows.VIDEOMME_FILE, made)
    replies = [{"question_id": name, "reply": every} for name in ("001-1", "001-2", every)]
    rows.write_lines(tmp_path / "a.jsonl", replies)
    words = ["score", "videomme", "--annotations", str(tmp_path / "set"), "--protocol", "retake", "--answers"]
    assert command_line.main([*words, str(tmp_path / "a.jsonl")]) == 0
    printed = capsys.readouterr().out
    assert "unknown: 1" in printed
    assert not active(printed)
    (tmp_path / "b.json").write_text(json.dumps({every: 3}), encoding="utf-8")
    assert command_line.main([*words, str(tmp_path / "b.json")]) == 2
    said = capsys.readouterr().err
    assert "expected the reply to be a text" in said
    assert not CONTROL.findall(said)


def test_the_log_of_a_run() -> None:
    settings = yaml.safe_load((ROOT / "conf" / "config.yaml").read_text(encoding="utf-8"))["hydra"]["job_logging"]
    made = logging.config.DictConfigurator({}).configure_formatter(settings["formatters"]["simple"])
    record = logging.LogRecord("evalkit", logging.ERROR, "", 1, "%s", ("".join(ACTS),), None)
    assert CONTROL.findall(logging.Formatter("%(message)s").format(record))
    assert not CONTROL.findall(made.format(record))
