"""What the report's page carries: texts, strips and columns, against answers small enough to read back by hand."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from evalkit.analysis.report import kept_over_time
from evalkit.analysis.report.payload import MARKS, NOT_ASKED, payload
from evalkit.analysis.report.sanitize import LIMIT, cut, embedded, title
from evalkit.analysis.report.setup import point_key, views
from evalkit.analysis.report.timeline_strips import BINS, axis
from evalkit.analysis.results import Results
from evalkit.runs import load
from evalkit.sanitize import clean
from evalkit.types import KeptOverTime
from tests.support.report_runs import averages, grid, run
from tests.support.run_folders import row, write_run

if TYPE_CHECKING:
    from pathlib import Path

    from evalkit.runs.load import Run


def carried(runs: list[Run]) -> dict[str, Any]:
    """The payload as the page's script reads it."""
    own = views(Results(runs, averages))
    slugs = [f"set-{place}" for place in range(sum(len(view.sets) for view in own))]
    found: dict[str, Any] = json.loads(embedded(payload(own, slugs, [{} for _ in own], [{} for _ in slugs])))
    return found


# ---- texts


@pytest.mark.parametrize(
    ("prompt", "line"),
    [
        (
            "Select the best answer. Respond with A, B, C, or D.\nWhich place?\nA. meadow\nB. city\nBest:",
            "Which place?",
        ),
        ("Which place is shown?\nOptions:\nA. meadow\nB. city", "Which place is shown?"),
        ("Question:What color?\nOption:\n(A) purple\n(B) yellow", "What color?"),
        ("Question: What color?\nOptions:\n(A) purple", "What color?"),
        ("Two lines,\nthe last one asks?\n\n(A) purple", "the last one asks?"),
        ("No options at all", "No options at all"),
        ("", ""),
    ],
)
def test_title_is_the_question(prompt: str, line: str) -> None:
    assert title(prompt) == line


def test_long_texts_are_cut_in_the_middle_and_say_so() -> None:
    text = "a" * 5000 + "the question?"
    short = cut(text)
    assert short.startswith("aaa")
    assert short.endswith("the question?")
    assert f"{len(text) - LIMIT:,} characters left out" in short
    assert len(short) < LIMIT + 50
    assert cut("b" * LIMIT) == "b" * LIMIT


def test_embedded_json_cannot_end_its_element() -> None:
    hostile = [
        "</script><script>alert(1)</script>",
        "<!--",
        "&lt;",
        "\u2028\u2029",
        '"\\',
        "\N{RIGHT-TO-LEFT OVERRIDE}",
        "🙂",
    ]
    text = embedded(hostile)
    assert not set("<>&\u2028\u2029") & set(text)
    assert json.loads(text) == hostile


def test_what_utf8_cannot_carry_is_replaced() -> None:
    assert clean("a\x00b\ud800c\td\ne\u202ef\u200eg") == "a\ufffdb\ufffdc\td\ne\ufffdf\u200eg"


# ---- strips


EVEN = KeptOverTime(seconds=(0.0, 15.0, 30.0, 45.0), tokens=(16.0,) * 4)


def test_digits_by_hand() -> None:
    some = KeptOverTime(
        seconds=(0.0, 31.0), tokens=(8.0, 16.0)
    )  # half of the first point, all of the third, a second late
    little = KeptOverTime(seconds=(45.0,), tokens=(0.01,))
    found = axis([some, EVEN, little], 60.0)
    assert found is not None
    assert found.starts == EVEN.seconds
    assert found.thousandths == [0, 250, 500, 750]
    assert [found.digits(one) for one in (EVEN, some, little)] == ["zzzz", "i0z0", "0001"]


