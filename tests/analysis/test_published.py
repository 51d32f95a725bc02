"""`python -m evalkit compare RESULTS --published FILE`: which score meets which run, what differs, what is missing."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from evalkit.__main__ import main
from evalkit.analysis.compare import published, published_scores
from evalkit.analysis.compare.published_scores import COLUMNS
from evalkit.config.choices import names
from evalkit.errors import DataError
from tests.support.run_folders import row, write_run

LISTED = Path(__file__).parents[2] / "docs" / "published_scores.csv"
ROW = {
    "method": "vidcom2",
    "backbone": "llava_onevision_7b",
    "benchmark": "videomme",
    "ratio": "0.25",
    "frames": "32",
    "score": "58.6",
    "tolerance": "1.2",
    "source": '"a page, table 1"',
}


def csv(folder: Path, *rows: dict[str, str], header: tuple[str, ...] = COLUMNS) -> Path:
    file = folder / "scores.csv"
    lines = [",".join(header), *(",".join((ROW | one).get(name, "") for name in header) for one in rows)]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def write(folder: Path, right: int = 6, of: int = 10, subset: str = "full", **changes: Any) -> Path:
    """A run on Video-MME by the official rules: the first `right` of `of` questions are right, odd ones are long."""
    rows = [
        row(str(n), n < right, f"v{n}", groups={"duration": ["long" if n % 2 else "short"]}, benchmark="videomme")
        for n in range(of)
    ]
    settings = {
        "identity": folder.name.ljust(16, "0"),
        "benchmark": {"name": "videomme", "label": "Video-MME", "split": "test", "questions": of, "generated": False},
        "backbone": {"name": "llava_onevision_7b"},
        "method": {"name": "vidcom2", "role": "method", "class": "methods.vidcom2.VidCom2"},
        "protocol": {"name": "official", "version": "1"},
    }
    for key, value in changes.items():
        own = settings.get(key)
        settings[key] = own | value if isinstance(own, dict) else value
    write_run(folder, rows, **settings)
    with (folder / "config.yaml").open("a", encoding="utf-8") as config:
        config.write(f"subset: {subset}\n")
    return folder


def test_difference_and_tolerance_by_hand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """6 of 10 right against 58.6, and of the five long ones 1, 3 and 5, three, against 50."""
    write(tmp_path / "runs" / "a")
    file = csv(tmp_path, {}, {"score": "58.8"}, {"score": "58.79"}, {"group": "duration=long", "score": "50"})
    arguments = ["compare", str(tmp_path / "runs"), "--published", str(file), "--json", str(tmp_path / "out.json")]
    assert main(arguments) == 0
    rows = json.loads((tmp_path / "out.json").read_text())["rows"]
    assert [one["ours"] for one in rows] == [60, 60, 60, 60]
    assert [one["difference_pp"] for one in rows] == pytest.approx([1.4, 1.2, 1.21, 10])
    assert [one["within"] for one in rows] == [False, True, False, False]
    assert [one["settings"] for one in rows] == [{}] * 4
    printed = " ".join(capsys.readouterr().out.split())
    assert "| 58.6 | 60.0 | +1.4 | 1.2 | no | none that both say | a page, table 1 |" in printed
    assert "videomme, duration=long" in printed


def test_settings_that_differ_are_named_as_far_as_both_say(tmp_path: Path) -> None:
    write(tmp_path / "a", ratio=0.1, sampling={"frames": 64}, subset="ci-50")
    given = {"protocol": "lmms_eval", "questions": "2700"}
    silent = {"ratio": "", "frames": ""}
    every, few = published.hold(tmp_path, csv(tmp_path, given, silent)).rows
    assert every.settings == {
        "ratio": ("0.25", "0.1"),
        "frames": ("32", "64"),
        "protocol": ("lmms_eval", "official"),
        "questions": ("2700", "10"),
        "subset": ("full", "ci-50"),
    }
    assert few.settings == {"subset": ("full", "ci-50")}


def test_the_nearest_run_is_taken(tmp_path: Path) -> None:
    """By settings that differ, then by ratio; a name of an experiment's own belongs to its class."""
    method = {"name": "dense_32", "role": "reference", "class": "methods.uniform.Uniform", "max_frames": 32}
    write(tmp_path / "far", ratio=0.5)
    write(tmp_path / "near", ratio=0.15)
    write(tmp_path / "own", ratio=1.0, method=method, sampling={"frames": 512})
    rows = published.hold(tmp_path, csv(tmp_path, {"ratio": "0.1"}, {"method": "uniform", "ratio": "1"})).rows
    assert [one.run.folder.name for one in rows] == ["near", "own"]
    assert [one.settings for one in rows] == [{"ratio": ("0.1", "0.15")}, {}]


