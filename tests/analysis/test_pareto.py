"""Domination of points, against hand-made examples and the plain form over all pairs."""

from __future__ import annotations

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from evalkit.analysis.stats.pareto import dominated

POINTS = st.lists(st.tuples(st.sampled_from([0.0, 1.0, 2.0, 2.5, 4.0]), st.sampled_from([0.0, 25.0, 50.0, 100.0])))
ANY = st.lists(st.tuples(st.floats(0, 1e9), st.floats(0, 100)))


def every_pair(points: list[tuple[float, float]]) -> list[bool]:
    """The definition, word for word."""
    return [
        any(
            cheap <= cost and good >= accuracy and (cheap < cost or good > accuracy)
            for j, (cheap, good) in enumerate(points)
            if j != i
        )
        for i, (cost, accuracy) in enumerate(points)
    ]


def strictly_better_in_both(points: list[tuple[float, float]]) -> list[bool]:
    """A wrong definition that keeps points which cost more and give nothing for it."""
    return [any(cheap < cost and good > accuracy for cheap, good in points) for cost, accuracy in points]


def ours(points: list[tuple[float, float]]) -> list[bool]:
    return dominated([cost for cost, _ in points], [accuracy for _, accuracy in points])


def test_by_hand() -> None:
    points = [(128.0, 66.0), (256.0, 66.0), (256.0, 53.0), (512.0, 84.0), (1024.0, 83.0)]
    assert ours(points) == [False, True, True, False, True]
    assert strictly_better_in_both(points) == [False, False, True, False, True]  # the check can tell them apart


def test_equal_points_stand_or_fall_together() -> None:
    assert ours([(1.0, 50.0), (1.0, 50.0)]) == [False, False]
    assert ours([(1.0, 50.0), (1.0, 50.0), (1.0, 51.0)]) == [True, True, False]


def test_a_point_that_costs_nothing_can_dominate() -> None:
    assert ours([(0.0, 30.0), (5.0, 30.0), (5.0, 31.0)]) == [False, True, False]


def test_order_and_size_do_not_matter() -> None:
    assert ours([]) == []
    assert ours([(3.0, 1.0)]) == [False]
    points = [(4.0, 10.0), (1.0, 20.0), (2.0, 30.0)]
    assert ours(points) == [True, False, False]
    assert ours(points[::-1]) == [False, False, True]


@given(st.one_of(POINTS, ANY))
@example([(0.0, 0.0), (-0.0, 0.0)])
def test_equals_the_comparison_of_all_pairs(points: list[tuple[float, float]]) -> None:
    assert ours(points) == every_pair(points)


@pytest.mark.parametrize("points", [[(math.nan, 1.0)], [(1.0, math.nan), (2.0, 3.0)]])
def test_what_is_not_known_cannot_be_ordered(points: list[tuple[float, float]]) -> None:
    with pytest.raises(ValueError, match="came nan"):
        ours(points)


def test_lengths_must_agree() -> None:
    with pytest.raises(ValueError, match="1 costs and 2 accuracies"):
        dominated([1.0], [1.0, 2.0])
