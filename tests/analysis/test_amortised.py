"""Costs per question with the video's part divided among its questions, by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from evalkit.analysis.grid.amortised import amortised, apportioned
from evalkit.analysis.grid.measured_points import MeasuredPoint
from evalkit.ledger import Seconds, Timing
from tests.support.measured import question_set
from tests.support.run_folders import ledger, row

T = 10**12
# 2 + 1 + 0.5 TFLOPs: a question's own part is 0.7 of them, and 0.45 of 1 s
SPENT = ledger(
    flops={"encode": 2 * T, "select": 0, "prefill": T, "generate": T // 2}, own_flops=7 * T // 10, own_seconds=0.45
)


def point(rows: list[dict[str, Any]]) -> MeasuredPoint:
    return question_set({("uniform", 0.25): rows}).points[0]


def test_apportioned_by_hand() -> None:
    assert apportioned(3.5, 0.7, 4) == pytest.approx(0.7 + 2.8 / 4)
    assert apportioned(3.5, 0.7, 1) == 3.5
    assert math.isnan(apportioned(3.5, None, 4))


def test_by_hand() -> None:
    """Three questions on one video, one on another, a failed one on each, which shares nothing.

    First video: 0.7 + 2.8/3 each; second: 3.5. Mean (3 · 0.7 + 2.8 + 3.5) / 4 = 2.1; seconds (3 · 0.45 + 0.55 + 1) / 4.
    """
    rows = [row(f"a{n}", True, "a", ledger=SPENT) for n in range(3)]
    rows += [row("b0", True, "b", ledger=SPENT), row("a3", None, "a"), row("b1", None, "b")]
    found = amortised(point(rows))
    assert (found.questions_per_video, found.tflops) == (2, pytest.approx(3.5))
    assert found.tflops_amortised == pytest.approx(2.1)
    assert (found.seconds, found.seconds_amortised) == (pytest.approx(1.0), pytest.approx(2.9 / 4))
    assert found.how == "shared"


def test_as_much_as_the_full_cost_of_each_video_divided() -> None:
    """Over a video it adds up to its shared part once and every question's own."""
    rows = [row(f"a{n}", True, "a", ledger=SPENT) for n in range(5)]
    assert 5 * amortised(point(rows)).tflops_amortised == pytest.approx(2.8 + 5 * 0.7)


def test_old_answers_are_not_measured() -> None:
    found = amortised(point([row("a0", True, "a", ledger=SPENT), row("a1", True, "a")]))
    assert found.tflops == pytest.approx((3.5 + 3.001) / 2)
    assert math.isnan(found.tflops_amortised)
    assert math.isnan(found.seconds_amortised)
    nothing = amortised(point([row("a0", None, "a")]))
    assert math.isnan(nothing.questions_per_video)


def test_timed_seconds_by_hand() -> None:
    """Medians over the timed videos: of 1, 2 and 3 s, of which 0.4 s are own, with 4, 2 and 1 questions a video."""
    names = [*(("a", n) for n in range(4)), *(("b", n) for n in range(2)), ("c", 0)]
    measured = point([row(f"{video}{n}", True, video, ledger=SPENT) for video, n in names])
    timings = tuple(_timing(video, total) for video, total in (("a", 1.0), ("b", 2.0), ("c", 3.0)))
    (part,) = measured.parts
    timed = MeasuredPoint("uniform", 0.25, (replace(part, run=replace(part.run, timings=timings)),))
    found = amortised(timed)
    assert (found.how, found.seconds) == ("timed", 2.0)
    assert found.seconds_amortised == pytest.approx(0.4 + 1.6 / 2)  # of 0.55, 1.2 and 3
    old = replace(part.run, timings=(*timings[:2], replace(timings[2], own_seconds=None)))
    assert math.isnan(amortised(MeasuredPoint("uniform", 0.25, (replace(part, run=old),))).seconds_amortised)


def _timing(video: str, total: float) -> Timing:
    return Timing(
        benchmark="mlvu",
        video_id=video,
        question_id=f"{video}0",
        method="uniform",
        ratio=0.25,
        status="ok",
        error=None,
        duration_s=60.0,
        seconds=Seconds(decode=total),
        peak_bytes=None,
        videos=3,
        conditions={},
        own_seconds=0.4,
    )
