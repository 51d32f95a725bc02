"""`python -m evalkit compare`: which runs are paired, which are refused, and what is printed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from evalkit.__main__ import main
from evalkit.analysis.compare import compare, pairing
from tests.support.run_folders import row, write_run

if TYPE_CHECKING:
    from pathlib import Path

VIDEOS = 6
SIZE = {"questions": 18}


def answers(wrong: str = "", failed: str = "", **changes: Any) -> list[dict[str, Any]]:
    """Three questions a video, 0a to 5c, right but for those in `wrong` and `failed`."""
    ids = [f"{video}{letter}" for video in range(VIDEOS) for letter in "abc"]
    marks: dict[str, bool | None] = {i: i not in wrong.split() for i in ids}
    marks |= dict.fromkeys(failed.split())
    letters = {i: "B" if right else "C" for i, right in marks.items() if right is not None}
    said = {i: {"letter": letter, "text": letter} for i, letter in letters.items()}
    return [row(i, right, f"v{i[0]}.mp4", **said.get(i, {}), **changes) for i, right in marks.items()]


def write(folder: Path, wrong: str = "", failed: str = "", **changes: Any) -> Path:
    return write_run(folder, answers(wrong, failed), **{"benchmark": SIZE} | changes)


@pytest.fixture
def two(tmp_path: Path) -> tuple[Path, Path]:
    """A is wrong in 0a, 0b, 1a; B in 1a, 2a; 3a failed in B."""
    a = write(tmp_path / "a", "0a 0b 1a", identity="a" * 16)
    return a, write(tmp_path / "b", "1a 2a", "3a", identity="b" * 16, method={"name": "retake"}, ratio=0.5)


def test_numbers_by_hand(two: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", *map(str, two), "--json", str(tmp_path / "out.json")]) == 0
    (found,) = json.loads((tmp_path / "out.json").read_text())["rows"]
    assert (found["n"], found["videos"], found["gained"], found["lost"]) == (17, 6, ["0a", "0b"], ["2a"])
    assert (found["excluded"], found["a"]["failed"], found["b"]["failed"]) == (["3a"], 0, 1)
    assert found["accuracy_a"] == pytest.approx(100 * 14 / 17)
    assert found["accuracy_b"] == pytest.approx(100 * 15 / 17)
    assert found["delta_pp"] == pytest.approx(100 / 17)
    assert found["p_mcnemar"] == 1  # 2 against 1 of 3 coins
    assert found["p_sign_flip"] == 1  # per-video sums +2 and -1: every pattern of signs is at least 1 away from 0
    assert found["ci_low"] < 0 < found["delta_pp"] < found["ci_high"]
    printed = capsys.readouterr().out
    assert "gained: 0a, 0b" in printed
    assert "lost: 2a" in printed
    assert "excluded: 3a" in printed
    assert "| 0 / 1 |" in " ".join(printed.split())


def test_the_direction_is_b_minus_a(two: tuple[Path, Path]) -> None:
    one, other = compare.compare(*two), compare.compare(*reversed(two))
    assert one.rows[0].difference.delta_pp == -other.rows[0].difference.delta_pp > 0
    assert one.rows[0].pair.paired.gained == other.rows[0].pair.paired.lost


def test_folders_are_paired_by_benchmark_method_and_ratio(tmp_path: Path) -> None:
    for side in "ab":
        for number, (method, ratio) in enumerate([("uniform", 1.0), ("uniform", 0.5), ("retake", 0.5)]):
            settings = {"method": {"name": method}, "ratio": ratio, "identity": f"{side}{number}"}
            write(tmp_path / side / f"{side}-{number}", "0a" if side == "b" else "", **settings)
    write(tmp_path / "b" / "more", method={"name": "blind"}, identity="b9")
    found = compare.compare(tmp_path / "a", tmp_path / "b")
    assert [(r.pair.theirs.method, r.pair.theirs.ratio) for r in found.rows] == [
        (r.pair.ours.method, r.pair.ours.ratio) for r in found.rows
    ]
    assert [r.pair.paired.lost for r in found.rows] == [("0a",)] * 3
    assert found.alone == ("only in B: generated videos (MLVU format), split dev, blind at ratio 0.25",)


def test_holm_counts_the_rows_of_the_table(tmp_path: Path) -> None:
    """Row 1 loses six questions in three videos, row 2 one: McNemar 2/64 and 1, sign flip 2/8 and 1."""
    for side, wrong in (("a", ["", ""]), ("b", ["0a 0b 1a 1b 2a 2b", "0a"])):
        for ratio, bad in zip((0.5, 0.25), wrong, strict=True):
            write(tmp_path / side / str(ratio), bad, ratio=ratio, identity=f"{side}{ratio}")
    first, second = compare.compare(tmp_path / "a", tmp_path / "b").rows
    assert (first.difference.p_mcnemar, second.difference.p_mcnemar) == (pytest.approx(2 / 64), 1)
    assert (first.difference.p_sign_flip, second.difference.p_sign_flip) == (pytest.approx(2 / 8), 1)
    assert (first.p_mcnemar_holm, first.p_sign_flip_holm) == (pytest.approx(4 / 64), pytest.approx(4 / 8))


def test_rows_that_are_the_same_over_again_are_in_no_family(tmp_path: Path) -> None:
    """The dense run answers alike on both sides; beside it the other row stands as if it were alone."""
    for side, wrong in (("a", ""), ("b", "0a 0b 1a 1b 2a 2b")):
        write(tmp_path / side / "dense", ratio=1.0, identity=f"{side}1")
        write(tmp_path / side / "half", wrong, ratio=0.5, identity=f"{side}2")
    first, second = compare.compare(tmp_path / "a", tmp_path / "b").rows
    assert (first.pair.paired.repeats, second.pair.paired.repeats) == (True, False)
    assert (second.p_mcnemar_holm, second.p_sign_flip_holm) == (pytest.approx(2 / 64), pytest.approx(2 / 8))
    values = compare.plain(compare.compare(tmp_path / "a", tmp_path / "b"))["rows"][0]
    assert (values["p_sign_flip"], values["p_sign_flip_holm"], values["p_mcnemar_holm"]) == (1, None, None)
    header = next(
        line
        for line in compare.markdown(compare.compare(tmp_path / "a", tmp_path / "b")).splitlines()
        if "p (sign flip) |" in line
    )
    assert header.index("sign flip") < header.index("McNemar")


def test_several_partners_are_told_apart_by_setup_or_refused(tmp_path: Path) -> None:
    """Two backbones in each folder: each meets its own. Two runs that differ in nothing visible: refused."""
    for side in "ab":
        for name in ("tiny", "large"):
            write(tmp_path / side / name, backbone={"name": name}, identity=side + name)
    found = compare.compare(tmp_path / "a", tmp_path / "b")
    assert [(r.pair.theirs.setup.base[0], r.pair.ours.setup.base[0]) for r in found.rows] == [
        ("large",) * 2,
        ("tiny",) * 2,
    ]
    write(tmp_path / "b" / "again", backbone={"name": "tiny"}, identity="another")
    assert main(["compare", str(tmp_path / "a"), str(tmp_path / "b")]) == 2


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"benchmark": {"questions": 99}}, "questions differ"),
        ({"benchmark": SIZE | {"name": "lvbench"}}, "questions differ"),
        ({"protocol": {"name": "official"}}, "protocol differs: name lmms_eval against official"),
        ({"protocol": {"version": "9"}}, "protocol differs: version 0.7.3 against 9"),
        ({"sampling": {"frames": 64}}, "sampling differs: frames 32 against 64"),
    ],
)
def test_other_settings_are_refused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, changes: dict[str, Any], reason: str
) -> None:
    a, b = write(tmp_path / "a"), write(tmp_path / "b", **changes)
    assert main(["compare", str(a), str(b)]) == 2
    assert reason in caplog.text


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"gold": "A", "correct": False}, "questions differ: other right answers in 18 of 18"),
        ({"video_id": "other"}, "questions differ: other videos in 18 of 18"),
        ({"prompt_sha": "new"}, "protocol differs: other prompts in 18 of 18"),
        ({"question_id": "new"}, "questions differ"),
    ],
)
def test_other_questions_are_refused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, change: dict[str, str], reason: str
) -> None:
    a = write(tmp_path / "a")
    rows = [line | change for line in answers()]
    rows = [line | {"question_id": f"new {n}"} for n, line in enumerate(rows)] if "question_id" in change else rows
    assert main(["compare", str(a), str(write_run(tmp_path / "b", rows, benchmark=SIZE))]) == 2
    assert reason in caplog.text


def test_an_unfinished_run_is_compared_on_what_it_has(tmp_path: Path) -> None:
    """Its other questions are left out; the same few questions as a finished set would be another set."""
    whole = write(tmp_path / "a")
    part = write_run(tmp_path / "b", answers()[:12], benchmark=SIZE)
    (found,) = compare.compare(whole, part).rows
    assert (found.difference.n, len(found.pair.paired.excluded)) == (12, 6)
    subset = write_run(tmp_path / "c", answers()[:12], benchmark={"questions": 12})
    assert main(["compare", str(whole), str(subset)]) == 2


def test_nothing_to_pair(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path / "a" / "1", identity="1")
    write(tmp_path / "a" / "2", identity="2", ratio=0.5)
    write(tmp_path / "b", method={"name": "retake"})
    assert main(["compare", str(tmp_path / "a"), str(tmp_path / "b")]) == 2
    assert "uniform at ratio 0.25" in caplog.text
    assert "retake" in caplog.text
    (tmp_path / "empty").mkdir()
    assert main(["compare", str(tmp_path / "a"), str(tmp_path / "empty")]) == 2


def test_nothing_scored_has_no_numbers(tmp_path: Path) -> None:
    """JSON says null, the table a dash; neither says 0."""
    ids = " ".join(f"{v}{x}" for v in range(VIDEOS) for x in "abc")
    found = compare.compare(write(tmp_path / "a"), write(tmp_path / "b", failed=ids))
    (values,) = compare.plain(found)["rows"]
    assert (values["n"], values["delta_pp"], values["ci_low"], values["accuracy_b"]) == (0, None, None, None)
    assert "–" in compare.markdown(found)


def test_an_answer_file_names_its_run(two: tuple[Path, Path]) -> None:
    assert pairing.read(two[0] / "answers.jsonl")[0].identity == "a" * 16


def test_any_two_cells_of_a_grid(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Paired by benchmark, whatever method and ratio; what is not there is named with what is."""
    for name in ("mlvu", "lvbench"):
        for method, ratio, wrong in (("uniform", 1.0, ""), ("uniform", 0.25, "0a 1a"), ("retake", 0.25, "0a")):
            folder = tmp_path / name / f"{method}-{ratio}"
            settings = {"method": {"name": method}, "ratio": ratio, "identity": f"{name}-{method}-{ratio}"}
            write(folder, wrong, **settings | {"benchmark": SIZE | {"name": name, "label": name}})
    assert main(["compare", str(tmp_path), "--points", "uniform@1", "retake@0.25"]) == 0
    found = compare.compare(tmp_path, tmp_path, ("uniform@0.25", "retake@0.25"))
    assert [(row.pair.theirs.label, row.pair.ours.method, row.pair.paired.gained) for row in found.rows] == [
        ("lvbench", "retake", ("1a",)),
        ("mlvu", "retake", ("1a",)),
    ]
    assert main(["compare", str(tmp_path), "--points", "uniform@1", "retake@0.5"]) == 2
    assert main(["compare", str(tmp_path)]) == 2
    assert "there are retake@0.25, uniform@1" in caplog.text
