"""The report's pictures: the right frames, those of flipped questions first, within their share of the page."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from evalkit.analysis import report
from evalkit.analysis.report import thumbnails as ours
from evalkit.analysis.report.annotations import video_paths
from evalkit.analysis.report.setup import VideoKey, views
from evalkit.analysis.report.thumbnails import SHOWN, WIDTH, Sprite, thumbnails
from evalkit.analysis.results import Results
from evalkit.data import benchmarks
from evalkit.types import KeptOverTime
from tests.support import clips
from tests.support.browser import chromium, probe
from tests.support.report_runs import averages, run
from tests.support.rows import mlvu_row, write_json
from tests.support.run_folders import row

if TYPE_CHECKING:
    from pathlib import Path

    from evalkit.runs.load import Run

RATE, FRAMES = 25, 100
LABEL = "clips"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three short clips, one question each, in MLVU's layout."""
    folder = tmp_path_factory.mktemp("mlvu")
    names = [f"clip_{number}.mp4" for number in range(3)]
    write_json(folder / "json" / "1_plotQA.json", [mlvu_row(video=name) for name in names])
    (folder / "video" / "1_plotQA").mkdir(parents=True)
    for name in names:
        clips.make(folder / "video" / "1_plotQA" / name, frames=FRAMES, rate=RATE)
    return folder


def kept(frames: range) -> dict[str, Any]:
    return {"seconds": [round(frame / RATE, 3) for frame in frames], "tokens": [4.0] * len(frames)}


def runs(root: Path | str, right: str, more: range = range(0, 80, 2)) -> list[Run]:
    """A dense run that has all right, and one that has those right whose mark in `right` is y."""
    asked = benchmarks.load("mlvu", root)[0].questions if not isinstance(root, str) else ()
    ids = [(question.id, question.video_id) for question in asked] or [(f"{n}", f"v{n}") for n in range(3)]
    dense = [row(q, True, video, kept=kept(range(0, FRAMES, 4)), duration_s=4.0) for q, video in ids]
    other = [row(q, mark == "y", video, kept=kept(more)) for (q, video), mark in zip(ids, right, strict=True)]
    where = {"label": LABEL, "root": str(root)}
    return [run("uniform", "reference", 1.0, dense, **where), run("few", "method", 0.5, other, **where)]


def drawn(found: list[Run], megabytes: float) -> tuple[list[dict[VideoKey, Sprite]], str]:
    pages = views(Results(found, averages))
    return thumbnails(pages, [video_paths(page) for page in pages], megabytes)


