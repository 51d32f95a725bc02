"""The page's plot in a real browser: pointed at, tapped, by keyboard, in the dark, and on paper."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from evalkit.analysis import report
from evalkit.analysis.results import Results
from tests.support.browser import chromium, probe
from tests.support.report_runs import averages, grid

if TYPE_CHECKING:
    from pathlib import Path

    from evalkit.runs.load import Run

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(chromium() is None, reason="no chromium on the PATH: apt-get install chromium"),
]

METHODS = {"uniform": "reference", "keeper": "method", "blind": "control"}
QUESTIONS = 60

# Points of the plot that is seen, and what the page says of one.
READ = """
const article = document.querySelector("[data-set]:not([hidden])");
const seen = () => [...article.querySelectorAll(".plot:not([hidden]) .point")].filter((e) => e.getClientRects().length);
const point = (key) => seen().find((e) => e.dataset.key === key);
const said = () => article.querySelector(".readout").innerText;
const count = () => document.querySelector(".count").textContent;
const event = { bubbles: true, cancelable: true };
const press = (key) => document.activeElement.dispatchEvent(new KeyboardEvent("keydown", { key, ...event }));
const click = (key) => point(key).dispatchEvent(new MouseEvent("click", event));
const keys = (points) => points.map((e) => e.dataset.key);
const at = () => document.activeElement.dataset.key;
"""


@pytest.fixture(scope="module")
def runs() -> list[Run]:
    return grid(QUESTIONS, methods=METHODS, label="One", split="test")


@pytest.fixture(scope="module")
def page(runs: list[Run], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return report.write(Results(runs, averages), tmp_path_factory.mktemp("page"), thumbnails_mb=0)


def right(runs: list[Run], method: str, ratio: float) -> list[bool | None]:
    return next([a.correct for a in run.answers] for run in runs if (run.method, run.ratio) == (method, ratio))


def test_a_mark_that_is_pointed_at_says_its_numbers(page: Path, runs: list[Run], tmp_path: Path) -> None:
    script = """
    point("keeper@0.25").dispatchEvent(new PointerEvent("pointerenter", { pointerType: "mouse" }));
    return { said: said(), marked: keys(seen().filter((e) => e.classList.contains("named"))) };
    """
    found = probe(page, READ + script, tmp_path)
    own = right(runs, "keeper", 0.25)
    assert found["said"].startswith("keeper at ratio 0.25")
    assert f"{100 * sum(map(bool, own)) / len(own):.1f} ± " in found["said"]
    for name in ("Δ to dense", "Δ to uniform at equal KV", "256.0 tokens a layer, 25.0 % of dense", "TFLOPs", "TTFT"):
        assert name in found["said"]
    assert found["marked"] == ["keeper@0.25"]


def test_a_click_lists_the_questions_of_the_point(page: Path, runs: list[Run], tmp_path: Path) -> None:
    script = """
    click("keeper@0.25");
    const chips = [...document.querySelectorAll(".outcomes button")].map((e) => e.textContent);
    const { top } = document.getElementById("questions").getBoundingClientRect();
    const asked = [location.hash, count(), top < innerHeight];
    document.querySelector('.outcomes [value="lost"]').click();
    const current = keys(seen().filter((e) => e.getAttribute("aria-current")));
    return { chips, asked, address: location.hash, lost: count(), current };
    """
    found = probe(page, READ + script, tmp_path)
    own, dense = right(runs, "keeper", 0.25), right(runs, "uniform", 1.0)
    lost = sum(bool(theirs) and not mine for mine, theirs in zip(own, dense, strict=True))
    gained = sum(bool(mine) and not theirs for mine, theirs in zip(own, dense, strict=True))
    assert found["asked"] == ["#point=keeper%400.25", f"{QUESTIONS} questions", True]
    assert found["chips"] == [
        f"all {QUESTIONS}",
        f"right {sum(map(bool, own))}",
        f"wrong {QUESTIONS - sum(map(bool, own))}",
        f"gained against dense {gained}",
        f"lost against dense {lost}",
    ]
    assert found["address"] == "#point=keeper%400.25&outcome=lost"
    assert found["lost"] == f"{lost} of {QUESTIONS} questions"
    assert found["current"] == ["keeper@0.25"]


def test_a_first_tap_names_and_a_second_lists(page: Path, tmp_path: Path) -> None:
    script = """
    const tap = (key) => {
      point(key).dispatchEvent(new PointerEvent("pointerdown", { pointerType: "touch", bubbles: true }));
      point(key).focus();
      click(key);
      return [said().split("\\n")[0], location.hash];
    };
    return [tap("keeper@0.5"), tap("keeper@0.125"), tap("keeper@0.125")];
    """
    first, second, third = probe(page, READ + script, tmp_path, width=390)
    assert first[0].startswith("keeper at ratio 0.5")
    assert second[0].startswith("keeper at ratio 0.125")
    assert (first[1], second[1], third[1]) == ("", "", "#point=keeper%400.125")


def test_the_keyboard_reaches_every_point(page: Path, tmp_path: Path) -> None:
    script = """
    const stops = seen().filter((e) => e.getAttribute("tabindex") === "0");
    stops[0].focus();
    press("Home");
    const way = [at()];
    for (const key of ["Right", "Right", "Right", "Right", "Up", "Left", "Down", "End"]) {
      press(key === "End" ? key : `Arrow${key}`);
      way.push(at());
    }
    const again = keys(seen().filter((e) => e.getAttribute("tabindex") === "0"));
    const links = seen().every((e) => e.href.baseVal.startsWith("#"));
    return { stops: stops.length, way, again, said: said(), links };
    """
    found = probe(page, READ + script, tmp_path)
    assert found["stops"] == 1
    assert found["way"] == [
        *("keeper@0.125", "keeper@0.25", "keeper@0.5", "keeper@1", "keeper@1"),
        *("uniform@1", "uniform@0.5", "keeper@0.5", "keeper@1"),
    ]
    assert found["again"] == ["keeper@1"]
    assert found["said"].startswith("keeper at ratio 1")
    assert found["links"]  # Enter follows a link


def test_controls_are_shown_when_asked_for(page: Path, tmp_path: Path) -> None:
    script = """
    const names = () => [...article.querySelectorAll(".plot:not([hidden]) .methods li")].filter((e) => e.offsetParent);
    const before = [seen().length, names().length];
    article.querySelector("input.controls").click();
    return { before, after: [seen().length, names().length] };
    """
    found = probe(page, READ + script, tmp_path)
    assert found == {"before": [8, 2], "after": [12, 3]}


def test_another_axis_shows_the_same_points(page: Path, tmp_path: Path) -> None:
    script = """
    const before = seen().length;
    article.querySelector('.costs [value="tflops"]').click();
    const off = article.querySelector('.costs [value="ttft_s"]').disabled;
    const axis = article.querySelector(".plot:not([hidden]) p.axis:not(.up)").textContent;
    return { before, after: seen().length, off, axis };
    """
    found = probe(page, READ + script, tmp_path)
    assert found == {"before": 8, "after": 8, "off": True, "axis": "TFLOPs per question"}


def test_the_reader_chooses_light_or_dark(page: Path, tmp_path: Path) -> None:
    script = """
    const colour = (selector, name) => getComputedStyle(document.querySelector(selector))[name];
    const line = colour(".curve:not(.control) .stroke", "stroke");
    return [colour("body", "backgroundColor"), colour("body", "color"), line];
    """
    light = probe(page, READ + script, tmp_path / "light", scheme="light")
    dark = probe(page, READ + script, tmp_path / "dark", scheme="dark")
    assert light == ["rgb(255, 255, 255)", "rgb(27, 27, 26)", "rgb(0, 114, 178)"]
    assert dark == ["rgb(22, 23, 24)", "rgb(230, 229, 225)", "rgb(75, 162, 249)"]


def test_paper_has_no_folds(page: Path, tmp_path: Path) -> None:
    script = """
    const open = () => [...document.querySelectorAll("details.fold")].filter((e) => e.open).length;
    const before = open();
    dispatchEvent(new Event("beforeprint"));
    const during = open(), all = document.querySelectorAll("details.fold").length;
    dispatchEvent(new Event("afterprint"));
    return { before, unfolded: during === all && all > 4, after: open() };
    """
    assert probe(page, script, tmp_path) == {"before": 0, "unfolded": True, "after": 0}
