"""Run folders: one line per answer, written as it is given, so that a process that is killed loses none.

Lines are synced to the disk together, and count as done from then on. A folder is locked while a process writes to it.
Reading it back, the last line of a question counts; a line that a killed process left unfinished is dropped.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

import yaml

from evalkit import atomic_write
from evalkit.errors import DataError, RunLockedError, StorageError
from evalkit.ledger import Timing
from evalkit.runs import answer_lines, checked_lines, environment, parse_answer, storage
from evalkit.types import Answer

log = logging.getLogger(__name__)

CONFIG = "config.yaml"
ENVIRONMENT = "environment.json"
ANSWERS = "answers.jsonl"
TIMING = "timing.jsonl"
SUMMARY = "summary.json"


class RunFolder:
    """One method at one ratio on one benchmark."""

    def __init__(self, path: Path, config: Mapping[str, Any], device: str) -> None:
        """Open a run folder, creating it where it is new.

        Raises RunLockedError when another process holds it, ConfigError where it cannot be written, and StorageError
        where the disk is full or no more files can be opened.
        """
        self.path, self._file = path, path / ANSWERS
        self._identity = config.get("identity")
        self._lines = answer_lines.AnswerLines(self._identity)
        with storage.opening(path):
            self._open(config, device)

    def _open(self, config: Mapping[str, Any], device: str) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        self._lock = self._locked()
        try:
            self._write(CONFIG, yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True))
            self._write(ENVIRONMENT, json.dumps(environment.provenance(config, device), indent=2) + "\n")
            answers = self._stored()
            self.status = {answer.question_id: answer.status for answer in answers}
            self.errors = {answer.question_id: str(answer.error) for answer in answers}  # of failed ones
            self._repeated = {answer.question_id: answer.repeated is True for answer in answers}
            self.video_files = {answer.question_id: answer.video_file for answer in answers}  # as they were then
            self._outdated: set[str] = set()
            self._file.touch()
            self._held = self._file.stat()  # the file that is written to
            self._size = self._held.st_size  # that it must have
            self._unsynced = 0  # answers that the disk may not hold yet
        except BaseException:
            self._lock.close()
            raise

    def _locked(self) -> IO[str]:
        lock = (self.path / ".lock").open("w", encoding="utf-8")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.close()
            raise RunLockedError(
                f"{self.path}: another process is writing to this run folder; wait for it, or give results_dir=DIR"
            ) from error
        return lock

    def _mend(self, name: str) -> bytes:
        """What is written so far. An unfinished last line is cut off, so that the next one starts on its own."""
        file = self.path / name
        if not file.exists():
            return b""
        data = file.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]
        if len(whole) < len(data):
            log.warning("%s: dropped an unfinished last line of %d bytes", file, len(data) - len(whole))
            with file.open("r+b") as stream:
                stream.truncate(len(whole))
        return whole

    def _rows(self, name: str, data: bytes, decode: Callable[[str], Any] = json.loads) -> Iterator[dict[str, Any]]:
        """The objects of whole lines, one by one, as `decode` may know the last. DataError where one is none."""
        file, lines = self.path / name, data.decode().split("\n")[:-1]
        return (self._line(file, number, line, decode) for number, line in enumerate(lines, 1))

    @staticmethod
    def _line(file: Path, number: int, line: str, decode: Callable[[str], Any]) -> dict[str, Any]:
        try:
            value: dict[str, Any] = decode(line)
            value["question_id"], value["status"]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise DataError(
                f"{file}, line {number}: expected a JSON object with question_id and status, got {line[:80]!r}; "
                "mend or delete the line, or move the folder away to start anew"
            ) from error
        return value

    def _stored(self) -> list[Answer]:
        """The lines of answers.jsonl, each of which must be whole and of this very run. DataError where one is not."""
        file, data = self._file, self._mend(ANSWERS)
        self._content = hashlib.sha256(data)  # that the file must have
        reader, lines = checked_lines.LineReader(), []
        for number, row in enumerate(self._rows(ANSWERS, data, reader.decode), 1):
            where = f"{file}, line {number}"
            lines.append(reader.check(row, where))
            parse_answer.expect_run(row, self._identity, where)
        checked_lines.keep(file, self._content.digest(), lines)
        return [line.answer for line in lines]

    def answered(self) -> set[str]:
        """Ids of questions that need no further try; failed and outdated ones are tried again."""
        return {id_ for id_, status in self.status.items() if status != "failed"} - self._outdated

    def outdate(self, question_ids: Collection[str]) -> None:
        """These were answered from a file of their video that is not there any more: they are asked again."""
        self._outdated.update(question_ids)

    @property
    def failed(self) -> int:
        """Questions whose last try failed."""
        return sum(status == "failed" for status in self.status.values())

    def append(self, answer: Answer) -> None:
        """Write one answer. It is in the file when this returns, and on disk after `sync`.

        StorageError where the machine refuses it, or where another program has changed the file.
        """
        data = self._lines.line(answer)
        with storage.writing(self._file), self._opened() as out:
            try:
                _put(out, data)
            except BaseException:  # a part of it is there: nobody else wrote that
                self._size = os.fstat(out).st_size
                raise
        self._size += len(data)
        self._content.update(data)
        self._unsynced += 1
        self._outdated.discard(answer.question_id)
        self.status[answer.question_id] = answer.status
        self.errors[answer.question_id] = str(answer.error)
        self._repeated[answer.question_id] = answer.repeated is True

    def sync(self) -> int:
        """Have the disk hold all that was appended; how many answers since the last time. Errors as `append`."""
        if self._unsynced:
            with storage.writing(self._file), self._opened() as out:
                os.fsync(out)
        synced, self._unsynced = self._unsynced, 0
        return synced

    @contextmanager
    def _opened(self) -> Iterator[int]:
        """answers.jsonl as it was left, for a moment: a grid may have more runs than a process may open files. It is
        never created.
        """
        try:
            out = os.open(self._file, os.O_WRONLY | os.O_APPEND)
        except FileNotFoundError:
            raise self._changed("it is not there any more") from None
        try:
            self._expect_own(os.fstat(out))
            yield out
        finally:
            os.close(out)

    def _expect_own(self, found: os.stat_result) -> None:
        """StorageError where answers.jsonl is another file than at first, or of another size than was written."""
        if not os.path.samestat(found, self._held):
            raise self._changed("another file is in its place")
        if found.st_size != self._size:
            raise self._changed(f"expected {self._size:,} bytes, it has {found.st_size:,}")

    def _changed(self, what: str) -> StorageError:
        return StorageError(
            f"{self._file}: changed by another program while the run writes to it: {what}; keep editors and "
            "synchronisation away from it, then the same command goes on from what is stored"
        )

    def expect_all(self, question_ids: Collection[str]) -> None:
        """StorageError where answers.jsonl, as it is on disk, lacks a line of one of these questions."""
        with storage.writing(self._file), self._opened():
            data = self._mend(ANSWERS)
        stored: Collection[str] = self.status
        if hashlib.sha256(data).digest() != self._content.digest():  # not the lines that were read and written
            stored = {row["question_id"] for row in self._rows(ANSWERS, data)}
        missing = [id_ for id_ in question_ids if id_ not in stored]
        if missing:
            raise self._changed(f"{len(missing)} of {len(question_ids)} questions have no line, such as {missing[0]!r}")

    def timings(self) -> list[dict[str, Any]]:
        """Lines of timing.jsonl, where there is one."""
        return list(self._rows(TIMING, self._mend(TIMING)))

    def append_timing(self, timing: Timing) -> None:
        """Write one measurement; it is on disk when this returns."""
        with storage.writing(self.path / TIMING), (self.path / TIMING).open("ab", buffering=0) as out:
            _put(out.fileno(), answer_lines.line(timing.to_dict()))
            os.fsync(out.fileno())

    def close(self) -> dict[str, Any]:
        """Write the summary, release the lock, return the summary."""
        counts = {s: sum(v == s for v in self.status.values()) for s in ("ok", "unparsed", "failed")}
        summary = {"questions": len(self.status), **counts, "repeated": sum(self._repeated.values())}
        with ExitStack() as stack:
            stack.enter_context(storage.writing(self.path / SUMMARY))
            stack.callback(self._lock.close)
            try:
                self.sync()
            except StorageError as error:  # the run ends in any case, mostly by the same error
                log.warning("%s", error)
            self._write(SUMMARY, json.dumps(summary, indent=2) + "\n")
        return summary

    def _write(self, name: str, text: str) -> None:
        atomic_write.replace(self.path / name, text)


def _put(out: int, data: bytes) -> None:
    """Write all of it to an open file."""
    left = memoryview(data)
    while left:
        left = left[os.write(out, left) :]
