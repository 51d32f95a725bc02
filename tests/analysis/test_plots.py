"""Pareto plots, read back from what is drawn."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from evalkit.analysis.grid.measured_points import QuestionSet, question_sets
from evalkit.analysis.plots import styles
from evalkit.analysis.plots.figure import draw
from evalkit.analysis.plots.series import points, series
from evalkit.analysis.plots.style import GREY, house_style
from evalkit.analysis.stats import accuracy_interval
from evalkit.runs.load import load
from tests.support.plot_grids import RIGHT, crowd, grid, rows, write
from tests.support.run_folders import outcome

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from matplotlib.figure import Figure


@pytest.fixture
def in_style() -> Iterator[None]:
    """Figures are drawn and measured under the settings that they are saved with."""
    with house_style("test"):
        yield


def drawn(question_set: QuestionSet, cost: str) -> Figure:
    figure = draw(question_set, cost, styles([question_set]))
    assert figure is not None
    return figure


def lines(figure: Figure, kind: str) -> list[Line2D]:
    return [line for line in figure.axes[0].lines if str(line.get_gid()).split("-")[0] == kind]


def places(found: list[Line2D]) -> set[tuple[float, float]]:
    return {(round(float(x), 9), round(float(y), 9)) for line in found for x, y in zip(*line.get_data(), strict=True)}


def texts(figure: Figure) -> list[Text]:
    """All that can be read."""
    return [text for text in figure.findobj(Text) if text.get_visible() and text.get_text()]


def words(figure: Figure) -> str:
    return "\n".join(text.get_text() for text in texts(figure))


HOLLOW = {
    "kv_tokens": {(512, 67.5), (256, 42.5), (512, 55), (256, 35)},
    "llm_tokens_fed": {(1100, 82.5), (1100, 62.5), (588, 55), (332, 35)},
    "tflops": {(2.2, 82.5), (2.2, 62.5), (1.176, 55), (0.664, 35)},
    "ttft_s": {(1.11, 82.5), (1.11, 62.5), (0.598, 55), (0.342, 35)},
}
FILLED = {
    "kv_tokens": {(1024, 87.5), (512, 82.5), (256, 62.5)},
    "llm_tokens_fed": {(1100, 87.5), (588, 67.5), (332, 42.5), (76, 25)},
    "tflops": {(2.2, 87.5), (1.176, 67.5), (0.664, 42.5), (0.152, 25)},
    "ttft_s": {(1.11, 87.5), (0.598, 67.5), (0.342, 42.5), (0.086, 25)},
}


@pytest.mark.usefixtures("in_style")
@pytest.mark.parametrize("cost", HOLLOW)
def test_points_stand_where_they_belong_hollow_where_dominated(tmp_path: Path, cost: str) -> None:
    figure = drawn(grid(tmp_path / "g"), cost)
    for kind, expected in (("hollow", HOLLOW), ("filled", FILLED)):
        found = lines(figure, kind)
        assert places(found) == expected[cost]
        assert all((to_hex(line.get_markerfacecolor()) == "#ffffff") is (kind == "hollow") for line in found)
    (steps,) = lines(figure, "front")
    corners = sorted(FILLED[cost])
    assert [float(y) for y in steps.get_ydata()] == [y for _, y in corners for _ in range(2)]
    assert [float(x) for x in steps.get_xdata()][:-1] == pytest.approx([x for x, _ in corners for _ in range(2)][1:])


@pytest.mark.usefixtures("in_style")
def test_bars_are_intervals_clustered_by_video(tmp_path: Path) -> None:
    figure = drawn(grid(tmp_path / "g"), "kv_tokens")
    clustered, by_question = set(), set()
    for (method, ratio), counts in RIGHT.items():
        right = [q < count for count in counts for q in range(4)]
        if method != "blind":
            for found, clusters in ((clustered, [i // 4 for i in range(40)]), (by_question, list(range(40)))):
                interval = accuracy_interval.accuracy(right, clusters)
                found.add((1024 * ratio, interval.low, interval.high))
    bars = {(float(bar.get_xdata()[0]), *map(float, bar.get_ydata())) for bar in lines(figure, "bar")}
    assert bars == clustered
    assert not bars & by_question
    # Bars of one cost stand side by side, each inside its marker, and none leaves its place by more.
    ends = [bar.get_transform().transform(bar.get_xydata())[0][0] for bar in lines(figure, "bar")]
    exact = [figure.axes[0].transData.transform(bar.get_xydata())[0][0] for bar in lines(figure, "bar")]
    assert 0 < max(abs(a - b) for a, b in zip(ends, exact, strict=True)) <= 2.3


@pytest.mark.usefixtures("in_style")
def test_lines_go_by_ratio_and_roles_have_their_colours(tmp_path: Path) -> None:
    question_set = grid(tmp_path / "g")
    figure = drawn(question_set, "llm_tokens_fed")
    by_colour = {to_hex(line.get_color()): [float(y) for y in line.get_ydata()] for line in lines(figure, "line")}
    assert by_colour.pop("#000000") == [42.5, 67.5, 87.5]  # the reference, ratio rising
    assert by_colour.pop(styles([question_set])["retake"].colour.lower()) == [62.5, 82.5, 87.5]
    assert set(by_colour) == {GREY}


@pytest.mark.usefixtures("in_style")
def test_what_spends_nothing_is_a_level_line(tmp_path: Path) -> None:
    question_set = grid(tmp_path / "g")
    figure = drawn(question_set, "kv_tokens")
    (level,) = lines(figure, "level")
    assert set(level.get_ydata()) == {25}
    assert "blind (cost 0)" in words(figure)
    assert not lines(drawn(question_set, "ttft_s"), "level")
    few = {key: RIGHT[key] for key in (("uniform", 1.0), ("blind", 1.0))}
    beside = drawn(grid(tmp_path / "few", few), "kv_tokens")
    assert not beside.legends
    assert "blind (cost 0)" in words(beside)
    assert not overlaps(beside)
    assert draw(grid(tmp_path / "alone", {("blind", 1.0): RIGHT["blind", 1.0]}), "kv_tokens", {}) is None


@pytest.mark.usefixtures("in_style")
def test_what_is_not_known_is_left_out_and_counted(tmp_path: Path) -> None:
    folder = tmp_path / "g"
    right = RIGHT["uniform", 0.5]
    write(folder, "uniform", 1.0, rows("uniform", 1.0, RIGHT["uniform", 1.0]))
    write(folder, "retake", 0.5, rows("retake", 0.5, right, flops=None))
    failed = [line | outcome(None) | {"ledger": None} for line in rows("xcomp", 0.5, right)]
    write(folder, "xcomp", 0.5, failed)
    write(folder, "lpcomp", 0.5, [*rows("lpcomp", 0.5, right)[:38], *failed[38:]])
    (question_set,) = question_sets(load(folder))
    assert "not shown: 2 of 4 points" in words(drawn(question_set, "tflops"))
    seen = words(drawn(question_set, "kv_tokens"))
    assert "not shown: 1 of 4 points" in seen
    assert "excluded: 0–2 failed questions per point" in seen
    assert "38–40 questions" in seen
    assert "left out" not in words(drawn(grid(tmp_path / "whole"), "kv_tokens"))


@pytest.mark.usefixtures("in_style")
def test_one_video_has_no_interval(tmp_path: Path) -> None:
    figure = drawn(
        grid(tmp_path / "g", {("uniform", 1.0): [3], ("retake", 0.5): [2], ("blind", 1.0): [1]}), "kv_tokens"
    )
    assert not lines(figure, "bar")
    assert places(lines(figure, "filled")) == {(1024, 75), (512, 50)}


def overlaps(figure: Figure) -> list[tuple[str, str]]:
    """Texts that lie on each other, on a marker, or off the page."""
    canvas: Any = figure.canvas
    canvas.draw()
    renderer = canvas.get_renderer()
    boxes = [(text.get_text(), text.get_window_extent(renderer)) for text in texts(figure)]
    for spot in lines(figure, "filled") + lines(figure, "hollow"):
        x, y = figure.axes[0].transData.transform(spot.get_xydata())[0]
        boxes.append(("marker", Bbox.from_bounds(x - 2.3, y - 2.3, 4.6, 4.6)))
    found = [(a, b) for (a, one), (b, other) in combinations(boxes, 2) if {a, b} != {"marker"} and one.overlaps(other)]
    page = figure.bbox
    return found + [
        (text, "page")
        for text, box in boxes
        if not (box.x0 >= 0 and box.y0 >= 0 and box.x1 <= page.x1 and box.y1 <= page.y1)
    ]


LONG = "a rather long label of a benchmark that nobody would want to read twice (generated videos)"


@pytest.mark.slow
@pytest.mark.usefixtures("in_style")
@pytest.mark.parametrize("cost", HOLLOW)
@pytest.mark.parametrize("kind", ["few", "many", "long"])
def test_words_touch_nothing(tmp_path: Path, cost: str, kind: str) -> None:
    if kind == "few":
        question_set = grid(tmp_path / "g")
    elif kind == "many":
        question_set = crowd(tmp_path / "g")
    else:
        question_set = crowd(tmp_path / "g", 4, "name_without_any_space_that_does_not_fit_into_a_column#0123abc_{}")
        question_set = QuestionSet(question_set.setup, LONG, "x" * 70, question_set.points)
    figure = drawn(question_set, cost)
    assert figure.get_figwidth() == pytest.approx(3.3)
    assert not overlaps(figure)
    assert all(text.get_fontsize() >= 7 for text in texts(figure))
    names = {point.method[:20] for point in question_set.points}
    assert all(name in words(figure) for name in names)  # by label or legend
    assert bool(figure.legends) is (kind != "few" or cost == "kv_tokens")


@pytest.mark.usefixtures("in_style")
@pytest.mark.parametrize("cost", ["llm_tokens_fed", "tflops", "ttft_s"])
def test_a_name_is_nearest_to_points_of_its_own(tmp_path: Path, cost: str) -> None:
    question_set = grid(tmp_path / "g")
    figure = drawn(question_set, cost)
    methods = [one.method for one in series(points(question_set, cost))]
    marks = []
    for spot in lines(figure, "filled") + lines(figure, "hollow"):
        seen = figure.axes[0].transData.transform(spot.get_xydata())[0]
        marks.append((methods[int(str(spot.get_gid()).split("-")[1])], seen))
    named = figure.axes[0].texts
    assert sorted(name.get_text() for name in named) == sorted(methods)
    for name in named:
        box = name.get_window_extent()
        gaps = [
            np.hypot(*np.maximum(0, [box.x0 - x, x - box.x1, box.y0 - y, y - box.y1]).reshape(2, 2).max(1))
            for _, (x, y) in marks
        ]
        assert marks[int(np.argmin(gaps))][0] == name.get_text()


@pytest.mark.usefixtures("in_style")
def test_numbers_of_an_axis_do_not_touch(tmp_path: Path) -> None:
    folder = tmp_path / "g"
    for ratio, spent in ((0.25, 130_000_001), (0.5, 300_000_000), (1.0, 800_000_000)):
        stages = {"encode": spent, "select": 0, "prefill": 0, "generate": 0}
        write(folder, "uniform", ratio, rows("uniform", ratio, RIGHT["uniform", ratio], flops=stages))
    (question_set,) = question_sets(load(folder))
    figure = drawn(question_set, "tflops")
    assert not overlaps(figure)
    assert len(figure.axes[0].get_xticks()) >= 4


@pytest.mark.usefixtures("in_style")
def test_the_check_of_words_sees_what_is_wrong(tmp_path: Path) -> None:
    figure = drawn(grid(tmp_path / "g"), "kv_tokens")
    x, y = figure.axes[0].transData.transform((512, 82.5))
    figure.text(x / figure.bbox.x1, y / figure.bbox.y1, "on a marker")
    figure.text(0.9, 0.5, "leaves the page on the right")
    assert {"on a marker", "leaves the page on the right"} <= {text for pair in overlaps(figure) for text in pair}
