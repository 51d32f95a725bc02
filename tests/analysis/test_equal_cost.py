"""The reference at equal cost: places on its curve, and differences from there, against values worked out by hand."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from evalkit.analysis.grid.equal_cost import against_dense, at_equal
from evalkit.analysis.grid.measured_points import QuestionSet, paired, question_sets
from evalkit.analysis.stats.paired_tests import difference
from evalkit.runs import load
from tests.support.run_folders import ledger, row, write_run

if TYPE_CHECKING:
    from pathlib import Path

TERA, MILLION = 10**12, 10**6
Spec = tuple[str, float | list[float], float | None]  # marks, million KV tokens, TFLOPs


def marked(marks: str, kv: float | list[float], tflops: float | None) -> list[dict[str, Any]]:
    """Two questions a video; 1 right, 0 wrong, - failed. `kv` of all questions, or one for each."""
    costs = kv if isinstance(kv, list) else [kv] * len(marks)
    parts = {"encode": 0, "select": 0, "generate": 0}
    flops = None if tflops is None else parts | {"prefill": round(tflops * TERA)}
    layers = [round(cost * MILLION) for cost in costs]
    spent = [ledger(kv_tokens_per_layer=[n - min(1, n), n + min(1, n)], flops=flops) for n in layers]
    rows = [row(f"q{i}", {"1": True, "0": False, "-": None}[m], f"v{i // 2}") for i, m in enumerate(marks)]
    return [one | ({"ledger": cost} if one["ledger"] else {}) for one, cost in zip(rows, spent, strict=True)]


def grid(folder: Path, spec: dict[tuple[str, float], Spec]) -> QuestionSet:
    """Uniform is the reference, all others are methods."""
    for place, ((method, ratio), point) in enumerate(spec.items()):
        role = "reference" if method == "uniform" else "method"
        parts = {"method": {"name": method, "role": role}, "ratio": ratio, "identity": f"{place:016}"}
        write_run(folder / str(place), marked(*point), **parts)
    (found,) = question_sets(load.load(folder))
    return found


CURVE: dict[tuple[str, float], Spec] = {
    ("uniform", 1.0): ("11101100", 400, 8),
    ("uniform", 0.5): ("10101000", 200, 4),
    ("uniform", 0.25): ("10000000", 100, 2),
}


def ours(tmp_path: Path, point: Spec, curve: dict[tuple[str, float], Spec] = CURVE) -> tuple[QuestionSet, Any]:
    found = grid(tmp_path, curve | {("ours", 0.3): point})
    return found, found.at("ours", 0.3)


def test_between_two_ratios_by_hand(tmp_path: Path) -> None:
    """From 100 to 200 million tokens, 100·√2 is half the way in log cost: theirs are 1, 0, ½, 0, ½, 0, 0, 0."""
    found, point = ours(tmp_path, ("11010100", 100 * math.sqrt(2), None))
    matched = at_equal(found, point, "kv_tokens")
    assert matched is not None
    place = matched.place
    assert (place.lower.ratio, place.upper.ratio, place.weight) == (0.25, 0.5, pytest.approx(0.5))
    assert (matched.change.n, matched.change.videos, matched.excluded) == (8, 4, 0)
    assert matched.change.delta_pp == pytest.approx(100 * (4 - 2) / 8)
    assert all(map(math.isnan, (matched.change.ci_low, matched.change.ci_high, matched.change.p_sign_flip)))
    scores, videos = [1, 1, 0, 1, 0, 1, 0, 0], [i // 2 for i in range(8)]
    ends = ([1, 0, 0, 0, 0, 0, 0, 0], [1, 0, 1, 0, 1, 0, 0, 0])
    assert matched.bracket == tuple(difference(scores, theirs, videos) for theirs in ends)
    assert [end.delta_pp for end in matched.bracket] == [37.5, 12.5]


@pytest.mark.parametrize(("cost", "multiple"), [("kv_tokens", 50), ("tflops", 1)])
@pytest.mark.parametrize("spent", [2.0, 2.3, 3.1, 4.0, 5.0, 7.7, 8.0])
def test_points_are_those_of_an_interpolated_curve(tmp_path: Path, cost: str, multiple: int, spent: float) -> None:
    """numpy's interpolation of accuracies over log cost; over cost itself it is another number between the ratios."""
    found, point = ours(tmp_path, ("11010100", spent * 50, spent))
    matched = at_equal(found, point, cost)
    assert matched is not None
    costs, percents = np.array([2.0, 4.0, 8.0]) * multiple, [12.5, 37.5, 62.5]
    there = np.interp(math.log(spent * multiple), np.log(costs), percents)
    assert matched.change.delta_pp == pytest.approx(50 - there)
    straight = np.interp(spent * multiple, costs, percents)
    assert bool(matched.change.delta_pp == pytest.approx(50 - straight)) is (spent in (2, 4, 8))


