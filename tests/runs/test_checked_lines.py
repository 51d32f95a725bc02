"""Lines that a run has checked when it started are not read again, unless the file has changed in between."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from evalkit.errors import DataError
from evalkit.runs import checked_lines, load, parse_answer
from evalkit.runs.answer_lines import AnswerLines
from evalkit.runs.checked_lines import LineReader
from evalkit.runs.folder import ANSWERS, RunFolder
from evalkit.types import KeptOverTime
from tests.support.run_folders import config, row, write_run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from evalkit.types import Answer

OWN = '"kept": é'
ROWS = [row("1", True), row("2", False, text=OWN), row("3", None)]


@pytest.fixture
def started(tmp_path: Path) -> Path:
    """A run folder whose run has been started again, which checks every line."""
    folder = write_run(tmp_path / "run", ROWS)
    RunFolder(folder, config(), "cpu").close()
    return folder


def edited(file: Path) -> None:
    """Change one reply, and leave size, inode and time as they were."""
    before = file.stat()
    with file.open("r+b") as stream:
        stream.write(file.read_bytes().replace(b'"text": "B"', b'"text": "C"', 1))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = file.stat()
    assert (after.st_size, after.st_ino, after.st_mtime_ns) == (before.st_size, before.st_ino, before.st_mtime_ns)


def replies(folder: Path) -> list[str]:
    return [answer.text for answer in load.load(folder)[0].answers]


def test_what_is_read_again_is_what_a_fresh_process_reads(started: Path) -> None:
    known = load.load(started)[0]
    assert known.answers == load.load(started)[0].answers  # kept for one reader: the second has read the file


def test_an_unchanged_file_is_checked_once(started: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parse_answer, "read", lambda *_: pytest.fail("read again"))
    assert replies(started) == ["B", OWN, ""]


def test_a_file_that_changed_is_read_again(started: Path) -> None:
    edited(started / ANSWERS)
    assert replies(started) == ["C", OWN, ""]


def test_without_the_look_at_the_content_nobody_notices(started: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The negative control."""
    monkeypatch.setattr(checked_lines, "take", lambda file, _: checked_lines._kept.pop(file)[1])
    edited(started / ANSWERS)
    assert replies(started) == ["B", OWN, ""]


def test_a_longer_file_is_read_again(started: Path) -> None:
    with (started / ANSWERS).open("a") as stream:
        stream.write(json.dumps(row("4", True)) + "\n")
    assert replies(started) == ["B", OWN, "", "B"]


def test_neighbouring_lines_share_what_their_caches_held(tmp_path: Path) -> None:
    """One object for the questions about a video, of each video in the file."""
    other = {"seconds": [1.0], "tokens": [2.0]}
    of_v1 = [row(name, True, "v1", repeated=False) for name in ("1", "2")]
    of_v2 = [row(name, True, "v2", kept=other, repeated=False) for name in ("3", "4")]
    folder = write_run(tmp_path / "run", [*of_v1, *of_v2])
    RunFolder(folder, config(), "cpu").close()
    found = {answer.question_id: answer.kept for answer in load.load(folder)[0].answers}
    assert found["1"] is found["2"]
    assert found["3"] is found["4"]
    assert found["1"] != found["3"]


def test_nothing_is_kept_once_it_is_forgotten(started: Path) -> None:
    checked_lines.forget()
    assert checked_lines.take(started / ANSWERS, (started / ANSWERS).read_bytes()) is None


@pytest.mark.parametrize("kept", [None, KeptOverTime(seconds=(0.0, 1e-7), tokens=(1.0, 2.5))])
def test_lines_are_those_of_json(kept: KeptOverTime | None) -> None:
    """Whatever was encoded for the answer before."""
    lines, other = AnswerLines("abc"), KeptOverTime(seconds=(3.0,), tokens=(2.0,))
    found = parse_answer.read(row("2", True, text='"kept": {é\n'), "here")
    same = None if kept is None else replace(kept)  # as it comes from another process
    given: list[Answer] = [replace(found, kept=one) for one in (kept, kept, same, other, kept, None)]
    for answer in given:
        values: dict[str, Any] = {**answer.to_dict(), "identity": "abc"}
        assert lines.line(answer) == (json.dumps(values, ensure_ascii=False) + "\n").encode()


KEPT = '{"seconds": [0.0], "tokens": [16.0], "merged": null}'
LINES = [
    f'{{"question_id": "1", "kept": {KEPT}, "repeated": false}}',
    f'{{"question_id": "2", "kept": {KEPT}, "repeated": true}}',
    f'{{"question_id": "3", "groups": {{"a": [], "kept": {KEPT}, "b": []}}}}',  # inside another object
    f'{{"question_id": "4", "kept": {KEPT}, "repeated": 1, "kept": null, "last": 1}}',  # the last one counts
    f'{{"question_id": "5", "kept": null, "x": {{"kept": {KEPT}}}, "kept": {KEPT}, "last": 1}}',
    '{"question_id": "6, \\"kept\\": {}, \\"x", "kept": {"seconds": [1.0], "tokens": ["}, \\""]}, "last": "é"}',
    f'{{"question_id": "7", "kept": {{"seconds": {KEPT}, "tokens": {KEPT}}}, "last": "what is kept"}}',
    f'{{"question_id": "8", "kept": "what is kept", "x": {{"kept": {KEPT}, "y": 1}}, "z": 1}}',
    f'["9", "kept": {KEPT}, "repeated"]',
    f'"10, "kept": {KEPT}, "repeated": 1',
    f'{{"question_id": "11", "kept": {KEPT}, "repeated": }}',
    '{"question_id": "12", "kept": {}, "repeated": 1}',
    '{"question_id": "13", "kept": {"a": 1,}, "repeated": 1}',
    "[]",
    "",
]


def told(decode: Callable[[str | bytes], Any], line: str | bytes) -> object:
    try:
        return json.dumps(decode(line))  # the order of keys, too
    except ValueError as error:
        return str(error)


@pytest.mark.parametrize("first", LINES)
def test_lines_are_decoded_as_json_has_it(first: str) -> None:
    """Whatever was decoded before."""
    for second in LINES:
        reader = LineReader()
        for line in (first, second, first, second.encode()):
            assert told(reader.decode, line) == told(json.loads, line)


def test_what_is_kept_is_one_object_for_lines_that_say_the_same() -> None:
    lines = [json.dumps(row(str(number), True, stand_ins=0)) for number in range(3)]
    other = json.dumps(row("3", True, kept={"seconds": [0.0], "tokens": [1.0]}, stand_ins=0))
    reader = LineReader()
    found = [reader.check(reader.decode(line), "here").answer for line in (*lines, other, lines[0])]
    assert found[0].kept is found[1].kept is found[2].kept
    assert found == [parse_answer.read(json.loads(line), "here") for line in (*lines, other, lines[0])]


def test_what_is_kept_is_checked_however_often_it_is_said() -> None:
    line, reader = json.dumps(row("1", True, kept={"seconds": [0.0], "tokens": []}, stand_ins=0)), LineReader()
    for _ in range(3):
        with pytest.raises(DataError, match="expected one of seconds"):
            reader.check(reader.decode(line), "here")
