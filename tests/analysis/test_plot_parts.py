"""Parts of a Pareto plot by themselves: where labels find room, how methods look, the cost axis."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from matplotlib.transforms import Bbox

from evalkit.analysis.plots import label_placement, styles
from evalkit.analysis.plots.cost_axis import axis
from evalkit.analysis.plots.label_placement import Spot, Wanted
from tests.support.plot_grids import RIGHT, crowd, grid

if TYPE_CHECKING:
    from pathlib import Path

PAGE = Bbox.from_extents(0, 0, 200, 100)


def flat(x: float, y: float) -> Spot:
    return Spot(x, y, y, y)


def test_labels_stand_beside_their_own_points() -> None:
    wanted = [Wanted(30, 7, (flat(20, 50), flat(120, 50))), Wanted(30, 7, (flat(20, 20), flat(120, 20)))]
    found = label_placement.place(wanted, PAGE, [])
    assert found is not None
    assert [abs(y - label.spots[0].y) < 10 for (_, y), label in zip(found, wanted, strict=True)] == [True, True]


@pytest.mark.parametrize(
    ("wanted", "lines"),
    [
        ([Wanted(300, 7, (flat(20, 50),))], []),  # wider than the page
        ([Wanted(30, 7, (flat(100, 50),)), Wanted(30, 7, (flat(100, 50),))], []),  # the same point: whose is it?
        ([Wanted(30, 7, (flat(100, 50),))], [[(0, y), (200, y)] for y in range(0, 101, 5)]),  # always on a line
    ],
)
def test_no_room_no_labels(wanted: list[Wanted], lines: list[label_placement.Line]) -> None:
    assert label_placement.place(wanted, PAGE, lines) is None


def test_strokes_are_not_joined() -> None:
    """Two strokes on the left of the page: the way from one to the other, right through the label, is not drawn."""
    label = Wanted(30, 7, (flat(100, 50),))
    apart: list[label_placement.Line] = [[(118, 0), (118, 1)], [(118, 99), (118, 100)]]
    assert label_placement.place([label], PAGE, apart) == label_placement.place([label], PAGE, [])
    assert label_placement.place([label], PAGE, [[(118, 0), (118, 100)]]) != label_placement.place([label], PAGE, [])


@pytest.mark.slow
def test_without_colour_marker_and_line_are_a_methods_own(tmp_path: Path) -> None:
    looks = styles([crowd(tmp_path / "g", 38)])
    pairs = [(style.marker, style.line) for style in looks.values()]
    assert len(pairs) == 37
    assert len(set(pairs)) == len(set(pairs[:36])) == 36  # and no more than that
    assert ("o", "-") not in pairs  # the reference's


def test_a_method_looks_the_same_in_every_set(tmp_path: Path) -> None:
    both = [grid(tmp_path / "a"), grid(tmp_path / "b", {k: RIGHT[k] for k in RIGHT if k[0] != "blind"})]
    assert styles(both)["random_frames"] == styles(both[:1])["random_frames"]
    assert styles(both[1:])["random_frames"] != styles(both[:1])["random_frames"]  # alone, the second would differ


@pytest.mark.parametrize(
    ("costs", "tokens", "log", "labels"),
    [
        ([128, 1024], True, True, ["128", "256", "512", "1024"]),
        ([70, 100_000], True, True, ["64", "256", "1024", "4096", "16384", "65536"]),
        ([300, 620], True, True, ["384", "512"]),
        ([0.05, 0.6], False, True, ["0.05", "0.1", "0.2", "0.5"]),
        ([0.0002, 40], False, True, ["0.0001", "0.01", "1", "100"]),
        ([0.3, 0.59], False, False, ["0.3", "0.4", "0.5", "0.6"]),
        ([256], True, False, ["225", "250", "275", "300"]),
    ],
)
def test_axis(costs: list[float], tokens: bool, log: bool, labels: list[str]) -> None:
    found = axis(costs, tokens=tokens)
    assert (found.log, found.labels) == (log, labels)
    assert found.low < min(costs) <= max(costs) < found.high