def test_what_has_no_counterpart_is_said(tmp_path: Path) -> None:
    write(tmp_path / "a")
    write(tmp_path / "b", method={"name": "mine", "class": "package.Mine"})
    missing = [{"method": "bolt"}, {"backbone": "other", "frames": "8"}, {"benchmark": "lvbench"}]
    found = published.hold(tmp_path, csv(tmp_path, {}, *missing))
    assert [(one.method, one.backbone, one.benchmark) for one in found.missing] == [
        ("bolt", "llava_onevision_7b", "videomme"),
        ("vidcom2", "other", "videomme"),
        ("vidcom2", "llava_onevision_7b", "lvbench"),
    ]
    text = published.markdown(found)
    assert "- no run: other on videomme: vidcom2 at 0.25 of 8 frames\n" in text
    assert "- nothing published: llava_onevision_7b on Video-MME: mine at 0.25\n" in text
    assert "generated videos" not in text
    write(tmp_path / "c", benchmark={"generated": True}, identity="c")
    text = published.markdown(published.hold(tmp_path, csv(tmp_path, {})))
    assert "\n- runs on generated videos are held against no published score\n" in text


def test_generated_videos_are_no_benchmark(tmp_path: Path) -> None:
    write(tmp_path / "a", benchmark={"generated": True})
    with pytest.raises(
        DataError,
        match=r"expected a run .* came llava_onevision_7b on .*; runs on generated videos are held",
    ):
        published.hold(tmp_path, csv(tmp_path, {}))


def test_an_unfinished_run_says_so_and_one_without_scores_has_no_numbers(tmp_path: Path) -> None:
    write(tmp_path / "some", of=8, benchmark={"questions": 10})
    write(tmp_path / "none", of=0, ratio=0.5, benchmark={"questions": 10})
    some, none = published.hold(tmp_path, csv(tmp_path, {}, {"ratio": "0.5"})).rows
    assert (some.ours, some.settings) == (75, {"answered": ("10", "8")})
    assert math.isnan(none.ours)
    assert none.within is None
    assert "–" in published.markdown(published.hold(tmp_path, csv(tmp_path, {"ratio": "0.5"})))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"score": "high"}, "line 2: expected score in [0, 100], got 'high'"),
        ({"score": "nan"}, "line 2: expected score in [0, 100], got 'nan'"),
        ({"ratio": "25"}, "line 2: expected ratio in (0, 1], got '25'"),
        ({"frames": "few"}, "line 2: expected a whole number of frames, got 'few'"),
        ({"group": "long"}, "line 2: expected group as KIND=LABEL"),
        ({"source": "", "method": ""}, "got nothing for method, source"),
        ({"note": "one, two"}, "line 2: expected 12 cells"),
        ({"source": '"open'}, "expected a readable CSV file"),
    ],
)
def test_a_bad_row_is_one_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, change: dict[str, str], told: str
) -> None:
    assert main(["compare", str(tmp_path), "--published", str(csv(tmp_path, change))]) == 2
    assert told in caplog.text
    assert "Traceback" not in caplog.text


def test_a_bad_file_is_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = csv(tmp_path, header=("method", "score"))
    assert main(["compare", str(tmp_path), "--published", str(file)]) == 2
    assert "line 1: expected the columns method, backbone, benchmark" in caplog.text
    assert main(["compare", str(tmp_path), "--published", str(csv(tmp_path))]) == 2
    assert "got none below the header" in caplog.text
    assert main(["compare", str(tmp_path), "--published", str(tmp_path / "none.csv")]) == 2
    assert main(["compare", str(tmp_path), str(tmp_path), "--published", str(file)]) == 2
    assert "expected one folder of runs" in caplog.text


def test_the_list_of_this_repository() -> None:
    """It names what is here, each score once; the tolerance is half a paired interval on so many questions."""
    found = published_scores.read(LISTED)
    sizes = {"videomme": 2700, "mlvu": 2175, "lvbench": 1549}
    for one in found:
        assert one.backbone in names("backbone")
        assert one.method in {*names("method"), "heuristic_drop_1024", "lpcomp_1024", "xcomp_paper", "xcomp_released"}
        questions = 900 if one.group else sizes[one.benchmark]
        assert one.tolerance == round(196 * math.sqrt(0.1 / questions), 1)
        assert 20 < one.score < 90
    keys = [tuple(value for name, value in vars(one).items() if name != "score") for one in found]
    assert len(keys) == len(set(keys))
