"""Files that are small and stand for much, or are not what their names say: one error, within limits."""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING

import openpyxl
import pytest

from evalkit.analysis.score import workbook
from evalkit.analysis.score.answer_files import read
from evalkit.errors import DataError
from evalkit.runs import load, plain_yaml
from tests.support.run_folders import row, write_run

if TYPE_CHECKING:
    from pathlib import Path

SHEET = "xl/worksheets/sheet1.xml"


def bomb(file: Path) -> None:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as book, book.open(SHEET, "w") as sheet:
        for _ in range(workbook.MIB + 1):
            sheet.write(bytes(2**20))


def far(file: Path) -> None:
    book = openpyxl.Workbook()
    book.active["A1"], book.active["XFD2"] = "question_id", "reply"
    book.save(file)


def deep(file: Path) -> None:
    book = openpyxl.Workbook()
    book.active["A1"], book.active["B1048576"] = "question_id", "reply"
    book.save(file)


def other(file: Path) -> None:
    file.write_bytes(b"question_id,reply\n1,A\n")


def cut(file: Path) -> None:
    far(file)
    file.write_bytes(file.read_bytes()[:-30])


def garbled(file: Path) -> None:
    with zipfile.ZipFile(file, "w") as book:
        book.writestr("[Content_Types].xml", "<Types><")
        book.writestr("xl/workbook.xml", "no XML")


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (bomb, "at most 64 MiB unpacked, came one of 65 MiB"),
        (far, "at most 50,000 rows and 256 columns, came one with XFD"),
        (deep, "at most 50,000 rows and 256 columns, came one with B?1048576"),
        (other, "expected a table: no workbook"),
        (cut, "expected a table: no workbook"),
        (garbled, "expected a table"),
    ],
)
def test_a_workbook_that_is_none(tmp_path: Path, make: object, says: str) -> None:
    make(tmp_path / "a.xlsx")
    with pytest.raises(DataError, match=says):
        read([tmp_path / "a.xlsx"], [])


def test_without_limits_a_bomb_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The negative control: what is found wrong then is what was unpacked."""
    monkeypatch.setattr(workbook, "MIB", 1)
    bomb(tmp_path / "a.xlsx")
    monkeypatch.setattr(workbook, "MIB", 64)
    with pytest.raises(DataError) as found:
        read([tmp_path / "a.xlsx"], [])
    assert "unpacked" not in str(found.value)


def laughs() -> str:
    """Ten lines that stand for 10^10 values."""
    lines = [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    return "\n".join(["a0: &a0 [1, 2]", *lines])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (laughs(), "aliases stand for more than"),
        ("a: &a [*a]", "aliases stand for more than"),
        ("[" * 5000, "nested more than 100 deep"),
        ("- " * 500_000, "nested more than 100 deep"),  # on which libyaml's loader crashes
        ("a: 2026-13-45", "expected YAML"),
        ("a: " + "b" * 1024 * plain_yaml.KIB, "at most 1024 KiB"),
        ("a: \xff", "expected YAML"),
    ],
)
def test_a_configuration_that_is_none(tmp_path: Path, text: str, says: str) -> None:
    folder = write_run(tmp_path / "run", [row("1", True)])
    (folder / "config.yaml").write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match=says):
        load.load(folder)


def test_aliases_that_the_run_itself_wrote_are_read(tmp_path: Path) -> None:
    same = ["a", "b"]
    folder = write_run(tmp_path / "run", [row("1", True)], extra={"one": same, "other": same})
    (folder / "config.yaml").write_text((folder / "config.yaml").read_text() + "x: &x [1]\ny: *x\n")
    assert load.load(folder)[0].config["y"] == [1]


def test_an_unknown_role(tmp_path: Path) -> None:
    write_run(tmp_path / "run", [row("1", True)], method={"name": "uniform", "role": "king"})
    with pytest.raises(DataError, match="expected role to be one of reference, method, control, came 'king'"):
        load.load(tmp_path)


@pytest.mark.parametrize("line", ["[" * 100_000, '{"a": ' + "1" * 5000 + "}"])
def test_a_line_of_answers_that_no_one_can_read(tmp_path: Path, line: str) -> None:
    folder = write_run(tmp_path / "run", [])
    (folder / "answers.jsonl").write_text(line + "\n")
    with pytest.raises(DataError, match="line 1: expected one JSON object"):
        load.load(folder)
