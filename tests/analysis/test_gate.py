"""`python -m evalkit gate`: exit codes, the questions it names, what it writes for CI, how a baseline is stored."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import pytest

from evalkit.__main__ import main
from evalkit.analysis.compare import baseline
from evalkit.runs import load
from evalkit.runs.stored import FILES
from tests.support.run_folders import UNPARSED, outcome, row, write_run

if TYPE_CHECKING:
    from evalkit.runs.load import Run

VIDEOS, EACH = 20, 5
IDS = [f"{video}-{number}" for video in range(VIDEOS) for number in range(EACH)]
SIZE = {"questions": len(IDS)}


def rows(**letters: str) -> list[dict[str, Any]]:
    """100 questions on 20 videos, all right (B). `wrong`, `other`: ids answered A; `failed`; `mute`: no letter."""
    chosen = {kind: set(ids.split()) for kind, ids in letters.items()}
    lines = []
    for id_ in IDS:
        failed = id_ in chosen.get("failed", ())
        letter = "A" if id_ in chosen.get("wrong", ()) else "B"
        mute = UNPARSED | {"text": chosen["mute_text"].copy().pop()} if id_ in chosen.get("mute", ()) else {}
        said = {} if failed else {"letter": letter, "text": letter} | mute
        lines.append(row(id_, None if failed else letter == "B" and not mute, f"v{id_.split('-')[0]}", **said))
    return lines


def write(folder: Path, lines: list[dict[str, Any]] | None = None, **changes: Any) -> Path:
    return write_run(folder, rows() if lines is None else lines, **{"benchmark": SIZE} | changes)


def gate(stored: Path, run: Path, *options: str) -> int:
    return main(["gate", "--baseline", str(stored), str(run), *options])


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    return write(tmp_path / "stored")


def test_the_same_answers_hold_whatever_the_identity(stored: Path, tmp_path: Path) -> None:
    run = write(tmp_path / "any" / "name", identity="0" * 16)
    assert gate(stored, run) == 0
    assert gate(stored, run, "--agree", "1") == 0


def test_one_flip_in_a_hundred_by_margin_and_by_agreement(
    stored: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """-1 point; resampling videos, the one with the flip comes up to 3 times in 97.5 % of draws: low is -3."""
    run = write(tmp_path / "run", rows(wrong="7-2"))
    assert gate(stored, run, "--margin", "3.5") == 0
    capsys.readouterr()
    assert gate(stored, run, "--margin", "2.5") == 1
    assert "7-2: B → A (lost)" in capsys.readouterr().out
    assert gate(stored, run, "--agree", "0.99") == 0
    assert gate(stored, run, "--agree", "0.995") == 1


def test_the_default_margin_is_two_points(stored: Path, tmp_path: Path) -> None:
    """One question lost of 5 in one of 20 videos has its lower end at -3 points; one of 10 in one of 20 at -1.5."""
    assert gate(stored, write(tmp_path / "one", rows(wrong="7-2"))) == 1
    twice = [line | {"question_id": f"{line['question_id']}{x}"} for line in rows() for x in "ab"]
    less = [line | outcome(line["question_id"] != "7-2a") for line in twice]
    size = {"benchmark": {"questions": 200}}
    old, new = write(tmp_path / "old", twice, **size), write(tmp_path / "new", less, **size)
    assert gate(old, new) == 0
    assert gate(old, new, "--margin", "1.4") == 1


@pytest.mark.parametrize(
    ("wrong", "better", "margin", "state"),
    [
        ("7-2", "", "2.5", "not shown to hold"),  # -1 [-3, 0]: neither within the margin nor a loss
        ("7-2", "3-1 4-1", "1", "not shown to hold"),  # +1: two gained, one lost
        ("0-0 1-0 2-0 3-0 4-0 5-0 6-0 7-0", "", "5", "regressed"),  # -8 [-12, -4]: a loss, and below the margin
        ("0-0 1-0 2-0 3-0 4-0 5-0 6-0 7-0", "", "20", "holds"),  # the same loss, inside the margin
        ("", "", "0.1", "holds"),
    ],
)
def test_a_loss_is_shown_or_nothing_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], wrong: str, better: str, margin: str, state: str
) -> None:
    """Whichever does not hold fails the gate: exit 1, a failure in JUnit."""
    old, new = write(tmp_path / "old", rows(wrong=better)), write(tmp_path / "new", rows(wrong=wrong))
    code = gate(old, new, "--margin", margin, "--junit", str(tmp_path / "junit.xml"))
    assert f"**{state}**: " in capsys.readouterr().out
    assert code == (0 if state == "holds" else 1)
    suite = ElementTree.parse(tmp_path / "junit.xml").getroot()[0]
    assert (suite.get("failures"), suite.get("errors")) == (str(code), "0")
    kinds = [problem.get("type") for problem in suite.iter("failure")]
    assert kinds == ([] if state == "holds" else [state])


def test_gains_and_losses_that_cancel_do_not_agree(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Accuracy alone sees nothing."""
    old = write(tmp_path / "old", rows(wrong=" ".join(IDS[:5])))
    new = write(tmp_path / "new", rows(wrong=" ".join(IDS[5:10])))
    assert gate(old, new, "--agree", "0.97") == 1
    out = capsys.readouterr().out
    assert "90 of 100 answers agree" in out
    assert "0-0: A → B (gained)" in out
    assert "1-0: B → A (lost)" in out


