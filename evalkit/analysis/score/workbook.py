"""A workbook before it is read: a small .xlsx file may unpack to gigabytes, or hold one cell a million rows down."""

from __future__ import annotations

import re
import zlib
from typing import TYPE_CHECKING
from zipfile import BadZipFile, ZipFile

from evalkit.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

MIB = 64  # unpacked, many times what replies to a benchmark take
ROWS, COLUMNS = 50_000, 256  # a table is as large as its farthest cell
_PLACE = re.compile(rb"""\sr=["']([A-Z]{0,3})(\d{1,9})["']""")  # of a row or a cell, e.g. r="7" or r="AB7"


def check(path: Path) -> None:
    """Raises DataError for a file that is no workbook, unpacks to more than MIB, or reaches beyond ROWS or COLUMNS."""
    try:
        with ZipFile(path) as book:
            sizes = {part.filename: part.file_size for part in book.infolist()}  # zipfile unpacks no more than these
            _expect_small(sum(sizes.values()) / 2**20, path)
            for name in sizes:
                if name.startswith("xl/worksheets/"):
                    _expect_near(book.read(name), path)
    except (BadZipFile, EOFError, NotImplementedError, OSError, RuntimeError, zlib.error) as error:
        raise DataError(f"{path}: expected a table: no workbook ({error}); save it anew, or as .tsv") from error


def _expect_small(mib: float, path: Path) -> None:
    if mib > MIB:
        raise DataError(
            f"{path}: expected a workbook of at most {MIB} MiB unpacked, came one of {mib:,.0f} MiB; save it as .tsv"
        )


def _expect_near(sheet: bytes, path: Path) -> None:
    for column, row in set(_PLACE.findall(sheet)):
        if int(row) > ROWS or _number(column) > COLUMNS:
            raise DataError(
                f"{path}: expected a table of at most {ROWS:,} rows and {COLUMNS} columns, came one with "
                f"{(column + row).decode()}; delete what lies far out, or save the table as .tsv"
            )


def _number(letters: bytes) -> int:
    """1 for A, 27 for AA; 0 for none."""
    number = 0
    for letter in letters:
        number = 26 * number + letter - 64
    return number