def pictures(sprite: Sprite) -> list[np.ndarray]:
    """The sprite cut into its pictures."""
    image = np.asarray(Image.open(io.BytesIO(base64.b64decode(sprite.image))).convert("RGB"))
    columns = image.shape[1] // WIDTH
    places = [(n // columns * sprite.height, n % columns * WIDTH) for n in range(len(sprite.seconds))]
    return [image[y : y + sprite.height, x : x + WIDTH] for y, x in places]


def test_each_picture_is_the_frame_of_its_time(root: Path) -> None:
    found, note = drawn(runs(root, "yyy"), 8)
    assert note == "Thumbnails of 3 of 3 videos, those with most flipped questions first."
    for sprite in found[0].values():
        assert sprite.height == WIDTH * 48 // 64
        assert [clips.number(picture) for picture in pictures(sprite)] == [round(s * RATE) for s in sprite.seconds]


def test_a_strip_shows_twelve_evenly_of_what_was_kept(root: Path) -> None:
    found, _ = drawn(runs(root, "yyy"), 8)
    sprite = next(iter(found[0].values()))
    (of_dense, of_few) = sprite.tiles.values()
    assert len(of_dense) == len(of_few) == SHOWN == 12
    assert [round(sprite.seconds[n] * RATE) for n in of_few] == [0, 8, 14, 22, 28, 36, 42, 50, 56, 64, 70, 78]
    assert len(sprite.seconds) < 2 * SHOWN  # frames that both kept stand once


def test_few_cells_are_all_shown(root: Path) -> None:
    found, _ = drawn(runs(root, "yyy", more=range(10, 60, 10)), 8)
    sprite = next(iter(found[0].values()))
    few = sprite.tiles[KeptOverTime(seconds=(0.4, 0.8, 1.2, 1.6, 2.0), tokens=(4.0,) * 5)]
    assert [round(sprite.seconds[n] * RATE) for n in few] == [10, 20, 30, 40, 50]


@pytest.mark.parametrize(("right", "first"), [("yny", "clip_1"), ("yyn", "clip_2")])
def test_flipped_questions_come_first_and_the_room_is_kept(root: Path, right: str, first: str) -> None:
    every, _ = drawn(runs(root, right), 8)
    largest = max(len(sprite.image) for sprite in every[0].values())
    room = 1.5 * largest / 1e6
    found, note = drawn(runs(root, right), room)
    assert [first in video for _, _, video in found[0]] == [True]
    assert sum(len(sprite.image) for sprite in found[0].values()) <= room * 1e6
    assert "Thumbnails of 1 of 3 videos" in note
    assert "the others would take more than" in note


def test_a_video_has_so_many_pictures_at_most(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ours, "MOST", 14)
    found, _ = drawn(runs(root, "yyy"), 8)
    assert all(len(sprite.seconds) <= 14 and len(sprite.tiles) == 1 for sprite in found[0].values())


def test_the_same_answers_give_the_same_images(root: Path) -> None:
    (one, _), (two, _) = (drawn(runs(root, "yny"), 8) for _ in range(2))
    assert one == two
    assert {sprite.image for sprite in one[0].values()} != {""}


def test_videos_that_are_not_there_are_no_error(tmp_path: Path) -> None:
    found, note = drawn(runs(str(tmp_path / "nowhere"), "yyy"), 8)
    assert found == [{}]
    assert note == "No thumbnails: no video could be read below the benchmark.root of config.yaml."


def test_a_broken_video_is_counted(root: Path, tmp_path: Path) -> None:
    write_json(tmp_path / "json" / "1_plotQA.json", [mlvu_row(video=f"clip_{number}.mp4") for number in range(3)])
    (tmp_path / "video").symlink_to(root / "video")
    whole, _ = drawn(runs(tmp_path, "yyy"), 8)
    assert len(whole[0]) == 3
    (tmp_path / "video").unlink()
    for number in range(3):
        path = tmp_path / "video" / "1_plotQA" / f"clip_{number}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"no video" if number == 1 else (root / "video" / "1_plotQA" / path.name).read_bytes())
    found, note = drawn(runs(tmp_path, "yyy"), 8)
    assert len(found[0]) == 2
    assert "1 could not be read" in note


def test_none_are_made_where_none_are_wanted(root: Path) -> None:
    assert drawn(runs(root, "yyy"), 0) == ([{}], "No thumbnails: they were turned off.")


def test_answers_without_what_was_kept(root: Path) -> None:
    old = run("uniform", "reference", 1.0, [row("1", True, kept=None)], root=str(root))
    assert drawn([old], 8) == ([{}], "No thumbnails: what was kept is not in these answers.")


@pytest.mark.skipif(chromium() is None, reason="no chromium on the PATH: apt-get install chromium")
def test_a_browser_shows_them(root: Path, tmp_path: Path) -> None:
    """Each picture's part of the sprite, drawn as the page places it, has its frame's bar code."""
    own = runs(root, "yny")
    page = report.write(Results(own, averages), tmp_path / "out")
    script = """
    const found = [];
    for (const e of document.querySelectorAll("details[open] .picture")) {
      const image = new Image();
      await new Promise((done) => { image.onload = done; image.src = e.style.backgroundImage.slice(5, -2); });
      const [across, down] = e.style.backgroundSize.split(" ").map((text) => parseFloat(text) / 100);
      const [left, top] = e.style.backgroundPosition.split(" ").map((text) => parseFloat(text) / 100);
      const [width, height] = [image.width / across, image.height / down];
      const canvas = new OffscreenCanvas(width, height).getContext("2d");
      canvas.drawImage(image, -left * (image.width - width), -top * (image.height - height));
      const red = (x, y) => canvas.getImageData(x, y, 1, 1).data[0];
      const light = (n) => red(((n % 4) + 0.5) * width / 4, ((n >> 2) + 0.5) * height / 3);
      let number = 0;
      for (let bit = 0; bit < 12; bit += 1) number += light(bit) > 127 ? 1 << bit : 0;
      found.push([number, e.title]);
    }
    return found;
    """
    found = probe(page, script, tmp_path / "browser", address=f"open={own[0].answers[1].question_id}")
    assert len(found) == 2 * SHOWN
    assert all(title == f"{round(number / RATE, 1):g} s" for number, title in found)
    assert [number for number, _ in found[SHOWN:]] == [0, 8, 14, 22, 28, 36, 42, 50, 56, 64, 70, 78]