def test_words_count_where_no_letter_was_read(tmp_path: Path) -> None:
    old = write(tmp_path / "old", rows(mute="3-1", mute_text="Hm."))
    assert gate(old, write(tmp_path / "same", rows(mute="3-1", mute_text="Hm.")), "--agree", "1") == 0
    assert gate(old, write(tmp_path / "other", rows(mute="3-1", mute_text="Well.")), "--agree", "1") == 1


def test_letters_count_where_they_were_read(stored: Path, tmp_path: Path) -> None:
    lines = [line | {"text": "B. a cat"} for line in rows()]
    assert gate(stored, write(tmp_path / "run", lines), "--agree", "1") == 0


@pytest.mark.parametrize("rule", [("--margin", "50"), ("--agree", "0.5")])
def test_a_new_failure_is_a_regression(
    stored: Path, tmp_path: Path, rule: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    run = write(tmp_path / "run", rows(failed="4-4"))
    assert gate(stored, run, *rule) == 1
    assert "4-4: B → failed" in capsys.readouterr().out
    assert gate(run, run, *rule) == 0  # it failed before, too


def test_replies_that_lost_their_score_count_as_wrong(stored: Path, tmp_path: Path) -> None:
    """A protocol that leaves unreadable replies out of its averages cannot hide that half are unreadable."""
    lines = rows(mute=" ".join(IDS[::2]), mute_text="?")
    lines = [line | ({"correct": None} if line["letter"] is None else {}) for line in lines]
    assert gate(stored, write(tmp_path / "run", lines)) == 1


def test_the_same_reply_without_its_score_does_not_agree(
    stored: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [line | ({"correct": None} if line["question_id"] == "7-2" else {}) for line in rows()]
    assert gate(stored, write(tmp_path / "run", lines), "--agree", "1") == 1
    assert "7-2: B → B (scored before, not now)" in capsys.readouterr().out
    assert gate(tmp_path / "run", stored, "--agree", "1") == 1
    assert "7-2: B → B (scored now, not before)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"benchmark": {"questions": 150}}, "questions differ"),
        ({"protocol": {"name": "official"}}, "protocol differs"),
        ({"sampling": {"frames": 8}}, "sampling differs"),
        ({"method": {"name": "retake"}}, "no run of this benchmark, method and ratio"),
        ({"ratio": 0.5}, "no run of this benchmark, method and ratio"),
    ],
)
def test_what_cannot_be_compared(
    stored: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, Any], reason: str
) -> None:
    assert gate(stored, write(tmp_path / "run", **changes)) == 2
    assert reason in capsys.readouterr().out


