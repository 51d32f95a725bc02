"""The end of a run on one screen: its numbers are those of the tables, and it fits whatever terminal there is."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Any

import pytest

from evalkit.analysis.results import Results
from evalkit.analysis.summary import Terminal, summary
from evalkit.analysis.summary.sentences import best, compared, sentences, significant
from evalkit.analysis.summary.terminal_plot import draw, lines
from evalkit.analysis.tables.formatting import delta_and_ci
from evalkit.runs import load
from tests.support import plot_grids
from tests.support.run_folders import row, write_run

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from evalkit.analysis.summary.sentences import Row

PLAIN = Terminal(columns=80, rows=24)
RIGHT = plot_grids.RIGHT | {
    ("uniform", 0.125): [1, 1, 1, 1, 1, 2, 1, 1, 1, 1],
    ("retake", 0.125): [1, 1, 1, 1, 1, 2, 1, 1, 0, 1],
    ("xcomp", 0.25): [4, 4, 3, 4, 2, 4, 3, 4, 4, 3],
    ("xcomp", 0.125): [3, 3, 2, 3, 1, 3, 2, 3, 3, 2],
}


def written(folder: Path, right: Mapping[tuple[str, float], Sequence[int]] = RIGHT, **changes: Any) -> Results:
    """One benchmark, with the achieved ratios that the KV entries of its ledgers have."""
    for (method, ratio), counts in right.items():
        rows = plot_grids.rows(method, ratio, counts, ratio_achieved=0.0 if method == "blind" else ratio)
        plot_grids.write(folder, method, ratio, rows, **changes)
    return read(folder)


def read(folder: Path) -> Results:
    return Results(load.ordered(load.load(folder)))


def label(name: str) -> dict[str, Any]:
    return {"label": f"generated videos ({name} format)", "split": "test"}


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """Three benchmarks of 10, 9 and 8 videos."""
    root = tmp_path_factory.mktemp("three")
    for name, videos in (("VideoMME", 10), ("MLVU", 9), ("LVBench", 8)):
        written(root / name, {point: counts[:videos] for point, counts in RIGHT.items()}, benchmark=label(name))
    return read(root)


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """One benchmark."""
    return written(tmp_path_factory.mktemp("one"), benchmark=label("Ünïcode"))


def only(*methods: str, ratios: Sequence[float] = (1.0, 0.5, 0.25, 0.125)) -> dict[tuple[str, float], list[int]]:
    return {point: counts for point, counts in RIGHT.items() if point[0] in methods and point[1] in ratios}


def said(results: Results) -> list[str]:
    """The sentences of the first question set, as a terminal has them."""
    own, frame = results.set_accuracy[0]
    return [text.replace("\N{NO-BREAK SPACE}", " ") for text in sentences(own, records(frame))]


def one_line(text: str) -> str:
    return " ".join(text.split())


def records(frame: Any) -> list[Row]:
    return frame.to_dict("records")  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "terminal",
    [
        PLAIN,
        Terminal(columns=100, rows=30),
        Terminal(columns=80, rows=24, unicode=False),
        Terminal(columns=45, rows=24),
    ],
    ids=["80x24", "100x30", "ascii", "narrow"],
)
def test_the_whole_screen(three: Results, file_regression: Any, terminal: Terminal) -> None:
    """Checked by eye when it was stored."""
    text = summary(three, terminal)
    assert max(map(len, text.splitlines())) <= terminal.columns
    assert text.isascii() is not terminal.unicode
    file_regression.check(text, extension=".txt", encoding="utf-8")


def test_one_set_leaves_room_for_the_lines_below_it(one: Results) -> None:
    for columns, rows in ((80, 24), (100, 30), (120, 50)):
        assert len(summary(one, Terminal(columns=columns, rows=rows)).splitlines()) <= rows - 3


def test_colours_change_nothing_else(one: Results) -> None:
    coloured = summary(one, Terminal(columns=100, rows=30, colour=True))
    plain = summary(one, Terminal(columns=100, rows=30))
    assert "\x1b[" in coloured
    assert "\x1b" not in plain
    uncoloured = [line.rstrip() for line in re.sub(r"\x1b\[[\d;]*m", "", coloured).splitlines()]
    assert uncoloured == plain.splitlines()


def test_the_numbers_are_those_of_the_table_of_differences(three: Results) -> None:
    """That table pairs points of the same ratio, which cost the same here; it takes another way to its numbers."""
    (own, frame), *_ = three.set_accuracy
    (table,) = three.difference_rows.values()
    there = {(line["method"], line["ratio"]): line for line in table}
    found = best(own, records(frame))
    assert [(one.row["method"], one.ratio) for one in found] == [("retake", 0.5), ("xcomp", 0.25), ("xcomp", 0.125)]
    text = said(three)[0]
    for one in found:
        line = there[one.row["method"], one.ratio]
        value = delta_and_ci(line["delta_pp"], line["ci_low"], line["ci_high"])
        assert f"{one.row['method']} {value} at {one.ratio:g}" in text
    assert delta_and_ci(line["delta_pp"] + 0.1, line["ci_low"], line["ci_high"]) not in text


def test_the_best_by_hand(one: Results) -> None:
    """Right of 40: uniform 27 and 17, retake 33 and 25, xcomp 35 at 0.25."""
    first = said(one)[0]
    assert re.search(r"retake \+15\.0 \[[-\d., ]+\] at 0\.5; xcomp \+45\.0 \[[-\d., ]+\] at 0\.25;", first)
    assert "random_frames" not in first  # a control is not a method


def test_where_the_reference_is_best(tmp_path: Path) -> None:
    worse = {("retake", r): [max(0, k - 1) for k in RIGHT["uniform", r]] for r in (0.5, 0.25)}
    text = said(written(tmp_path, only("uniform") | worse))[0]
    assert re.search(r"uniform at 0\.5 \(next: retake -25\.0 \[", text)


def test_what_is_not_significant(one: Results) -> None:
    own, frame = one.set_accuracy[0]
    rows = compared(own, records(frame))
    assert ("retake", 1.0) not in [(row["method"], row["ratio"]) for row in rows]  # it repeats uniform's answers
    same = [f"{row['method']} at {row['ratio']:g}" for row in rows if row["kv_p_sign_flip_holm"] >= 0.05]
    assert [significant(row) for row in rows].count(False) == len(same) > 0
    second = said(one)[1]
    assert second.startswith("Not significant (sign-flip test by video, Holm, 5 %): retake at")
    assert "xcomp at 0.25" not in second
    assert "xcomp at 0.25" not in same


def test_all_or_nothing_significant(tmp_path: Path) -> None:
    none = said(written(tmp_path / "a", only("uniform", "retake", ratios=(1.0, 0.125))))
    assert none[1] == "No difference is significant (sign-flip test by video, Holm, 5 %)."
    every = said(written(tmp_path / "b", only("uniform", "xcomp", ratios=(0.25,))))
    assert every[1] == "Every difference is significant (sign-flip test by video, Holm, 5 %)."


def test_between_two_ratios_nothing_is_tested(tmp_path: Path) -> None:
    text = said(written(tmp_path, only("uniform", ratios=(1.0, 0.25)) | only("retake", ratios=(0.5,))))
    assert re.search(r"retake ≈ \+\d+\.\d at 0\.5\.$", text[0])
    assert text[1] == "Not tested, between two ratios of uniform: retake at 0.5 (matched=true runs them)."


def test_outside_the_curve_nothing_is_compared(tmp_path: Path) -> None:
    text = said(written(tmp_path, only("uniform", ratios=(1.0, 0.5)) | only("retake", ratios=(0.25,))))
    assert text[0] == "Nothing is compared with uniform at equal KV."
    assert text[1] == "Not compared, KV not known or outside uniform's curve: retake at 0.25."


def test_a_single_operating_point(tmp_path: Path) -> None:
    text = summary(written(tmp_path, only("uniform", ratios=(0.25,))), PLAIN)
    assert "┌" not in text  # no plot of one point
    assert "● uniform          42.5" in text
    assert re.search(r"Only uniform was run, so nothing is compared\. Accuracy \[95 % CI\]: 42\.5 % \[", one_line(text))
    assert "dense" not in text


def test_a_method_alone_is_no_dense_run(tmp_path: Path) -> None:
    text = summary(written(tmp_path, only("retake", ratios=(0.5, 0.25))), PLAIN)
    assert "┌" in text
    assert "D" not in text
    assert "Only retake was run" in text


def test_only_what_repeats_the_dense_run(tmp_path: Path) -> None:
    text = summary(written(tmp_path, only("uniform", "retake", ratios=(1.0,))), PLAIN)
    assert "Every other row repeats uniform's answers, so nothing is compared." in text
    assert "D dense: uniform at ratio 1" in text
    assert "┌" not in text  # two points in one place


def test_only_controls(tmp_path: Path) -> None:
    text = said(written(tmp_path, only("uniform", "random_frames")))
    assert "random_frames" in text[0]


def test_failed_rows(tmp_path: Path) -> None:
    for method, ratio in (("uniform", 1.0), ("uniform", 0.5), ("retake", 0.5)):
        rows = plot_grids.rows(method, ratio, RIGHT[method, ratio], ratio_achieved=ratio)
        plot_grids.write(tmp_path, method, ratio, [*rows, row("x", None, "broken")])
    text = said(read(tmp_path))
    assert text[-1].endswith("3 rows failed, in no number (answers.jsonl says why).")
    assert "Of 41 questions about 11 videos: generated videos (MLVU format), dev. Generated:" in text[-1]


def test_only_failed_rows(tmp_path: Path) -> None:
    text = summary(read(write_run(tmp_path / "r", [row("1", None), row("2", None)])), PLAIN)
    assert "No question has a score: 2 rows failed (answers.jsonl says why)." in text
    assert "nan" not in text


def test_one_video_has_no_interval(tmp_path: Path) -> None:
    text = summary(written(tmp_path, {point: counts[:1] for point, counts in only("uniform", "xcomp").items()}), PLAIN)
    assert "xcomp +50.0 (one video: no CI) at 0.25" in one_line(text)
    assert "nan" not in text


def test_real_videos_are_not_called_generated(tmp_path: Path) -> None:
    text = said(written(tmp_path, benchmark={"label": "MLVU", "split": "dev", "generated": False}))[-1]
    assert text == "Of 40 questions about 10 videos: MLVU, dev."


@pytest.mark.slow
def test_a_method_that_lacks_a_set_is_named(tmp_path: Path) -> None:
    written(tmp_path / "a", only("uniform", "retake", "xcomp"), benchmark=label("MLVU"))
    written(tmp_path / "b", only("uniform", "retake"), benchmark=label("LVBench"))
    text = summary(read(tmp_path), PLAIN)
    assert "without xcomp, not run on each" in one_line(text)
    assert "▲" not in text
    assert "generated videos (MLVU format): retake +15.0 at 0.5" in one_line(text)


@pytest.mark.slow
def test_another_setup_has_a_line(tmp_path: Path) -> None:
    """A sweep over backbones: the first one's plot, and the others' best methods with their setup."""
    written(tmp_path / "a", only("uniform", "xcomp"), backbone={"name": "tiny"})
    written(tmp_path / "b", only("uniform", "xcomp"), backbone={"name": "larger"})
    text = one_line(summary(read(tmp_path), Terminal(columns=100, rows=30)))
    first, second = ("tiny", "larger") if "format), tiny ·" in text else ("larger", "tiny")
    assert f"({second}, " in text.split(f"{first} ·")[1]


def test_one_control_is_drawn(one: Results) -> None:
    assert [line.method for line in lines(one.question_sets[0])] == ["uniform", "retake", "xcomp", "random_frames"]
    assert "not drawn: blind" in summary(one, PLAIN)


def test_dense_and_every_method_are_in_the_plot(one: Results) -> None:
    own = one.question_sets[0]
    plot = "".join(draw(lines(own), own.dense, (60, 16), Terminal(columns=80, rows=24)))
    assert plot.count("D") == 1
    assert {marker: plot.count(marker) for marker in "▲×"} == {"▲": 2, "×": 2}  # xcomp's and random_frames' points
    without = draw(lines(own), None, (60, 16), PLAIN)
    assert "D" not in "".join(without)
    assert {len(line) for line in without} == {60}
    assert len(without) == 16


def test_accuracies_lie_where_the_axis_says(tmp_path: Path) -> None:
    """100 % at the top, 0 % at the bottom, each in the column of its share."""
    right = {("uniform", 1.0): [4] * 10, ("uniform", 0.25): [0] * 10}
    own = written(tmp_path, right).question_sets[0]
    plot = draw(lines(own), None, (60, 16), PLAIN)
    (top,), (bottom,) = ([n for n, line in enumerate(plot) if mark in line] for mark in ("100┤", " 0┤"))
    columns = {share: plot[-2].index(share) for share in ("25", "100")}
    assert abs(plot[top].rindex("●") - columns["100"]) <= 2
    assert abs(plot[bottom].index("●") - columns["25"]) <= 2


class Stream(io.StringIO):
    def __init__(self, encoding: str, tty: bool) -> None:
        super().__init__()
        self._encoding, self._tty = encoding, tty

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._encoding

    def isatty(self) -> bool:
        return self._tty


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "no-such-encoding"])
def test_an_encoding_without_the_characters_gets_ascii(one: Results, encoding: str) -> None:
    terminal = Terminal.of(Stream(encoding, tty=False))
    assert not terminal.unicode
    assert summary(one, terminal).isascii()


def test_colours_are_for_terminals_that_want_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert Terminal.of(Stream("utf-8", tty=True)).colour
    assert Terminal.of(Stream("utf-8", tty=False)) == Terminal(columns=100, rows=30)
    monkeypatch.setenv("NO_COLOR", "1")
    assert not Terminal.of(Stream("utf-8", tty=True)).colour
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert not Terminal.of(Stream("utf-8", tty=True)).colour


def test_nothing_run_shows_nothing() -> None:
    assert summary(Results([]), PLAIN) == ""
