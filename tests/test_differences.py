"""The table of paired differences at equal ratios, on answers small enough to count by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from run_folders import row, write_run

from evalkit.evidence import answers, differences
from evalkit.evidence.paired import holm

if TYPE_CHECKING:
    from pathlib import Path

    from evalkit.evidence.answers import Run


def runs(root: Path, cells: dict[tuple[str, float], str], backbone: str = "tiny") -> list[Run]:
    """Marks of every cell: 1 right, 0 wrong, - failed, a space not answered; one question a video."""
    for (method, ratio), marks in cells.items():
        told = [row(f"q{i}", {"1": True, "0": False}.get(m), f"v{i}") for i, m in enumerate(marks) if m != " "]
        role = "reference" if method == "uniform" else "method"
        parts = {"method": {"name": method, "role": role}, "backbone": {"name": backbone}}
        write_run(root / f"{method}{ratio}", told, ratio=ratio, identity=f"{backbone}{method}{ratio}", **parts)
    return answers.load(root)


def test_numbers_by_hand(tmp_path: Path) -> None:
    """retake gains 5 and loses 0 at ½: both tests 2 of 2⁵ patterns; at ¼ one failed and one was not answered."""
    cells = {
        ("uniform", 0.5): "00000111",
        ("retake", 0.5): "11111111",
        ("uniform", 0.25): "0000111-",
        ("retake", 0.25): "1100 01-",
        ("retake", 0.1): "11111111",
    }
    table = differences.differences(runs(tmp_path, cells))
    assert tuple(table.columns) == differences.COLUMNS
    assert list(table["ratio"]) == [0.5, 0.25]  # the first method was not run at 0.1
    half, quarter = table.iloc[0], table.iloc[1]
    assert (half.method, half.against, half.backbone, half.n, half.left_out) == ("retake", "uniform", "tiny", 8, 0)
    assert (half.points, half.gained, half.lost) == (62.5, 5, 0)
    assert half.p == half.p_flip == pytest.approx(2 / 32)
    assert (quarter.n, quarter.left_out, quarter.gained, quarter.lost) == (6, 2, 2, 1)
    assert quarter.p == quarter.p_flip == 1
    for name in ("p", "p_flip"):
        assert list(table[f"{name}_holm"]) == holm(list(table[name])) != list(table[name])


def test_the_two_tests_differ_where_questions_share_a_video(tmp_path: Path) -> None:
    """Six gains of two videos: McNemar's 2/64, but of two signs 2 of 4 patterns are as far from 0."""
    for place, (method, right) in enumerate((("uniform", False), ("zoom", True))):
        told = [row(f"q{i}", right, f"v{i // 3}") for i in range(6)]
        write_run(tmp_path / method, told, method={"name": method}, identity=f"{place}")
    (line,) = differences.differences(answers.load(tmp_path)).itertuples()
    assert (line.p, line.p_flip) == (pytest.approx(2 / 64), pytest.approx(2 / 4))
    text = differences.section(answers.load(tmp_path))
    assert "|   sign flip |   McNemar |" in text  # what takes questions as independent stands behind
    assert "|       0.500 |     0.031 |" in text


def test_left_out_is_shown_where_there_are_any(tmp_path: Path) -> None:
    whole = differences.section(runs(tmp_path / "a", {("uniform", 0.5): "0011", ("retake", 0.5): "0111"}))
    part = differences.section(runs(tmp_path / "b", {("uniform", 0.5): "0011", ("retake", 0.5): "01-1"}))
    assert "left out" not in whole
    assert "|   left out |" in part
    assert "|          1 |" in part


def test_it_fits_a_terminal(tmp_path: Path) -> None:
    cells = {("uniform", 0.125): "1" * 50 + "0" * 1100, ("shuffled_frames", 0.125): "0" * 250 + "1" * 450 + "-" * 450}
    text = differences.section(runs(tmp_path, cells))
    assert "left out" in text
    assert max(map(len, text.splitlines())) <= 120


def test_each_setup_has_its_own_holm(tmp_path: Path) -> None:
    cells = {("uniform", 0.5): "00000", ("retake", 0.5): "11111"}
    for name in ("tiny", "large"):
        runs(tmp_path / name, cells, name)
    table = differences.differences(answers.load(tmp_path))
    assert list(table["backbone"]) == ["large", "tiny"]
    assert list(table["p_holm"]) == list(table["p"]) == pytest.approx([2 / 32] * 2)


def test_one_method_has_no_differences(tmp_path: Path) -> None:
    alone = runs(tmp_path, {("uniform", 0.5): "01", ("uniform", 0.25): "00"})
    assert differences.section(alone) == ""
    assert differences.differences(alone).empty
    assert tuple(differences.differences(alone).columns) == differences.COLUMNS


def test_nothing_scored_in_both_has_no_numbers(tmp_path: Path) -> None:
    text = differences.section(runs(tmp_path, {("uniform", 0.5): "1-", ("retake", 0.5): "-0"}))
    assert "nan" not in text
    assert "| – |" in " ".join(text.split())
