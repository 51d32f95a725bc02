"""The table of paired differences at equal ratios, on answers small enough to count by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from evalkit.analysis.results import Results
from evalkit.analysis.stats.paired_tests import holm
from evalkit.analysis.tables import differences, paper
from evalkit.runs import load
from tests.support.run_folders import ledger, row, write_run

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from evalkit.runs.load import Run


def runs(root: Path, cells: dict[tuple[str, float], str], backbone: str = "tiny") -> list[Run]:
    """Marks of every point: 1 right, 0 wrong, - failed, a space not answered; one question a video."""
    for (method, ratio), marks in cells.items():
        told = [row(f"q{i}", {"1": True, "0": False}.get(m), f"v{i}") for i, m in enumerate(marks) if m != " "]
        role = "reference" if method == "uniform" else "method"
        parts = {"method": {"name": method, "role": role}, "backbone": {"name": backbone}}
        write_run(root / f"{method}{ratio}", told, ratio=ratio, identity=f"{backbone}{method}{ratio}", **parts)
    return load.load(root)


def test_numbers_by_hand(tmp_path: Path) -> None:
    """retake gains 5 and loses 0 at ½: both tests 2 of 2⁵ patterns; at ¼ one failed and one was not answered."""
    cells = {
        ("uniform", 0.5): "00000111",
        ("retake", 0.5): "11111111",
        ("uniform", 0.25): "0000111-",
        ("retake", 0.25): "1100 01-",
        ("retake", 0.1): "11111111",
    }
    table = Results(runs(tmp_path, cells)).differences
    assert tuple(table.columns) == differences.COLUMNS
    assert list(table["ratio"]) == [0.5, 0.25]  # the first method was not run at 0.1
    half, quarter = table.iloc[0], table.iloc[1]
    assert (half.method, half.reference, half.backbone, half.n, half.excluded) == ("retake", "uniform", "tiny", 8, 0)
    assert (half.delta_pp, half.gained, half.lost) == (62.5, 5, 0)
    assert half.p_mcnemar == half.p_sign_flip == pytest.approx(2 / 32)
    assert (quarter.n, quarter.excluded, quarter.gained, quarter.lost) == (6, 2, 2, 1)
    assert quarter.p_mcnemar == quarter.p_sign_flip == 1
    for name in ("p_mcnemar", "p_sign_flip"):
        assert list(table[f"{name}_holm"]) == holm(list(table[name])) != list(table[name])


def test_the_two_tests_differ_where_questions_share_a_video(tmp_path: Path) -> None:
    """Six gains of two videos: McNemar's 2/64, but of two signs 2 of 4 patterns are as far from 0."""
    for place, (method, right) in enumerate((("uniform", False), ("zoom", True))):
        told = [row(f"q{i}", right, f"v{i // 3}") for i in range(6)]
        write_run(tmp_path / method, told, method={"name": method}, identity=f"{place}")
    (line,) = Results(load.load(tmp_path)).differences.itertuples()
    assert (line.p_mcnemar, line.p_sign_flip) == (pytest.approx(2 / 64), pytest.approx(2 / 4))
    text = differences.section(Results(load.load(tmp_path)).difference_rows)
    assert "|   p (sign flip) |   p (McNemar) |" in text  # what takes questions as independent stands behind
    assert "|           0.500 |         0.031 |" in text


def test_left_out_is_shown_where_there_are_any(tmp_path: Path) -> None:
    whole = differences.section(
        Results(runs(tmp_path / "a", {("uniform", 0.5): "0011", ("retake", 0.5): "0111"})).difference_rows
    )
    part = differences.section(
        Results(runs(tmp_path / "b", {("uniform", 0.5): "0011", ("retake", 0.5): "01-1"})).difference_rows
    )
    assert "excluded" not in whole
    assert "|   excluded |" in part
    assert "|          1 |" in part


def test_it_fits_a_terminal(tmp_path: Path) -> None:
    cells = {("uniform", 0.125): "1" * 50 + "0" * 1100, ("shuffled_frames", 0.125): "0" * 250 + "1" * 450 + "-" * 450}
    text = differences.section(Results(runs(tmp_path, cells)).difference_rows)
    assert "excluded" in text
    assert max(map(len, text.splitlines())) <= 120


