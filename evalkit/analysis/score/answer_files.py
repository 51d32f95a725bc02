"""Anyone's answer files: which question each line answers, and the words of the reply."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from evalkit.analysis.score import workbook
from evalkit.analysis.score.match_questions import QuestionMatcher
from evalkit.data.benchmarks import files
from evalkit.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

    from evalkit.types import Question

Row = Mapping[str, Any]
FORMS = """Readable are
  .jsonl       lines {"question_id": …, "reply": …}; lmms-eval's samples files; evalkit's own answers.jsonl
  .json        an object id -> reply, or a list of such lines; Video-MME's output template
  .csv, .tsv   columns question_id and reply; VLMEvalKit's tsv (index, question, prediction)
  .xlsx        the same columns; VLMEvalKit's result files"""
_IDS = ("question_id", "uid", "id")
_REPLIES = ("reply", "response", "prediction", "text")


@dataclass(frozen=True, kw_only=True)
class Replies:
    """What answer files say about a question set."""

    by_id: Mapping[str, str] = field(repr=False)  # question id -> the model's words
    unknown: tuple[str, ...]  # ids, or places of lines, that are no question of the set


def read(paths: Sequence[Path], questions: Sequence[Question]) -> Replies:
    """The replies of all files together. A line without a reply (null, or a failed one) is as good as none.

    Raises DataError for a file or line that cannot be read, two different replies to one question, or when nothing in
    the files is a question of the set.
    """
    finder = QuestionMatcher(questions)
    by_id: dict[str, str] = {}
    unknown: list[str] = []
    for path in paths:
        for where, row in _rows(path):
            name, known = _question(row, finder, where)
            text = _reply(row, where)
            if not known:
                unknown.append(name)
            elif text is not None and by_id.setdefault(name, text) != text:
                raise DataError(f"{where}: question {name} has another reply already; keep one of the two lines")
    if not by_id:
        raise DataError(_nothing(paths, questions, unknown))
    return Replies(by_id=by_id, unknown=tuple(unknown))


def _nothing(paths: Sequence[Path], questions: Sequence[Question], unknown: Sequence[str]) -> str:
    came = f"came {len(unknown)} others, such as {unknown[0]!r}" if unknown else "came none with a reply"
    example = f" such as {questions[0].id!r}" if questions else ""
    names = ", ".join(map(str, paths))
    return f"{names}: expected replies to questions{example}, {came}; do --annotations and --answers belong together?"


def _rows(path: Path) -> Iterable[tuple[str, Row]]:
    """(where it stands, row) of every line of a file."""
    if path.suffix not in _READERS:
        raise DataError(f"{path}: expected an answer file, came a {path.suffix or 'file without suffix'}\n{FORMS}")
    if not path.is_file():
        raise DataError(f"{path}: expected an answer file, there is none; correct the path")
    return _READERS[path.suffix](path)


def _lines(path: Path) -> Iterable[tuple[str, Row]]:
    for number, value in files.read_json_lines(path):
        where = f"{path}, line {number}"
        if isinstance(value, DataError):
            raise DataError(f"{where}: {value}")
        yield where, _object(value, where)


def _json(path: Path) -> Iterable[tuple[str, Row]]:
    value = files.read_json(path)
    if isinstance(value, dict):
        return [(f"{path}, {key!r}", {"question_id": key, "reply": reply}) for key, reply in value.items()]
    if not isinstance(value, list):
        raise DataError(f"{path}: expected an object id -> reply or a list, came a {type(value).__name__}\n{FORMS}")
    rows = [(f"{path}, entry {k} (counted from 0)", row) for k, row in enumerate(value)]
    return [(where, inner) for where, row in rows for inner in _opened(_object(row, where))]


def _opened(row: Row) -> list[Row]:
    """Video-MME's output template has one entry a video, with its questions inside."""
    inner = row.get("questions")
    return [item for item in inner if isinstance(item, dict)] if isinstance(inner, list) else [row]


def _table(path: Path) -> Iterable[tuple[str, Row]]:
    """Rows of a table; every cell is text, and "None" or "NA" is a word like any other."""
    import pandas as pd

    try:
        if path.suffix == ".xlsx":
            workbook.check(path)
            frame = pd.read_excel(path, dtype=str, keep_default_na=False)
        else:
            separator = "\t" if path.suffix == ".tsv" else ","
            with warnings.catch_warnings():  # cells that no column has are cut off with a warning, or shift the columns
                warnings.simplefilter("error", pd.errors.ParserWarning)
                frame = pd.read_csv(
                    path, sep=separator, dtype=str, keep_default_na=False, encoding="utf-8-sig", index_col=False
                )
    except ImportError as error:
        raise DataError(f"{path}: reading it needs openpyxl: pip install openpyxl, or save it as .tsv") from error
    # KeyError: a zip file that is no workbook; the last three: a workbook with parts that are not what they should be
    except (ValueError, OSError, KeyError, IndexError, SyntaxError, TypeError, Warning) as error:
        raise DataError(f"{path}: expected a table: {error}\n{FORMS}") from error
    for name in (*_IDS, *_REPLIES):
        if f"{name}.1" in frame.columns:  # as pandas calls the second
            raise DataError(f"{path}: expected one column {name}, came several; keep one of them")
    rows = frame.to_dict("records")
    return [
        (f"{path}, row {k} (counted from 0)", {str(name): v for name, v in row.items()}) for k, row in enumerate(rows)
    ]


_READERS: Mapping[str, Callable[[Path], Iterable[tuple[str, Row]]]] = {
    ".jsonl": _lines,
    ".json": _json,
    ".csv": _table,
    ".tsv": _table,
    ".xlsx": _table,
}


def _object(value: Any, where: str) -> Row:
    if not isinstance(value, dict):
        raise DataError(f"{where}: expected an object with an id and a reply, came {json.dumps(value)[:60]}\n{FORMS}")
    return value


def _question(row: Row, finder: QuestionMatcher, where: str) -> tuple[str, bool]:
    """(id, whether it is a question of the set); for a line that fits no question, where it stands."""
    key = next((key for key in _IDS if row.get(key) not in (None, "")), None)
    if key is not None and str(row[key]) in finder.ids:
        return str(row[key]), True
    if "doc_id" in row:
        found = finder.sample(row)
    elif "index" in row and "question" in row:
        found = finder.table_row(row)
    elif key is not None:
        return str(row[key]), False
    else:
        raise DataError(f"{where}: expected an id ({', '.join(_IDS)}), came {', '.join(row) or 'nothing'}\n{FORMS}")
    return found or where, found is not None


def _reply(row: Row, where: str) -> str | None:
    if row.get("status") == "failed":  # evalkit's own record of a question without a reply
        return None
    value = row["filtered_resps"] if "filtered_resps" in row else _first(row, where)
    while isinstance(value, list) and len(value) == 1:  # lmms-eval keeps a list of one reply in some versions
        value = value[0]
    if value is not None and not isinstance(value, str):
        raise DataError(f"{where}: expected the reply to be a text, came {json.dumps(value, default=str)[:60]}")
    return value


def _first(row: Row, where: str) -> Any:
    key = next((key for key in _REPLIES if key in row), None)
    if key is None:
        raise DataError(f"{where}: expected a reply ({', '.join(_REPLIES)}), came {', '.join(row)}\n{FORMS}")
    return row[key]
