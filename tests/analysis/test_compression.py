"""The compression table: margins by hand, what is shown of answers of older versions, and its texts."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest

from evalkit.analysis.grid.evidence_recall import Evidence
from evalkit.analysis.grid.option_margins import margin_difference, mean_margin
from evalkit.analysis.report import compression_tables
from evalkit.analysis.results import Results
from evalkit.analysis.tables import compression, compression_text
from evalkit.analysis.tables.columns import COMPRESSION
from tests.support.latex_flaws import flaws
from tests.support.measured import question_set
from tests.support.report_runs import averages, grid
from tests.support.run_folders import row


def told(margins: list[float | None]) -> list[dict[str, Any]]:
    """Two questions a video; right where the margin is above 0."""
    return [row(f"q{n}", (own or 0) > 0, f"v{n // 2}", margin=own) for n, own in enumerate(margins)]


def test_margins_by_hand() -> None:
    """Differences 1, 1, -1, none: sums 2 and -1 of 2 and 1 questions, mean 1/3, residuals 4/3, -4/3."""
    points = {("uniform", 1.0): told([0.5, 1.0, 2.0, 1.0]), ("keeper", 1.0): told([1.5, 2.0, 1.0, None])}
    own = question_set(points)
    dense, ours = own.points
    mean = mean_margin(dense)
    assert mean is not None
    assert (mean.n, mean.mean) == (4, pytest.approx(4.5 / 4))
    found = margin_difference(ours, dense)
    assert found is not None
    assert (found.margin.n, found.margin.mean) == (3, pytest.approx(1 / 3))
    assert found.margin.error == pytest.approx(math.sqrt(2 * 2 * (4 / 3) ** 2) / 3)
    assert found.margin.z == pytest.approx((1 / 3) / found.margin.error)
    assert (found.accuracy.n, found.accuracy.mean) == (3, 0)
    assert margin_difference(question_set({("uniform", 1.0): told([None] * 4)}).points[0], dense) is None


def test_margins_see_more_of_the_same_questions() -> None:
    """Simulated: a shift of margins by a fifth of their spread, 200 questions; right is what is above 0."""
    draw, further = random.Random(2), 0
    for _ in range(20):
        theirs = [draw.gauss(1.0, 1.0) for _ in range(200)]
        ours = [one + draw.gauss(-0.2, 0.5) for one in theirs]
        dense, point = question_set({("uniform", 1.0): told(list(theirs)), ("keeper", 1.0): told(list(ours))}).points
        found = margin_difference(point, dense)
        assert found is not None
        further += found.margin.z < found.accuracy.z
    assert further >= 18


def test_old_answers_say_that_nothing_was_measured() -> None:
    own = Results(grid(24), averages)
    (found, rows), *_ = own.set_compression
    assert list(rows.columns) == list(compression.COLUMNS)
    assert rows[["margin", "dense_margin_delta", "tflops_amortised", "evidence_share"]].isna().all(axis=None)
    assert rows["tflops"].notna().all()
    text = compression_text.markdown(own.set_compression)
    assert text.count(": not measured (") == 3  # evidence, margins, apportioned costs
    assert "hard kinds: none" in text  # fewer than five questions of each in a half
    assert "nan" not in text.lower()
    assert "<NA>" not in text
    assert {one.caption for one in compression_tables.compression(found, rows)} <= {compression_text.TITLES["hard"]}


def measured() -> list[dict[str, Any]]:
    return told([0.5, -1.0, 2.0, 1.0, -0.25, 3.0])


def test_texts() -> None:
    points = {("uniform", 1.0): measured(), ("keeper", 0.25): told([0.0, -1.5, 1.0, 1.0, -0.5, 2.0])}
    own = question_set(points)
    rows = compression.rows(own, Evidence())
    dense, ours = rows.to_dict("records")
    assert compression_text.text(dense, "dense_margin_delta") == "–"
    # -0.5, -0.5, -1, 0, -0.25, -1: sums -1, -1, -1.25 of two each
    assert compression_text.text(ours, "dense_margin_delta") == "-0.54 [-0.72, -0.36]"
    assert compression_text.text({**ours, "dense_margin_delta": 0.5417}, "dense_margin_delta").startswith("+0.54 [")
    assert compression_text.text(ours, "dense_margin_n") == "6"
    texts = compression_text.measured(rows)
    assert set(texts) == {"dense"}  # there is no reference at a quarter
    assert list(texts["dense"].columns) == ["method", "ratio", "margin", "n", "Δ margin", "z (margin)", "z (accuracy)"]
    (page,) = compression_tables.compression(own, rows)
    assert [line.title for line in page.lines] == ["uniform", "keeper"]
    assert page.lines[1].fields[2].text == "\N{MINUS SIGN}0.54 [\N{MINUS SIGN}0.72, \N{MINUS SIGN}0.36]"
    assert flaws(compression_text.latex([(own, rows)])) == []
    assert max(map(len, compression_text.markdown([(own, rows)]).splitlines())) <= 120


def test_an_interval_of_shares_ends_where_shares_do() -> None:
    """Of two questions one keeps the evidence alone, one nothing of it: 50 ± 635 %."""
    kept = {"seconds": [0.0, 10.0, 20.0, 30.0], "tokens": [1.0] * 4}
    inside, outside = {"seconds": [0.0], "tokens": [1.0]}, {"seconds": [30.0], "tokens": [1.0]}
    rows = [
        [row(f"q{n}", True, f"v{n}", kept=own, evidence_s=[[0, 5]]) for n, own in enumerate(both)]
        for both in ((kept, kept), (inside, outside))
    ]
    own = question_set({("uniform", 1.0): rows[0], ("keeper", 0.25): rows[1]})
    _, ours = compression.rows(own, Evidence()).to_dict("records")
    assert compression_text.text(ours, "evidence_share") == "50.0 [0.0, 100.0]"
    assert compression_text.text(ours, "evidence_above_pp") == "+25.0 [-610.3, 660.3]"


def test_every_column_is_shown_somewhere() -> None:
    shown = {name for columns in compression_text.SHOWN.values() for name in columns}
    assert {name for name in COMPRESSION if not name.endswith(("_low", "_high"))} - shown == {"margin_n"}
