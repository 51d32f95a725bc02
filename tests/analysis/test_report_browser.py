"""The report in a real browser, as wide as a desktop's and as narrow as a phone's: nothing is cut, filters work."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlencode

import pytest

from evalkit.analysis import report
from evalkit.analysis.grid.measured_points import question_sets
from evalkit.analysis.results import Results
from tests.support.browser import chromium, probe
from tests.support.report_odd import ODD, hostile
from tests.support.report_runs import averages, grid

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from evalkit.analysis.grid.measured_points import Cell, Key
    from evalkit.runs.load import Run
    from evalkit.types import Answer

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(chromium() is None, reason="no chromium on the PATH: apt-get install chromium"),
]

WIDTHS = (1280, 390)
ALL_WIDTHS = (390, 768, 1440)
QUESTIONS = 120

# What a reader cannot see: a text that its box cuts off, and what makes the page itself wider than the window.
CUT = """
const hidden = (e) => e.closest("[hidden]") || getComputedStyle(e).clipPath !== "none" || e.closest("caption, thead");
const cut = [...document.querySelectorAll("body *")].filter((e) => {
  const style = getComputedStyle(e);
  const clips = ["hidden", "clip"].includes(style.overflowX) || ["hidden", "clip"].includes(style.overflowY);
  return clips && !hidden(e) && (e.scrollWidth > e.clientWidth + 1 || e.scrollHeight > e.clientHeight + 1);
});
const wide = [...document.querySelectorAll("body *")].filter((e) =>
  !e.closest(".scroll > *, script") && e.getBoundingClientRect().right > document.documentElement.clientWidth + 1);
const name = (e) => `${e.tagName} ${e.getAttribute("class") ?? ""} ${e.textContent.slice(0, 40)}`;
const page = document.documentElement;
const found = { cut: cut.map(name), wide: wide.map(name), scrolls: page.scrollWidth > page.clientWidth };
"""
OPEN_ALL = """
for (const one of document.querySelectorAll("details")) one.open = true;
await new Promise((done) => setTimeout(done, 100));
"""
COUNT = 'document.querySelector(".count").textContent'


@pytest.fixture(scope="module")
def runs() -> list[Run]:
    return [
        *grid(QUESTIONS, label="One", split="test"),
        *grid(30, label="Two with a name that is rather long for a column of a table", split="dev"),
    ]


@pytest.fixture(scope="module")
def page(runs: list[Run], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return report.write(Results(runs, averages), tmp_path_factory.mktemp("page"), thumbnails_mb=0)


@pytest.fixture(scope="module")
def cells(runs: list[Run]) -> dict[str, Cell]:
    """The cells of the first benchmark by what the page calls them."""
    found = next(own for own in question_sets(runs) if own.name == "One")
    return {f"{point.method}@{point.ratio:g}": point for point in found.points}


def counted(cells: dict[str, Cell], point: str, fits: Callable[[Answer, Answer], bool], **groups: str) -> int:
    """How many questions a filter must leave, from the answers; `fits` gets the point's and the dense one."""
    dense, own = cells["uniform@1"].answers, cells[point].answers

    def grouped(key: Key) -> bool:
        return all(label in own[key].groups[kind] for kind, label in groups.items())

    return sum(fits(own[key], dense[key]) for key in own if grouped(key))


def lost(own: Answer, dense: Answer) -> bool:
    return bool(dense.correct) and not own.correct


# ---- nothing is cut


@pytest.mark.parametrize("width", ALL_WIDTHS)
def test_nothing_is_cut_off(page: Path, tmp_path: Path, width: int) -> None:
    script = OPEN_ALL + CUT + 'return { ...found, opened: document.querySelectorAll(".opened").length };'
    found = probe(page, script, tmp_path, width=width)
    assert found == {"cut": [], "wide": [], "scrolls": False, "opened": 50}