def test_each_setup_has_its_own_holm(tmp_path: Path) -> None:
    cells = {("uniform", 0.5): "00000", ("retake", 0.5): "11111"}
    for name in ("tiny", "large"):
        runs(tmp_path / name, cells, name)
    table = Results(load.load(tmp_path)).differences
    assert list(table["backbone"]) == ["large", "tiny"]
    assert list(table["p_mcnemar_holm"]) == list(table["p_mcnemar"]) == pytest.approx([2 / 32] * 2)


def replies(folder: Path, method: str, ratio: float, marks: Sequence[bool], fed: int = 100) -> None:
    """One question a video; a reply for each mark."""
    told = [
        row(f"q{i}", ok, f"v{i}", text="AB"[ok], letter="AB"[ok], ledger=ledger(llm_tokens_fed=fed))
        for i, ok in enumerate(map(bool, marks))
    ]
    role = "reference" if method == "uniform" else "method"
    write_run(folder, told, ratio=ratio, identity=folder.name, method={"name": method, "role": role})


def plain_holm(values: Sequence[float]) -> list[float]:
    """Holm's step-down as the textbook has it, another way than evalkit's."""
    order = sorted(values)
    steps = [min(1.0, (len(order) - place) * p) for place, p in enumerate(order)]
    return [max(steps[: order.index(p) + 1]) for p in values]


@pytest.mark.parametrize("seed", range(4))
def test_rows_that_repeat_the_reference_are_in_no_family(tmp_path: Path, seed: int) -> None:
    """Simulated grids whose methods repeat the dense run at ratio 1: Holm over the others, in every table."""
    rng = np.random.default_rng(seed)
    dense, half = (rng.random(24) < share for share in (0.8, 0.5))
    replies(tmp_path / "u1", "uniform", 1.0, dense)
    replies(tmp_path / "u2", "uniform", 0.5, half)
    for place, lift in enumerate(rng.permutation([0.0, 0.3, 0.5])):
        replies(tmp_path / f"m{place}1", f"m{place}", 1.0, dense)
        replies(tmp_path / f"m{place}2", f"m{place}", 0.5, half | (rng.random(24) < lift), fed=90)
    replies(tmp_path / "other", "m9", 1.0, dense, fed=99)  # other inputs with the same replies are a test
    found = load.load(tmp_path)
    table = Results(found).differences
    repeats = (table["ratio"] == 1) & (table["method"] != "m9")
    assert repeats.sum() == 3
    for name in ("p_mcnemar", "p_sign_flip"):
        assert table.loc[repeats, f"{name}_holm"].isna().all()
        assert list(table.loc[~repeats, f"{name}_holm"]) == pytest.approx(plain_holm(list(table.loc[~repeats, name])))
    # The negative control: with them in the family some p would be larger.
    if table.loc[~repeats, "p_sign_flip"].min() < 0.1:
        assert list(table.loc[~repeats, "p_sign_flip_holm"]) != pytest.approx(
            [p for p, skip in zip(plain_holm(list(table["p_sign_flip"])), repeats, strict=True) if not skip]
        )
    scores = paper.frame(Results(found).set_accuracy)
    for key in ("dense", "kv", "compute"):
        rows = scores[scores[f"{key}_p_sign_flip"].notna()]
        whole = rows[~((rows["ratio"] == 1) & rows["method"].isin(["m0", "m1", "m2"]))]
        assert list(whole[f"{key}_p_sign_flip_holm"]) == pytest.approx(plain_holm(list(whole[f"{key}_p_sign_flip"])))
        assert rows[f"{key}_p_sign_flip_holm"].notna().sum() == len(whole) < len(rows)
    same = next(
        line
        for line in differences.section(Results(found).difference_rows).splitlines()
        if line.startswith("| m0") and "|       1 |" in line
    )
    assert same.count("– |") == 2


def test_one_method_has_no_differences(tmp_path: Path) -> None:
    alone = runs(tmp_path, {("uniform", 0.5): "01", ("uniform", 0.25): "00"})
    assert differences.section(Results(alone).difference_rows) == ""
    assert Results(alone).differences.empty
    assert tuple(Results(alone).differences.columns) == differences.COLUMNS


def test_nothing_scored_in_both_has_no_numbers(tmp_path: Path) -> None:
    text = differences.section(Results(runs(tmp_path, {("uniform", 0.5): "1-", ("retake", 0.5): "-0"})).difference_rows)
    assert "nan" not in text
    assert "| – |" in " ".join(text.split())