def test_unfinished_or_missing_runs_cannot_be_compared(
    stored: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert gate(stored, write(tmp_path / "run", rows()[:60])) == 2
    assert "40 questions of the baseline are not answered yet" in capsys.readouterr().out
    assert gate(stored, tmp_path / "nowhere") == 2


def test_one_video_gives_no_interval_but_may_agree(tmp_path: Path) -> None:
    size = {"benchmark": {"questions": EACH}}
    old, new = (write(tmp_path / side, rows()[:EACH], **size) for side in ("old", "new"))
    assert gate(old, new) == 2
    assert gate(old, new, "--agree", "1") == 0


def test_every_run_of_the_baseline_is_judged(tmp_path: Path) -> None:
    """What cannot be compared outweighs what regressed; runs that the baseline does not know are no matter."""
    for ratio in (1.0, 0.5):
        write(tmp_path / "old" / str(ratio), ratio=ratio, identity=f"old {ratio}")
        write(tmp_path / "new" / f"run {ratio}", ratio=ratio, identity=f"new {ratio}")
    write(tmp_path / "new" / "more", method={"name": "more"}, identity="more")
    assert gate(tmp_path / "old", tmp_path / "new") == 0
    write(tmp_path / "bad" / "1", rows(wrong=" ".join(IDS)), ratio=1.0)
    assert gate(tmp_path / "old", tmp_path / "bad") == 2
    write(tmp_path / "bad" / "2", ratio=0.5, identity="other")
    assert gate(tmp_path / "old", tmp_path / "bad") == 1


def test_summary_is_appended_and_junit_holds_every_verdict(tmp_path: Path) -> None:
    for ratio in (1.0, 0.5, 0.25):
        write(tmp_path / "old" / str(ratio), ratio=ratio, identity=f"old {ratio}")
    write(tmp_path / "new" / "1", ratio=1.0, identity="new 1")
    odd = [line | {"text": "\x00 <b>&", "correct": False, **UNPARSED} for line in rows()]
    write(tmp_path / "new" / "2", odd, ratio=0.5, identity="new 2")
    summary, junit = tmp_path / "summary.md", tmp_path / "junit.xml"
    summary.write_text("before\n")
    files = ["--summary", str(summary), "--junit", str(junit)]
    assert gate(tmp_path / "old", tmp_path / "new", "--agree", "0.97", *files) == 2
    text = summary.read_text()
    assert text.startswith("before\n# Gate: FAILED")
    assert "1 holds, 1 regressed, 1 cannot be compared" in text
    suite = ElementTree.parse(junit).getroot()[0]
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("3", "1", "1")
    found = {case.get("name"): [child.tag for child in case] for case in suite}
    kinds = {"1": [], "0.5": ["failure"], "0.25": ["error"]}
    assert found == {f"uniform at ratio {ratio}": kind for ratio, kind in kinds.items()}
    failure = suite.find("testcase/failure")
    assert failure is not None
    assert failure.text is not None
    assert len(failure.text.splitlines()) == len(IDS)
    assert "<b>&" in failure.text


def test_files_that_cannot_be_written_are_an_error(stored: Path, tmp_path: Path) -> None:
    assert gate(stored, stored, "--junit", str(tmp_path / "no" / "folder.xml")) == 2


@pytest.mark.parametrize("options", [("--agree", "1.5"), ("--margin", "0"), ("--margin", "1", "--agree", "1")])
def test_rules_that_make_no_sense(stored: Path, options: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit, match="2"):
        gate(stored, stored, *options)


# ---- storing a baseline


def test_a_stored_baseline_is_a_results_folder_without_what_differs_between_machines(tmp_path: Path) -> None:
    local = {"benchmark": SIZE | {"root": "/home/me/data"}, "backbone": {"name": "tiny", "path": "/home/me/weights"}}
    for ratio in (1.0, 0.5):
        write(tmp_path / "run" / str(ratio), rows(wrong="7-2")[::-1], ratio=ratio, identity=f"{ratio}", **local)
    folder = tmp_path / "stored"
    assert gate(folder, tmp_path / "run", "--update") == 0
    assert gate(folder, tmp_path / "run", "--agree", "1") == 0
    assert sorted(p.name for p in folder.iterdir()) == ["mlvu-uniform-r0.5", "mlvu-uniform-r1"]
    texts = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    assert {p.name for p in texts} == FILES
    assert not [p for p, text in texts.items() if b"/home/me" in text or b"seconds" in text]
    assert gate(folder, tmp_path / "run", "--update") == 0
    assert {p: p.read_bytes() for p in texts} == texts
    assert [run.answers[0].ledger for run in load.load(folder)] == [None, None]


def test_storing_takes_the_place_of_what_was_stored_and_of_nothing_else(stored: Path, tmp_path: Path) -> None:
    folder = tmp_path / "base"
    assert gate(folder, stored, "--update") == 0
    other = write(tmp_path / "other", ratio=0.5)
    assert gate(folder, other, "--update") == 0
    assert [p.name for p in folder.iterdir()] == ["mlvu-uniform-r0.5"]
    (folder / "notes.txt").write_text("mine")
    assert gate(folder, other, "--update") == 2
    assert (folder / "notes.txt").read_text() == "mine"
    assert gate(folder / "mlvu-uniform-r0.5", other, "--update") == 2


def test_what_was_stored_stays_until_all_of_the_new_is_written(
    stored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "base"
    assert gate(folder, stored, "--update") == 0
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    for ratio in (0.5, 0.25):
        write(tmp_path / "new" / str(ratio), rows(wrong="7-2"), ratio=ratio, identity=f"{ratio}")
    written = baseline.stored.write

    def full(place: Path, run: Run) -> None:
        if run.ratio == 0.5:
            raise OSError(errno.ENOSPC, "No space left on device")
        written(place, run)

    with monkeypatch.context() as patched:
        patched.setattr(baseline.stored, "write", full)
        assert gate(folder, tmp_path / "new", "--update") == 2
    assert f"{folder}: cannot be written (No space left on device)" in caplog.text
    assert {path: path.read_bytes() for path in tmp_path.glob("*base*/**/*") if path.is_file()} == before
    assert gate(folder, tmp_path / "new", "--update") == 0
    assert len(list(folder.iterdir())) == 2


def test_no_baseline_yet(stored: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert gate(tmp_path / "none", stored) == 2
    assert (
        f"store one from a finished run: python -m evalkit gate --baseline {tmp_path / 'none'} RUN --update"
        in caplog.text
    )
    assert gate(Path("/proc/none"), stored, "--update") == 2
    assert "/proc/none: cannot be written" in caplog.text


def test_only_finished_and_unambiguous_runs_are_stored(tmp_path: Path) -> None:
    write(tmp_path / "part", rows()[:50])
    assert gate(tmp_path / "base", tmp_path / "part", "--update") == 2
    for name in ("one", "two"):
        write(tmp_path / "both" / name, identity=name)
    assert gate(tmp_path / "base", tmp_path / "both", "--update") == 2
    assert not (tmp_path / "base").exists()