@pytest.mark.parametrize("width", WIDTHS)
def test_what_is_cut_off_would_be_seen(page: Path, tmp_path: Path, width: int) -> None:
    add = """
    const box = document.createElement("p");
    box.style = "width: 40px; overflow: hidden; white-space: nowrap";
    box.textContent = "a text that does not fit";
    const wall = document.createElement("p");
    wall.style = "width: 3000px";
    wall.textContent = "a wall";
    document.querySelector("main").append(box, wall);
    """
    found = probe(page, add + CUT + "return found;", tmp_path, width=width)
    assert len(found["cut"]) == 1
    assert len(found["wide"]) == 1
    assert found["scrolls"]


@pytest.mark.parametrize("width", WIDTHS)
def test_hostile_texts_break_nothing(tmp_path: Path, width: int) -> None:
    own = report.write(Results(hostile(tmp_path / "runs"), averages), tmp_path / "out", thumbnails_mb=0)
    script = f"{OPEN_ALL}{CUT}return {{ ...found, images: document.images.length, count: {COUNT} }};"
    found = probe(own, script, tmp_path / "browser", width=width, address="q=alert('x')")
    assert found == {"cut": [], "wide": [], "scrolls": False, "images": 0, "count": "3 questions"}


@pytest.mark.parametrize("name", sorted(ODD))
def test_odd_sets_open_without_an_error(tmp_path: Path, name: str) -> None:
    own = report.write(Results(ODD[name], averages), tmp_path / "out", thumbnails_mb=0)
    shown = 'const text = document.getElementById("questions").innerText;'
    found = probe(own, OPEN_ALL + CUT + shown + "return { ...found, text };", tmp_path / "browser", width=390)
    assert (found["cut"], found["wide"], found["scrolls"]) == ([], [], False)
    assert not {"undefined", "NaN", "null"} & set(found["text"].split())
    assert "question" in found["text"]


# ---- filters


@pytest.mark.parametrize("width", WIDTHS)
def test_the_address_filters(page: Path, cells: dict[str, Cell], tmp_path: Path, width: int) -> None:
    expected = counted(cells, "keeper@0.25", lost, duration="short", task_type="task 3")
    assert expected > 0
    wanted = {
        "set": "one-test",
        "point": "keeper@0.25",
        "outcome": "lost",
        "by.duration": "short",
        "by.task_type": "task 3",
    }
    script = f"""
    const all = (selector) => [...document.querySelectorAll(selector)];
    const signs = all(".list .group:nth-child(2)").map((e) => e.textContent.replace("keeper", "")[2]);
    return {{ count: {COUNT}, shown: signs.length, signs, fields: all(".filters select").map((e) => e.value) }};
    """
    found = probe(page, script, tmp_path, width=width, address=urlencode(wanted))
    assert found["count"] == f"{expected} of {QUESTIONS} questions"
    assert found["shown"] == expected
    assert set(found["signs"]) == {"✗"}
    assert found["fields"] == ["one-test", "short", "", "task 3", "keeper@0.25", "lost"]


@pytest.mark.parametrize("outcome", ["right", "wrong", "gained", "lost"])
def test_outcomes_are_those_of_the_answers(page: Path, cells: dict[str, Cell], tmp_path: Path, outcome: str) -> None:
    fits: dict[str, Callable[[Answer, Answer], bool]] = {
        "right": lambda own, dense: own.correct is True,
        "wrong": lambda own, dense: own.correct is False,
        "gained": lambda own, dense: lost(dense, own),
        "lost": lost,
    }
    address = urlencode({"set": "one-test", "point": "query_aware@0.5", "outcome": outcome})
    expected = counted(cells, "query_aware@0.5", fits[outcome])
    assert probe(page, f"return {COUNT};", tmp_path, address=address) == f"{expected} of {QUESTIONS} questions"


def test_every_number_of_flips_leads_to_so_many_questions(page: Path, tmp_path: Path) -> None:
    script = f"""
    const found = [];
    const links = [...document.querySelectorAll("td.flips a")];
    for (let place = 0; place < links.length; place += 23) {{
      location.hash = links[place].getAttribute("href");
      await new Promise((done) => setTimeout(done, 20));
      found.push([Math.abs(parseInt(links[place].textContent.replace("−", "-"), 10)), parseInt({COUNT}, 10)]);
    }}
    return found;
    """
    found = probe(page, script, tmp_path)
    assert len(found) > 15
    assert all(said == shown for said, shown in found)
    assert len({said for said, _ in found}) > 3