def test_long_videos_are_binned_and_dense_stays_full() -> None:
    dense = KeptOverTime(seconds=tuple(float(s) for s in range(200)), tokens=(16.0,) * 200)
    half = KeptOverTime(seconds=dense.seconds[:100], tokens=dense.tokens[:100])
    found = axis([half, dense], 200.0)
    assert found is not None
    assert found.digits(dense) == "z" * BINS
    assert found.digits(half) == "z" * (BINS // 2) + "0" * (BINS // 2)


def test_nothing_kept_has_no_axis() -> None:
    assert axis([], 60.0) is None
    assert axis([KeptOverTime(seconds=(), tokens=())], 60.0) is None


def test_cells_out_of_order_and_unknown_length() -> None:
    shuffled = KeptOverTime(seconds=(45.0, 0.0, 30.0, 15.0), tokens=(4.0, 1.0, 3.0, 2.0))
    found = axis([shuffled], None)
    assert found is not None
    assert found.seconds == 60
    assert found.digits(shuffled) == "9iqz"  # quarters of 35, rounded


# ---- shares over time


def plainly(own: KeptOverTime, seconds: float, cells: int, steps: int = 12_000) -> np.ndarray:
    """The same from many small steps of time."""
    found = np.zeros(kept_over_time.BINS)
    for second, tokens in zip(own.seconds, own.tokens, strict=True):
        for step in range(steps // cells):
            moment = (second / seconds * cells + (step + 0.5) * cells / steps) / cells
            found[int(moment * kept_over_time.BINS)] += tokens
    result: np.ndarray = found / found.sum()
    return result


def test_shares_by_hand() -> None:
    assert kept_over_time.shares(EVEN, 60.0, 4) == pytest.approx([1 / 20] * 20)
    second = KeptOverTime(seconds=(15.0,), tokens=(3.0,))
    assert kept_over_time.shares(second, 60.0, 4) == pytest.approx([0] * 5 + [0.2] * 5 + [0] * 10)


@pytest.mark.parametrize("cells", [3, 20, 48, 64])
def test_shares_equal_the_plain_form(cells: int) -> None:
    draw = np.random.default_rng(cells)
    places = sorted(draw.choice(cells, size=max(1, cells // 3), replace=False).tolist())
    own = KeptOverTime(
        seconds=tuple(place * 50.0 / cells for place in places), tokens=tuple(draw.random(len(places)).tolist())
    )
    assert kept_over_time.shares(own, 50.0, cells) == pytest.approx(plainly(own, 50.0, cells), abs=2e-3)
    assert kept_over_time.shares(own, 50.0, cells) != pytest.approx(plainly(own, 80.0, cells), abs=2e-3)


@pytest.mark.parametrize("frames", [16, 128])
def test_uniform_frames_look_uniform(frames: int) -> None:
    """Frames of a sampler that takes the first and the last: few cells must not look like gaps and peaks."""
    seconds = np.linspace(0, 999, frames).astype(int) / 10.0
    own = KeptOverTime(seconds=tuple(seconds[::2].tolist()), tokens=(16.0,) * (frames // 2))
    assert kept_over_time.shares(own, 100.0, frames // 2) == pytest.approx([1 / 20] * 20)


# ---- columns


def test_columns_read_back_as_the_answers() -> None:
    runs = grid(30, asks=True)
    found = carried(runs)
    setup, texts = found["setups"][0], found["texts"]
    view = views(Results(runs, averages))[0]
    checked = 0
    for point, plain, column in zip(view.points, setup["points"], setup["answers"], strict=True):
        assert plain == {"key": point_key(point), "method": point.method, "ratio": f"{point.ratio:g}"}
        for place, key in enumerate(view.keys):
            answer = point.answers[key]
            assert texts[setup["id"][place]] == answer.question_id
            assert texts[setup["prompt"][place]] == answer.prompt
            assert [texts[o] for o in setup["options"][place]] == list(answer.options)
            assert texts[setup["videos"][setup["video"][place]]["id"]] == answer.video_id
            assert column["mark"][place] == MARKS[answer.status, answer.correct]
            assert texts[column["letter"][place]] == answer.letter
            said = column["reply"][place]
            assert (answer.letter if said < 0 else texts[said]) == answer.text
            assert answer.kept is not None
            assert setup["kept"][column["kept"][place]][1:] == [
                len(answer.kept.seconds),
                pytest.approx(sum(answer.kept.tokens)),
            ]
            for kind, labels in answer.groups.items():
                group = setup["groups"][kind]
                assert [group["labels"][n] for n in group["of"][place]] == list(labels)
            checked += 1
    assert checked == 360
    assert setup["groups"]["duration"]["labels"] == ["short", "medium", "long"]


def test_texts_and_kept_vectors_stand_once() -> None:
    blind, asking = carried(grid(30, asks=False)), carried(grid(30, asks=True))
    assert len(set(blind["texts"])) == len(blind["texts"])
    # 10 videos of 3 questions, 3 methods at 4 ratios; at ratio 1 all three keep everything
    assert len(blind["setups"][0]["kept"]) == 10 * (3 * 4 - 2)
    assert len(asking["setups"][0]["kept"]) == 10 * (2 * 4 - 1 + 3 * 3)


def test_a_prompt_in_other_words_stands_with_its_cell() -> None:
    dense = run("uniform", "reference", 1.0, [row("1", True), row("2", True)])
    blind = run("blind", "control", 0.25, [row("1", True), row("2", False, prompt="Guess!")])
    found = carried([dense, blind])
    texts, (first, second) = found["texts"], found["setups"][0]["answers"]
    assert first["prompt"] == {}
    assert {place: texts[n] for place, n in second["prompt"].items()} == {"1": "Guess!"}


def test_ids_are_in_the_order_in_which_people_count(tmp_path: Path) -> None:
    write_run(tmp_path / "r", [row(name, True) for name in ("10", "9", "x-2", "x-10", "1")])
    found = carried(load.load(tmp_path))
    assert [found["texts"][n] for n in found["setups"][0]["id"]] == ["1", "9", "10", "x-2", "x-10"]


def test_missing_and_failed_answers() -> None:
    dense = run(
        "uniform",
        "reference",
        1.0,
        [row("1", True), row("2", None), row("3", False, status="unparsed", letter=None, text="hm")],
    )
    other = run("other", "method", 0.5, [row("1", False)])
    found = carried([dense, other])
    first, second = found["setups"][0]["answers"]
    assert (first["mark"], second["mark"]) == ("rfu", "w" + 2 * NOT_ASKED)
    assert [found["texts"][n] if n >= 0 else "" for n in first["error"]] == ["", "VideoError: broken", ""]
    assert [found["texts"][n] if n >= 0 else "" for n in first["reply"]] == ["", "", "hm"]
    assert found["sets"][0] | {"slug": ""} == {
        "slug": "",
        "facts": {},
        "setup": 0,
        "benchmark": 0,
        "points": [0, 1],
        "dense": 0,
    }


def test_recorded_cells_are_not_guessed_from_seconds() -> None:
    """Frames late in their stretch: the seconds alone would say the next one. Shuffled frames go by their seconds."""
    late = {"seconds": (12.0, 27.0), "tokens": (4.0, 4.0)}
    known, guessed = (kept_over_time.shares(KeptOverTime(**late, cells=c), 60.0, 4) for c in ((0, 1), None))
    assert known == pytest.approx([1 / 10] * 10 + [0] * 10)
    assert guessed == pytest.approx([0] * 5 + [1 / 10] * 10 + [0] * 5)
    shuffled = KeptOverTime(seconds=(45.0, 0.0), tokens=(4.0, 4.0), cells=(0, 1))
    assert kept_over_time.shares(shuffled, 60.0, 4) == pytest.approx([1 / 10] * 5 + [0] * 10 + [1 / 10] * 5)


@pytest.mark.slow
def test_a_large_sweep_stays_small() -> None:
    """12 cells with long prompts and replies of their own; one method keeps other cells each time.

    A third of 2,700 questions, for a third of the bytes: a page grows with its questions and no faster.
    """
    runs = grid(900, cells=160, prompt=LIMIT)
    own = views(Results(runs, averages))
    text = embedded(payload(own, ["all"], [{}], [{}]))
    assert len(json.loads(text)["setups"][0]["kept"]) > 900 * 3
    assert len(text.encode()) < (25 - 8 - 1) * 1e6 / 3  # 8 MB are the thumbnails', and 1 MB the rest of the page's