@pytest.mark.parametrize("ratio", [1.0, 0.5, 0.25])
def test_at_a_ratio_of_the_curve_it_is_the_plain_difference(tmp_path: Path, ratio: float) -> None:
    """Also where questions failed in either: means over all that each answered would not be equal then."""
    kv = [CURVE["uniform", ratio][1] + extra for extra in (0, 9, -9, 3, 2, 1, 0, -1)]  # type: ignore[operator]
    curve = CURVE | {("uniform", ratio): ("10-01110", kv, 4.0)}
    found, point = ours(tmp_path, ("110101-0", kv, None), curve)
    theirs = found.at("uniform", ratio)
    assert theirs is not None
    assert point.costs["kv_tokens"] != theirs.costs["kv_tokens"]
    matched = at_equal(found, point, "kv_tokens")
    assert matched is not None
    assert (matched.place.lower, matched.place.weight, matched.excluded) == (theirs, 0, 2)
    plain = paired(point, theirs).difference
    assert vars(matched.change) == {key: getattr(plain, key) for key in vars(matched.change)}


def test_a_question_without_a_score_in_one_of_three_is_excluded(tmp_path: Path) -> None:
    curve = CURVE | {("uniform", 0.5): ("1-101000", 200, 4)}
    found, point = ours(tmp_path, ("110101-0", 150, 3), curve)
    for cost in ("kv_tokens", "tflops"):
        matched = at_equal(found, point, cost)
        assert matched is not None
        assert (matched.change.n, matched.excluded) == (6, 2)
        weight = matched.place.weight
        assert weight == pytest.approx(math.log2(1.5))
        assert matched.change.delta_pp == pytest.approx(100 * (3 - (1 + 2 * weight)) / 6)


@pytest.mark.parametrize("spent", [409.0, 98.0, 1000.0, 1.0, 0.0])
def test_nothing_is_extrapolated(tmp_path: Path, spent: float) -> None:
    found, point = ours(tmp_path, ("11010100", spent, spent / 50))
    assert at_equal(found, point, "kv_tokens") is None
    assert at_equal(found, point, "tflops") is None


@pytest.mark.parametrize(
    ("spent", "ratio"), [(407.0, 1.0), (401.0, 1.0), (99.0, 0.25), (98.1, 0.25), (203.9, 0.5), (196.1, 0.5)]
)
def test_within_two_percent_of_a_ratio_it_is_that_ratio(tmp_path: Path, spent: float, ratio: float) -> None:
    found, point = ours(tmp_path, ("11010100", spent, None))
    matched, end = at_equal(found, point, "kv_tokens"), found.at("uniform", ratio)
    assert matched is not None
    assert end is not None
    assert (matched.place.lower, matched.place.upper, matched.place.weight) == (end, end, 0)
    plain = vars(paired(point, end).difference)
    assert vars(matched.change) == {key: plain[key] for key in vars(matched.change)}
    assert matched.bracket is None


def test_a_cost_that_is_not_known_gives_nothing(tmp_path: Path) -> None:
    """Ours without FLOPs; then one point of the curve without: its neighbours stand in."""
    found, point = ours(tmp_path / "a", ("11010100", 200, None))
    assert at_equal(found, point, "tflops") is None
    curve = CURVE | {("uniform", 0.5): ("10101000", 200, None)}
    found, point = ours(tmp_path / "b", ("11010100", 200, 4), curve)
    matched = at_equal(found, point, "tflops")
    assert matched is not None
    assert (matched.place.lower.ratio, matched.place.upper.ratio) == (0.25, 1)
    assert matched.place.weight == pytest.approx(0.5)


def test_neighbours_are_those_in_cost_not_in_ratio(tmp_path: Path) -> None:
    """Where a lower ratio costs more, and scores lower, than a higher one, both stand as they are."""
    curve = CURVE | {("uniform", 0.25): ("10000000", 300, 2)}
    found, point = ours(tmp_path, ("11010100", math.sqrt(300 * 400), None), curve)
    matched = at_equal(found, point, "kv_tokens")
    assert matched is not None
    assert (matched.place.lower.ratio, matched.place.upper.ratio) == (0.25, 1)
    assert matched.change.delta_pp == pytest.approx(50 - (12.5 + 62.5) / 2)


@pytest.mark.parametrize("spent", [200.0, 250.0, 150.0])
def test_of_equal_costs_the_largest_ratio_stands(tmp_path: Path, spent: float) -> None:
    """Whatever it scores: here the smaller ratio scores higher."""
    curve = CURVE | {("uniform", 0.4): ("11111111", 200, 4)}
    found, point = ours(tmp_path, ("11010100", spent, None), curve)
    matched = at_equal(found, point, "kv_tokens")
    assert matched is not None
    ratios = {matched.place.lower.ratio, matched.place.upper.ratio}
    assert 0.5 in ratios
    assert 0.4 not in ratios


def test_the_reference_is_not_compared_with_itself(tmp_path: Path) -> None:
    found, _ = ours(tmp_path, ("11010100", 200, 4))
    assert [at_equal(found, point, "kv_tokens") for point in found.curve] == [None] * 3


def test_against_dense(tmp_path: Path) -> None:
    found, point = ours(tmp_path / "a", ("1101010-", 5, None))
    dense = found.dense
    assert dense is not None
    matched = against_dense(found, point)
    assert matched is not None
    assert matched.change.delta_pp == pytest.approx(paired(point, dense).difference.delta_pp)
    assert (matched.change.n, matched.excluded, matched.place.lower) == (7, 1, dense)
    assert against_dense(found, dense) is None
    assert [against_dense(found, other) is None for other in found.curve] == [True, False, False]
    found, point = ours(tmp_path / "b", ("11010100", 200, 4), {k: v for k, v in CURVE.items() if k[1] < 1})
    assert against_dense(found, point) is None
