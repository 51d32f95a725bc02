"""Nothing finished is ever lost, nothing is answered twice, and one writer at a time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from evalkit.errors import DataError, RunLockedError
from evalkit.runs.folder import ANSWERS, RunFolder
from evalkit.types import Answer

CONFIG = {"identity": "abc", "ratio": 1.0}


def answer(question_id: str, status: str = "ok") -> Answer:
    return Answer(
        benchmark="mlvu",
        question_id=question_id,
        video_id="ü.mp4",
        groups={"task_type": ("count",)},
        method="uniform",
        ratio=1.0,
        text="B",
        letter=None if status == "failed" else "B",
        gold="B",
        correct=None if status == "failed" else True,
        status=status,
        error=None,
        prompt_sha="",
        ledger=None,
    )


def run(path: Path) -> RunFolder:
    return RunFolder(path, CONFIG, "cpu")


def test_answers_survive_and_are_not_asked_again(tmp_path: Path) -> None:
    first = run(tmp_path)
    first.append(replace(answer("a"), repeated=True))
    first.append(answer("b", "failed"))
    assert first.close() == {"questions": 2, "ok": 1, "unparsed": 0, "failed": 1, "repeated": 1}
    second = run(tmp_path)
    assert second.answered() == {"a"}  # a failed one is tried again
    second.append(answer("b"))
    summary = second.close()
    assert (summary["failed"], summary["repeated"]) == (0, 1)
    lines = [json.loads(line) for line in (tmp_path / ANSWERS).read_text().splitlines()]
    assert [(line["question_id"], line["status"]) for line in lines] == [("a", "ok"), ("b", "failed"), ("b", "ok")]
    assert {f.name for f in tmp_path.iterdir()} >= {"config.yaml", "environment.json", "summary.json", ANSWERS}


def test_an_unfinished_line_is_cut_off(tmp_path: Path) -> None:
    first = run(tmp_path)
    first.append(answer("a"))
    first.close()
    with (tmp_path / ANSWERS).open("a", encoding="utf-8") as stream:
        stream.write('{"question_id": "b", "sta')
    second = run(tmp_path)
    assert second.answered() == {"a"}
    second.append(answer("b"))
    second.close()
    assert [json.loads(line)["question_id"] for line in (tmp_path / ANSWERS).read_text().splitlines()] == ["a", "b"]


def test_line_separators_inside_a_reply_do_not_split_a_line(tmp_path: Path) -> None:
    first = run(tmp_path)
    first.append(replace(answer("a"), text="B\u2028C\u0085D"))
    first.close()
    second = run(tmp_path)
    assert second.answered() == {"a"}
    second.close()


def test_a_broken_line_in_the_middle_names_file_and_line(tmp_path: Path) -> None:
    first = run(tmp_path)
    first.append(answer("a"))
    first.close()
    with (tmp_path / ANSWERS).open("a") as file:
        file.write("nonsense\n")
    with pytest.raises(DataError, match=r"answers\.jsonl, line 2"):
        run(tmp_path)


def test_a_second_writer_is_refused_until_the_first_is_done(tmp_path: Path) -> None:
    first = run(tmp_path)
    with pytest.raises(RunLockedError, match="another process"):
        run(tmp_path)
    first.close()
    run(tmp_path).close()


def test_kill_9_loses_nothing_and_releases_the_lock(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from test_run_folder import answer, run\n"
        "folder = run(Path(sys.argv[1]))\n"
        "for name in 'abc':\n"
        "    folder.append(answer(name))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=Path(__file__).parent, check=False)
    assert done.returncode == -signal.SIGKILL
    after = run(tmp_path)
    assert after.answered() == {"a", "b", "c"}
    after.close()


def test_answers_are_synced_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And by `close` at the latest, where a run is stopped before all about a video are there."""
    file, synced, right = tmp_path / ANSWERS, list[int](), os.fsync

    def watched(out: int) -> None:
        if os.path.samestat(os.fstat(out), file.stat()):
            synced.append(file.read_bytes().count(b"\n"))
        right(out)

    monkeypatch.setattr(os, "fsync", watched)
    folder = run(tmp_path)
    folder.append(answer("a"))
    folder.append(answer("b"))
    assert (folder.sync(), folder.sync(), synced) == (2, 0, [2])
    folder.append(answer("c"))
    folder.close()
    assert synced == [2, 3]
