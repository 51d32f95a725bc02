"""Finding and reading annotation files; a file of the wrong structure is a DataError."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evalkit.data.fingerprint import fingerprint
from evalkit.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

VIDEO_SUFFIXES = (".mp4", ".MP4", ".mkv", ".webm")
SUBSET_LISTS = Path(__file__).with_name("subset_lists")  # of the generated sets, a file a format
GENERATED = "GENERATED.json"
OWN = (GENERATED, "subsets.json", "verify.json", "evidence.json")  # what evalkit itself leaves beside annotations


class RowError(DataError):
    """A row cannot be asked; becomes a `BadRow`."""


class VideoFolders:
    """The folders below `root` in which a benchmark's videos may lie; a name is one video, whoever asks for it."""

    def __init__(self, root: Path, folders: Sequence[str]) -> None:
        self._root = root
        self._first = folders[0]
        self._present = [folder for folder in folders if (root / folder).is_dir()]
        self._known: dict[str, list[Path]] = {}
        self._listed: dict[Path, set[Path] | None] = {}  # what is in a folder; None: it cannot be listed

    def path(self, stem: str, suffix: str, own: str | None = None) -> Path:
        """The existing file `stem.*`, sought in folder `own` first; where there is none, the place to put it.

        Raises RowError where there are several, and they are not copies of one: which of them is meant?
        """
        if stem not in self._known:
            places = (self._root / folder / stem for folder in dict.fromkeys((own or self._first, *self._present)))
            ends = dict.fromkeys((suffix, *VIDEO_SUFFIXES))
            candidates = [place.with_name(place.name + end) for place in places for end in ends]
            found = list(filter(self._is_there, candidates)) or candidates[:1]
            self._known[stem] = found if len(found) > 1 and _differ(found) else found[:1]
        first, *others = self._known[stem]
        if others:
            names = ", ".join(str(path.relative_to(self._root)) for path in (first, *others))
            raise RowError(
                f"expected one file for the video {stem!r}, found {1 + len(others)} that differ: {names}; remove all "
                "but the right one"
            )
        return first

    def _is_there(self, path: Path) -> bool:
        folder = path.parent
        if folder not in self._listed:
            try:
                self._listed[folder] = set(folder.iterdir())
            except FileNotFoundError:
                self._listed[folder] = set()
            except OSError:
                self._listed[folder] = None
        listed = self._listed[folder]
        return (listed is None or path in listed) and exists(path)


def _differ(paths: Sequence[Path]) -> bool:
    try:
        return len({fingerprint(path) for path in paths}) > 1
    except OSError:
        return True


def find(root: Path, patterns: Sequence[str]) -> list[Path]:
    """Sorted files of the first pattern that matches any; hidden files never match."""
    for pattern in patterns:
        found = sorted(path for path in root.glob(pattern) if not path.name.startswith(".") and path.is_file())
        if found:
            return found
    return []


def exists(path: Path) -> bool:
    """Whether `path` is a file that can be seen; an unreadable folder hides its files, it does not end the run."""
    try:
        return path.is_file()
    except OSError:
        return False


def read_json(path: Path) -> Any:
    """The value in a JSON file (UTF-8, with or without a byte order mark)."""
    return parse_json(_text(path), str(path))


def parse_json(text: str, where: str) -> Any:
    """The value of a JSON text; `where` names it in the error."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:  # ValueError: also numbers of more digits than Python converts
        raise DataError(f"{where}: expected JSON, {_came(text)}: {error}; download it again") from error


def read_json_list(path: Path) -> list[Any]:
    """The rows of a file that holds one JSON list."""
    value = read_json(path)
    if not isinstance(value, list) or not value:
        came = f"an empty {type(value).__name__}" if not value else f"a {type(value).__name__}"
        raise DataError(f"{path}: expected a JSON list of rows, got {came}; download it again")
    return value


def read_json_lines(path: Path) -> list[tuple[int, Any]]:
    """(line number from 1, value) of every line that is not blank; a line that is no JSON holds its DataError."""
    lines = [(number, line) for number, line in enumerate(_text(path).split("\n"), 1) if line.strip()]
    values = [(number, _line_value(line)) for number, line in lines]
    if all(isinstance(value, DataError) for _, value in values):
        came = str(values[0][1]) if values else "the file is empty; download it again"
        raise DataError(f"{path}: expected one JSON object a line; {came}")
    return values


def read_lines(path: Path) -> list[str]:
    """The lines of a text file that are not blank, without white space around them."""
    return [line.strip() for line in _text(path).split("\n") if line.strip()]


def read_parquet(path: Path, required: Sequence[str], optional: Sequence[str] = ()) -> list[dict[str, Any]]:
    """The rows of a parquet file as plain Python values, the named columns only."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            names = set(file.schema_arrow.names)
            _require_columns(path, required, names)
            rows: list[dict[str, Any]] = file.read(
                [*required, *(name for name in optional if name in names)]
            ).to_pylist()
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{path}: expected a parquet file: {error}; download it again") from error
    if not rows:
        raise DataError(f"{path}: expected rows, the file has none; download it again")
    return rows


def is_generated(root: Path) -> bool:
    """Whether evalkit's own generator wrote this folder: it leaves GENERATED.json with a version there."""
    marker = root / GENERATED
    if not marker.is_file():
        return False
    value = read_json(marker)
    if not isinstance(value, dict) or "version" not in value:
        raise DataError(f'{marker}: expected a JSON object with "version"; run `python -m evalkit data make` again')
    return True


def _line_value(line: str) -> Any:
    try:
        return parse_json(line, "this line")
    except DataError as error:
        return error


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: expected a readable UTF-8 text file: {error}; download it again") from error


def _came(text: str) -> str:
    return f"it begins with {text[:40]!r}" if text.strip() else "the file is empty"


def _require_columns(path: Path, required: Sequence[str], names: set[str]) -> None:
    missing = [name for name in required if name not in names]
    if missing:
        raise DataError(
            f"{path}: expected the columns {', '.join(required)}; missing are {', '.join(missing)}, "
            f"there are {', '.join(sorted(names)) or 'none'}; is this the right file?"
        )
