"""The page's plot: a link for each operating point, at its place, without scripts; colours, paper and dark."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evalkit.analysis import report
from evalkit.analysis.plots import Figures
from evalkit.analysis.plots.style import COLOURS
from evalkit.analysis.report import pareto_plot
from evalkit.analysis.report.pareto_plot import Plot
from tests.support.report_odd import ODD, rows
from tests.support.report_overview import view
from tests.support.report_page import page
from tests.support.report_runs import grid, run
from tests.support.run_folders import ledger

CSS = (Path(report.__file__).parent / "page" / "page.css").read_text(encoding="utf-8")


def plotted(runs: Any) -> dict[str, Plot]:
    own, found = view(runs)
    return pareto_plot.plots(own, found, Figures([own]).looks, "one")


# ---- points


def test_a_link_for_each_operating_point() -> None:
    text = page(grid(12))
    (kv,) = re.findall(r'<div class="plot" data-cost="kv_tokens">.*?</svg>\s*</div>', text, re.DOTALL)
    keys = re.findall(r'<a class="point[^>]*data-key="([^"]+)"', kv)
    methods = ("uniform", "keeper", "query_aware")
    assert sorted(keys) == sorted(f"{m}@{ratio:g}" for m in methods for ratio in (1.0, 0.5, 0.25, 0.125))
    named = re.findall(r'<a class="point[^>]*href="#set=([^"&]+)&amp;point=[^"]+"[^>]*aria-label="([^"]+)"', kv)
    assert len(named) == 12
    assert any(re.match(r"keeper at ratio 0\.25: [\d.]+ ± [\d.]+ % \(", label) for _, label in named)


def test_places_are_those_of_the_numbers() -> None:
    own, found = view(grid(60))
    plot = pareto_plot.plots(own, found, Figures([own]).looks, "one")["kv_tokens"]
    spots = {spot.key: spot for curve in plot.curves for spot in curve.spots}
    share = {tick.text: tick.at for tick in plot.x}
    for ratio in (1.0, 0.5, 0.25, 0.125):  # 1,024 tokens at ratio 1: a tick stands at every point
        assert spots[f"uniform@{ratio:g}"].x == share[f"{1024 * ratio:,.0f}"]
    height = {float(tick.text): tick.at for tick in plot.y}
    (low, low_at), (high, high_at) = min(height.items()), max(height.items())
    for point in own.points:
        interval, spot = point.accuracy, spots[f"{point.method}@{point.ratio:g}"]
        for percent, at in ((interval.percent, spot.y), (interval.low, spot.low), (interval.high, spot.high)):
            assert at == pytest.approx(low_at + (percent - low) / (high - low) * (high_at - low_at), abs=0.02)
    assert plot.dense is not None
    assert plot.dense.y == spots["uniform@1"].y
    assert [tick.below for tick in plot.x] == ["12.5 %", "25 %", "50 %", "100 %"]


def test_points_that_hide_each_other_stand_side_by_side() -> None:
    spots = [spot for curve in plotted(grid(12))["kv_tokens"].curves for spot in curve.spots]
    dense = [spot for spot in spots if spot.key.endswith("@1")]
    assert len({(spot.x, spot.y) for spot in dense}) == 1
    assert sorted(spot.aside for spot in dense) == [-8.0, 0.0, 8.0]


def test_controls_that_are_not_shown_move_no_other() -> None:
    methods = {"uniform": "reference", "noise": "control", "keeper": "method"}
    spots = [spot for curve in plotted(grid(12, methods=methods))["kv_tokens"].curves for spot in curve.spots]
    assert {spot.key: spot.aside for spot in spots if spot.key.endswith("@1")} == {
        "uniform@1": -4.0,
        "keeper@1": 4.0,
        "noise@1": 12.0,
    }


def test_intervals_of_one_cost_do_not_lie_on_each_other() -> None:
    spots = [spot for curve in plotted(grid(12))["kv_tokens"].curves for spot in curve.spots]
    places = [(spot.x, spot.bar_aside) for spot in spots]
    assert len(set(places)) == len(places) > len({spot.x for spot in spots})
    assert all(abs(spot.bar_aside) <= 4 or spot.bar_aside == spot.aside for spot in spots)  # each on its mark


def test_what_spends_nothing_is_a_level_and_a_point() -> None:
    dense = run("uniform", "reference", 1.0, rows("rrrw", ledger=ledger(ratio_achieved=1.0)))
    nothing = ledger(ratio_achieved=0.0, kv_tokens_per_layer=[0, 0])
    blind = run("blind", "control", 1.0, rows("rwww", kept=None, ledger=nothing))
    curve = plotted([dense, blind])["kv_tokens"].curves[1]
    assert (curve.level, curve.control, len(curve.spots), curve.strokes) == (True, True, 1, [])
    assert curve.spots[0].x == 0.0


@pytest.mark.parametrize("name", sorted(ODD))
def test_odd_sets_have_a_place_for_every_point(name: str) -> None:
    for plot in plotted(ODD[name]).values():
        for spot in (spot for curve in plot.curves for spot in curve.spots):
            assert 0 <= spot.x <= 100
            assert 0 <= spot.y <= 100


def test_seconds_that_were_not_measured_are_no_axis() -> None:
    assert set(plotted(grid(6))) == {"kv_tokens", "tflops"}
    text = page(grid(6))
    (button,) = re.findall(r'<button type="button" value="ttft_s"[^>]*>[^<]*</button>', text)
    assert " disabled " in button
    assert "not measured" in button


# ---- one file; without scripts, in the dark, on paper


def test_no_address_outside_the_page() -> None:
    text = page(grid(6))
    assert set(re.findall(r"https?://[^\"'\s<>\\]+", text)) <= {"http://www.w3.org/2000/svg"}  # names SVG to the script
    assert not re.search(r"url\((?!#)[^$]|@import|<link|<img|src=", text)


def test_without_scripts_the_plots_stand_in_the_page() -> None:
    text = re.sub(r"<script.*?</script>", "", page(grid(6)), flags=re.DOTALL)
    assert text.count('<svg class="pareto"') == 2
    (shown,) = re.findall(r"<noscript><style>(.*?)</style></noscript>", text)
    assert "[data-cost][hidden] { display: block !important }" in shown


def palette(text: str) -> dict[str, str]:
    return dict(re.findall(r"--curve-(\w+): (#\w{6});", text))


def blocks() -> tuple[dict[str, str], dict[str, str], dict[str, str]]:
    light, rest = CSS.split("@media (prefers-color-scheme: dark)", 1)
    dark, rest = rest.split("* { box-sizing", 1)
    return palette(light), palette(dark), palette(rest.split("@media print", 1)[1])


def test_dark_and_paper_have_colours_of_their_own() -> None:
    light, dark, paper = blocks()
    assert [light[f"{n}"] for n in range(1, 6)] == [colour.lower() for colour in COLOURS]
    assert paper == light
    assert set(dark) == set(light)
    assert not set(dark.values()) & set(light.values())
    assert "size: A4" in CSS
    assert "details-content" in CSS


# Full protan-, deuteran- and tritanopia (Machado, Oliveira and Fernandes 2009, IEEE TVCG 15), in linear RGB.
SIGHTS = (
    ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881)),
    ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.303900)),
)
XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def linear(colour: str) -> np.ndarray:
    parts = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)


def lab(colour: str, sight: Any) -> np.ndarray:
    """CIE L*a*b* of a colour as such an eye sees it."""
    x = XYZ @ np.clip(np.array(sight) @ linear(colour), 0, 1) / np.array([0.95047, 1, 1.08883])
    f = np.where(x > 0.008856, np.cbrt(x), 7.787 * x + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def nearest(colours: list[str]) -> float:
    seen = [[lab(colour, sight) for colour in colours] for sight in SIGHTS]
    return min(math.dist(own[i], own[j]) for own in seen for i in range(len(own)) for j in range(i))


def contrast(one: str, other: str) -> float:
    light, dark = sorted((XYZ[1] @ linear(colour) for colour in (one, other)), reverse=True)
    return float((light + 0.05) / (dark + 0.05))


def test_colour_blind_readers_tell_the_curves_apart() -> None:
    light, dark, _ = blocks()
    assert nearest(list(light.values())) > 24
    assert nearest(list(dark.values())) > 24
    assert nearest(["#ff0000", "#00a000"]) < 60 < math.dist(lab("#ff0000", SIGHTS[0]), lab("#00a000", SIGHTS[0]))
    assert min(contrast(colour, "#161718") for colour in dark.values()) > 3
