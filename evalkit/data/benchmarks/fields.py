"""Checked access to one row's fields. A `RowError` says what was expected and what came; the caller adds the place."""

from __future__ import annotations

import math
import re
from pathlib import PurePosixPath, PureWindowsPath
from reprlib import Repr
from typing import TYPE_CHECKING, Any

from evalkit.data.benchmarks.files import VIDEO_SUFFIXES, RowError
from evalkit.errors import DataError
from evalkit.types import LETTERS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MAX_ID = 512  # characters
MAX_NAME = 255  # bytes of a file name, the limit of common file systems
MAX_OPTIONS = 4  # all three benchmarks offer A to D; their prompts and lmms-eval's reader know no more
_MISSING = object()
_LETTERED = re.compile(r"(?:\(([A-Z])\)|([A-Z])\.)\s*(.*)", re.DOTALL)
_OPTION_LINE = re.compile(r"\(([A-Z])\)")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_repr = Repr()
_repr.maxstring = _repr.maxother = 60


def wrong(key: str, expected: str, came: object) -> RowError:
    """The error for field `key`."""
    got = "nothing" if came is _MISSING else _repr.repr(came)
    return RowError(f"expected `{key}` to be {expected}, got {got}; correct the row or download the file again")


def text(data: Mapping[str, Any], key: str, *, blank: bool = False) -> str:
    """A string of valid Unicode; not blank unless `blank`."""
    value = data.get(key, _MISSING)
    if not isinstance(value, str) or not (blank or value.strip()) or not _encodes(value):
        raise wrong(key, "text" if blank else "a text that is not empty", value)
    return value


def texts(data: Mapping[str, Any], key: str) -> tuple[str, ...]:
    """A list of strings of valid Unicode."""
    value = data.get(key, _MISSING)
    if not isinstance(value, list) or not all(isinstance(item, str) and _encodes(item) for item in value):
        raise wrong(key, "a list of texts", value)
    return tuple(value)


def labels(data: Mapping[str, Any], key: str) -> tuple[str, ...]:
    """One label or a list of labels, none empty."""
    found = (text(data, key),) if isinstance(data.get(key), str) else texts(data, key)
    if not found or not all(label.strip() for label in found):
        raise wrong(key, "labels that are not empty", data.get(key))
    return found


def one_of(data: Mapping[str, Any], key: str, known: Sequence[str]) -> str:
    """One of the known strings."""
    value = data.get(key, _MISSING)
    if value not in known:
        raise wrong(key, f"one of {', '.join(known)}", value)
    return str(value)


def seconds(data: Mapping[str, Any], key: str) -> float:
    """A duration: a positive, finite number."""
    value = data.get(key, _MISSING)
    if not is_duration(value):
        raise wrong(key, "a positive number of seconds", value)
    return float(value)


def is_duration(value: Any) -> bool:
    """Whether a value can be the length of a video in any unit of time."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e9


def identifier(data: Mapping[str, Any], key: str) -> str:
    """An id: at most 512 characters, no control characters, no path out of a folder. Or a whole number."""
    value = data.get(key, _MISSING)
    found = str(value) if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1e18 else value
    if not isinstance(found, str) or not found.strip() or len(found) > MAX_ID or _leaves_folder(found):
        raise wrong(key, f"an id of 1 to {MAX_ID} characters without '..', absolute path or control characters", value)
    return found


def video_name(data: Mapping[str, Any], key: str) -> tuple[str, str]:
    """(stem, suffix) of a video's file name, which may lie in a sub-folder, never outside; ".mp4" if it has none."""
    value = data.get(key, _MISSING)
    if not isinstance(value, str) or not value.strip() or _leaves_folder(value) or PureWindowsPath(value).drive:
        raise wrong(key, "a video's name inside the data folder (no '..', absolute path or control characters)", value)
    suffix = next((end for end in VIDEO_SUFFIXES if value.endswith(end)), "")
    stem, longest = value.removesuffix(suffix), max(map(len, VIDEO_SUFFIXES))
    if not PurePosixPath(stem).name or value.endswith("/") or len(stem.encode()) > MAX_NAME - longest:
        raise wrong(key, f"a video's name of at most {MAX_NAME} bytes with its suffix", value)
    return stem, suffix or ".mp4"


def options(data: Mapping[str, Any], key: str) -> tuple[str, ...]:
    """Option texts of a list that carries letters in order: "A. …" or "(A) …"."""
    lettered = texts(data, key)
    matches = [_LETTERED.fullmatch(item.strip()) for item in lettered]
    letters = [match and (match[1] or match[2]) for match in matches]
    if letters != list(LETTERS[: len(lettered)]):
        raise wrong(key, "options that begin with their letters in order ('A. …', 'B. …')", list(lettered))
    return countable(key, tuple(match[3].strip() for match in matches if match))


def split_options(data: Mapping[str, Any], key: str, *, blank: bool = False) -> tuple[str, tuple[str, ...]]:
    """(question, option texts) of a text that ends with lines "(A) …", "(B) …".

    `blank`: MLVU has a row of neither question nor option texts, which counts as asked.
    """
    full = text(data, key)
    lines = full.split("\n")
    lettered_lines = [
        (number, match[1]) for number, line in enumerate(lines) if (match := _OPTION_LINE.match(line.lstrip()))
    ]
    first = max((k for k, (_, letter) in enumerate(lettered_lines) if letter == "A"), default=len(lettered_lines))
    starts = [number for number, _ in lettered_lines[first:]]
    if not starts or [letter for _, letter in lettered_lines[first:]] != list(LETTERS[: len(starts)]):
        raise wrong(key, "a question that ends with the option lines '(A) …', '(B) …'", full)
    question = "\n".join(lines[: starts[0]]).strip()
    parts = ["\n".join(lines[a:b]).lstrip()[3:].strip() for a, b in zip(starts, [*starts[1:], None], strict=True)]
    if not question and not (blank and not any(parts)):
        raise wrong(key, "a question before its options", full)
    return question, countable(key, tuple(parts), blank=blank and not question)


def countable(key: str, found: tuple[str, ...], *, blank: bool = False) -> tuple[str, ...]:
    """The options, if there are 2 to 4 of them and, unless `blank`, not all are empty."""
    if not 2 <= len(found) <= MAX_OPTIONS or not (blank or any(option.strip() for option in found)):
        raise wrong(key, f"2 to {MAX_OPTIONS} options", list(found))
    return found


def letter(data: Mapping[str, Any], key: str, count: int) -> str:
    """The right option's letter, one of the first `count`."""
    value = data.get(key, _MISSING)
    if value not in tuple(LETTERS[:count]):
        raise wrong(key, f"one of the option letters {', '.join(LETTERS[:count])}", value)
    return str(value)


def duration_bucket(seconds: float) -> str:
    """The group of a video's length for benchmarks without labels of their own; DataError if it is no length."""
    if not 0 <= seconds < math.inf:
        raise DataError(f"expected a video's length in seconds, got {seconds = }")
    if seconds < 120:
        return "<2 min"
    if seconds < 900:
        return "2-15 min"
    return "15-60 min" if seconds <= 3600 else ">60 min"


def _encodes(value: str) -> bool:
    """False for lone surrogates, which JSON can smuggle in and no file or tokenizer takes."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _leaves_folder(name: str) -> bool:
    """Whether a name could address anything but a file below its folder, on any system."""
    posix, windows = PurePosixPath(name), PureWindowsPath(name)
    rooted = posix.is_absolute() or bool(windows.root)
    return rooted or ".." in posix.parts + windows.parts or bool(_CONTROL.search(name)) or not _encodes(name)
