"""Run folders: one line per answer, appended and flushed as it is given, so that nothing finished is ever lost.

A folder is locked while a process writes to it. Reading it back, the last line of a question counts; a line that a
killed process left unfinished is dropped.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
from collections.abc import Collection, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

import yaml

from evalkit import atomic_write
from evalkit.errors import DataError, RunLockedError, StorageError
from evalkit.ledger import Timing
from evalkit.runs import environment, parse_answer, storage
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
        self.path = path
        self._identity = config.get("identity")
        with storage.opening(path):
            self._open(config, device)

    def _open(self, config: Mapping[str, Any], device: str) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        self._lock = self._locked()
        try:
            self._write(CONFIG, yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True))
            self._write(ENVIRONMENT, json.dumps(environment.provenance(config, device), indent=2) + "\n")
            lines = self._own_lines()
            self.status = {line["question_id"]: line["status"] for line in lines}
            self.errors = {line["question_id"]: str(line.get("error")) for line in lines}  # of failed ones
            self._repeated = {line["question_id"]: line.get("repeated") is True for line in lines}
            self.video_files = {line["question_id"]: line.get("video_file") for line in lines}  # as they were then
            self._outdated: set[str] = set()
            (self.path / ANSWERS).touch()
            self._held = (self.path / ANSWERS).stat()  # the file that is written to
            self._size = self._held.st_size  # that it must have
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

    def _mend(self, name: str) -> list[dict[str, Any]]:
        """Lines written so far. An unfinished last line is cut off, so that the next one starts on its own."""
        file = self.path / name
        if not file.exists():
            return []
        data = file.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]
        if len(whole) < len(data):
            log.warning("%s: dropped an unfinished last line of %d bytes", file, len(data) - len(whole))
            with file.open("r+b") as stream:
                stream.truncate(len(whole))
        return [self._line(file, n, line) for n, line in enumerate(whole.decode().split("\n")[:-1], 1)]

    @staticmethod
    def _line(file: Path, number: int, line: str) -> dict[str, Any]:
        try:
            value: dict[str, Any] = json.loads(line)
            value["question_id"], value["status"]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise DataError(
                f"{file}, line {number}: expected a JSON object with question_id and status, got {line[:80]!r}; "
                "mend or delete the line, or move the folder away to start anew"
            ) from error
        return value

    def _own_lines(self) -> list[dict[str, Any]]:
        """The lines of answers.jsonl, each of which must be whole and of this very run. DataError where one is not."""
        lines = self._mend(ANSWERS)
        for number, line in enumerate(lines, 1):
            where = f"{self.path / ANSWERS}, line {number}"
            parse_answer.read(line, where)
            parse_answer.expect_run(line, self._identity, where)
        return lines

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
        """Write one answer; it is on disk when this returns.

        StorageError where the machine refuses it, or where another program has changed the file.
        """
        with storage.writing(self.path / ANSWERS):
            with self._opened() as out:
                self._expect_own(os.fstat(out.fileno()))
                self._size += _put(out, {**answer.to_dict(), "identity": self._identity})
            self._expect_own()
        self._outdated.discard(answer.question_id)
        self.status[answer.question_id] = answer.status
        self.errors[answer.question_id] = str(answer.error)
        self._repeated[answer.question_id] = answer.repeated is True

    def _opened(self) -> IO[bytes]:
        """answers.jsonl for one line: a grid may have more runs than a process may open files. It is never created."""
        try:
            return os.fdopen(os.open(self.path / ANSWERS, os.O_WRONLY | os.O_APPEND), "ab", buffering=0)
        except FileNotFoundError:
            raise self._changed("it is not there any more") from None

    def _expect_own(self, named: os.stat_result | None = None) -> None:
        """StorageError where answers.jsonl is another file than at first, or of another size than was written."""
        try:
            named = named or (self.path / ANSWERS).stat()
        except FileNotFoundError:
            raise self._changed("it is not there any more") from None
        if not os.path.samestat(named, self._held):
            raise self._changed("another file is in its place")
        if named.st_size != self._size:
            raise self._changed(f"expected {self._size:,} bytes, it has {named.st_size:,}")

    def _changed(self, what: str) -> StorageError:
        return StorageError(
            f"{self.path / ANSWERS}: changed by another program while the run writes to it: {what}; keep editors and "
            "synchronisation away from it, then the same command goes on from what is stored"
        )

    def expect_all(self, question_ids: Collection[str]) -> None:
        """StorageError where answers.jsonl, as it is on disk, lacks a line of one of these questions."""
        with storage.writing(self.path / ANSWERS):
            self._expect_own()
            stored = {line["question_id"] for line in self._mend(ANSWERS)}
        missing = [id_ for id_ in question_ids if id_ not in stored]
        if missing:
            raise self._changed(f"{len(missing)} of {len(question_ids)} questions have no line, such as {missing[0]!r}")

    def timings(self) -> list[dict[str, Any]]:
        """Lines of timing.jsonl, where there is one."""
        return self._mend(TIMING)

    def append_timing(self, timing: Timing) -> None:
        """Write one measurement; it is on disk when this returns."""
        with storage.writing(self.path / TIMING), (self.path / TIMING).open("ab", buffering=0) as out:
            _put(out, timing.to_dict())

    def close(self) -> dict[str, Any]:
        """Write the summary, release the lock, return the summary."""
        counts = {s: sum(v == s for v in self.status.values()) for s in ("ok", "unparsed", "failed")}
        summary = {"questions": len(self.status), **counts, "repeated": sum(self._repeated.values())}
        with ExitStack() as stack:
            stack.enter_context(storage.writing(self.path / SUMMARY))
            stack.callback(self._lock.close)
            self._write(SUMMARY, json.dumps(summary, indent=2) + "\n")
        return summary

    def _write(self, name: str, text: str) -> None:
        atomic_write.replace(self.path / name, text)


def _put(out: IO[bytes], line: Mapping[str, Any]) -> int:
    """Bytes that were written, to a file without a buffer."""
    data = (json.dumps(line, ensure_ascii=False) + "\n").encode()
    left = memoryview(data)
    while left:
        left = left[out.write(left) :]
    os.fsync(out.fileno())
    return len(data)