def test_controls_write_the_address_and_all_have_names(page: Path, cells: dict[str, Cell], tmp_path: Path) -> None:
    hits = counted(cells, "query_aware@0.5", lambda own, _: bool(own.correct) and "7:" in own.prompt)
    script = f"""
    const say = (id, value, kind) => {{
      const field = document.getElementById(id);
      field.value = value;
      field.dispatchEvent(new Event(kind));
    }};
    say("set", "one-test", "change");
    say("filter-point", "query_aware@0.5", "change");
    say("filter-outcome", "right", "change");
    say("filter-q", "QUESTION  video 7:", "input");
    const searched = {COUNT}, address = location.hash;
    document.querySelector(".reset").click();
    const controls = [...document.querySelectorAll("select, input, button")];
    const named = controls.filter((e) => e.labels?.length || e.getAttribute("aria-label") || e.textContent.trim());
    document.querySelector(".pager .on").click();
    const where = document.querySelector(".pager .where").textContent;
    return {{ searched, address, all: {COUNT}, left: location.hash, where, controls: [controls.length, named.length] }};
    """
    found = probe(page, script, tmp_path)
    assert 0 < hits < 12
    assert found["searched"] == f"{hits} of {QUESTIONS} questions"
    assert found["address"] == "#set=one-test&point=query_aware%400.5&outcome=right&q=QUESTION++video+7%3A"
    assert (found["all"], found["left"]) == ("120 questions", "#set=one-test&page=2")
    assert found["where"] == "51–100 of 120"
    assert found["controls"][0] == found["controls"][1] > 12


def test_one_set_and_one_cost_are_shown(page: Path, tmp_path: Path) -> None:
    script = """
    const seen = (selector) => [...document.querySelectorAll(selector)].filter((e) => e.offsetParent);
    const shown = (kind) => seen(`[data-${kind}]`).map((e) => e.dataset[kind]);
    const before = [shown("set"), shown("cost")];
    seen(".costs button").find((e) => e.value === "tflops").click();
    document.querySelector('nav a[href="#questions"]').click();
    return { before, after: shown("cost"), address: location.hash, at: scrollY > 1000 };
    """
    found = probe(page, script, tmp_path, address="set=one-test")
    assert found["before"] == [["one-test"], ["kv_tokens"]]
    assert found["after"] == ["tflops"]
    assert found["address"] == "#set=one-test&cost=tflops"
    assert found["at"]


def test_a_question_opens_with_what_was_asked_and_answered(page: Path, cells: dict[str, Cell], tmp_path: Path) -> None:
    key = ("One", "test", "007-2")
    script = """
    const opened = document.querySelector("details[open] .opened");
    const texts = (selector) => [...opened.querySelectorAll(selector)].map((e) => e.textContent);
    return { open: document.querySelectorAll(".list details[open]").length, top: opened.getBoundingClientRect().top,
      prompt: texts("pre"), options: texts(".options li"), who: texts("tbody th"), signs: texts(".answer .mark"),
      replies: texts(".answer"), kept: texts(".kept .note"), bars: texts(".strip path").length };
    """
    found = probe(page, script, tmp_path, address=urlencode({"set": "one-test", "open": key[2]}))
    answers = [point.answers[key] for point in cells.values()]
    assert found["open"] == 1
    assert 0 <= found["top"] < 900
    assert found["prompt"] == [answers[0].prompt]
    assert found["options"] == ["a cat", "a dog ✓ right"]
    assert found["who"][:2] == ["uniform 1 dense", "uniform 0.5"]
    assert found["signs"] == ["✓" if answer.correct else "✗" for answer in answers]
    assert all(answer.text in reply for answer, reply in zip(answers, found["replies"], strict=True))
    assert found["kept"][1].startswith("512 tokens a layer in 32 cells, achieved ratio 0.5")
    assert found["bars"] == 12
