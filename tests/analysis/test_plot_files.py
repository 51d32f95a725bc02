"""Pareto plots as files and inside a page."""

from __future__ import annotations

import re
from itertools import product
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import matplotlib
import pytest

from evalkit.analysis import plots
from evalkit.analysis.grid.measured_points import ALL, COSTS, QuestionSet, question_sets
from evalkit.runs.load import load
from tests.support.plot_grids import RIGHT, crowd, grid, rows, svg, write

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow

SETUP = ("tiny", "lmms_eval, 32 frames", "lmms_eval 0.7.3")


def content(files: list[Path]) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in files}


@pytest.mark.slow
def test_the_same_answers_give_the_same_bytes(tmp_path: Path) -> None:
    first = plots.Figures([grid(tmp_path / "a")]).write(tmp_path / "one")
    before = dict(matplotlib.rcParams)
    with matplotlib.rc_context(
        {"font.size": 20, "axes.facecolor": "red", "lines.linewidth": 9, "text.parse_math": True}
    ):
        again = plots.Figures([grid(tmp_path / "b")]).write(tmp_path / "two")
    assert content(first) == content(again)
    assert dict(matplotlib.rcParams) == before
    other = {key: right if key != ("retake", 0.5) else [*right[::-1][:9], 0] for key, right in RIGHT.items()}
    assert content(first) != content(plots.Figures([grid(tmp_path / "c", other)]).write(tmp_path / "three"))


def test_files_of_one_set(tmp_path: Path) -> None:
    files = plots.Figures([grid(tmp_path / "g")]).write(tmp_path)
    name = "generated-videos-mlvu-format-dev"
    kinds = product(("kv", "llm", "tflops", "ttft"), ("svg", "png"))
    assert [file.name for file in files] == [f"{name}-{cost}.{kind}" for cost, kind in kinds]
    assert sorted(files) == sorted((tmp_path / "plots").iterdir())  # nothing else is left there
    for file in files:
        text = file.read_bytes()
        assert text.startswith(b"<?xml" if file.suffix == ".svg" else b"\x89PNG")
        assert not re.search(rb"20\d\d-\d\d-\d\d|matplotlib\.org", text)  # neither time nor version


def test_a_cost_that_nobody_knows_gives_no_file(tmp_path: Path) -> None:
    write(tmp_path / "g", "uniform", 1.0, rows("uniform", 1.0, RIGHT["uniform", 1.0], flops=None))
    sets = question_sets(load(tmp_path / "g"))
    assert svg(sets[0], "tflops") == ""
    assert not [file for file in plots.Figures(sets).write(tmp_path) if "tflops" in file.name]


def test_names_are_readable_and_never_the_same(tmp_path: Path) -> None:
    cells = grid(tmp_path / "g").points
    other = ("qwen2_vl_7b", *SETUP[1:])

    def named(*sets: tuple[tuple[str, str, str], str, str]) -> list[str]:
        return plots.names([QuestionSet(setup, name, split, cells) for setup, name, split in sets])

    assert named((SETUP, ALL, ""), (SETUP, "MLVU", "dev")) == ["all-benchmarks", "mlvu-dev"]
    assert named((SETUP, "MLVU", "dev"), (other, "MLVU", "dev")) == ["tiny-mlvu-dev", "qwen2-vl-7b-mlvu-dev"]
    assert named((SETUP, "a b", ""), (SETUP, "a-b", ""), (SETUP, "a b 2", "")) == ["a-b", "a-b-2", "a-b-2-2"]
    assert named((SETUP, "视频", ""), (SETUP, "../../etc", "x")) == ["set", "etc-x"]
    assert len(named((SETUP, "long " * 100, ""))[0]) <= 80


def ids(text: str) -> list[str]:
    return [value for node in ElementTree.fromstring(text).iter() if (value := node.get("id"))]


def pointers(text: str) -> set[str]:
    return {one or other for one, other in re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', text)}


def test_many_stand_in_one_page(tmp_path: Path) -> None:
    one, many = grid(tmp_path / "a"), crowd(tmp_path / "b", 4)
    sets = [one, QuestionSet(one.setup, ALL, "", many.points)]
    found = [svg(question_set, cost) for question_set in sets for cost in COSTS]
    whole = [name for text in found for name in ids(text)]
    assert len(set(whole)) == len(whole) > 100
    for text in found:
        assert pointers(text)
        assert pointers(text) <= set(ids(text))
        assert text.startswith("<svg")
        assert "<style" not in text  # it would hold for the whole page
    twice = [name for text in (found[0], found[0]) for name in ids(text)]
    assert len(set(twice)) < len(twice)  # the check sees ids that are there twice


def test_it_says_what_it_shows_in_text(tmp_path: Path) -> None:
    text = svg(grid(tmp_path / "g"), "kv_tokens")
    root = ElementTree.fromstring(text)
    read = ["".join(node.itertext()) for node in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"uniform", "retake", "random_frames", "accuracy (%)", "visual KV tokens per layer"} <= set(read)
    title = root.find("{http://www.w3.org/2000/svg}title")
    assert title is not None
    assert root.get("aria-labelledby") == title.get("id")
    assert title.text == "generated videos (MLVU format), dev: accuracy against visual KV tokens per layer"
    assert "protocol lmms_eval 0.7.3" in text


HOSTILE = [
    "</text><script>alert(1)</script>",
    "$x^2$ \\frac{",
    "_a",
    "视频 😀",
    "a\x00b\u202e\n\nc",
    'id="figure_1" url(#x)',
]


def test_hostile_names(tmp_path: Path) -> None:
    right = {(name, ratio): RIGHT["retake", ratio] for name in HOSTILE for ratio in (0.5, 0.25)} | RIGHT
    question_set = grid(tmp_path / "g", right, backbone={"name": HOSTILE[0]})
    files = plots.Figures([QuestionSet(question_set.setup, HOSTILE[0], HOSTILE[4], question_set.points)]).write(
        tmp_path
    )
    text = files[0].read_text(encoding="utf-8")
    root = ElementTree.fromstring(text)
    assert not [node for node in root.iter() if "script" in node.tag]
    read = {"".join(node.itertext()) for node in root.iter("{http://www.w3.org/2000/svg}text")}
    assert {*HOSTILE[1:4], "a b c", HOSTILE[5]} <= read
