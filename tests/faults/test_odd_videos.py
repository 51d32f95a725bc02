"""Video files that are odd, or lie: the right frames, or one reason why there are none."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from evalkit.data import shortfall
from evalkit.data.decoding.source import DecodeInProcess
from evalkit.data.prepare import verify
from evalkit.data.readers import announced, timeline
from evalkit.data.video import decode, expect_whole, probe, raw_frames
from evalkit.errors import VideoError
from evalkit.types import FramePlan
from tests.support.clips import make, number
from tests.support.loop import DENSE, answer, engine, question
from tests.support.no_videos import LISTS, REFUSED, UNREADABLE
from tests.support.odd_videos import FAST, VARYING, WHOLE, beside
from tests.support.spoilt_videos import SHORT, cut, gap_of_zeros, substituted

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from evalkit.model.families.qwen2_vl import Qwen2VL
    from evalkit.types import Video

TIMES = {"six hours": [0.0, 10_800.0, 21_000.0], "a varying rate": [VARYING[place] / 25 for place in (0, 3, 5)]}


def plan(video: Video, indices: tuple[int, ...]) -> FramePlan:
    return FramePlan(indices=indices, height=video.height, width=video.width)


def test_there_are_enough_of_them() -> None:
    """Many kinds of files, so that a table that was emptied is seen."""
    assert len(WHOLE) + len(REFUSED) + len(SHORT) > 90


@pytest.mark.parametrize("kind", WHOLE)
def test_odd_but_whole(kind: str, tmp_path: Path) -> None:
    one = WHOLE[kind]
    video = probe(one.made(tmp_path / f"v{one.suffix}"))
    assert (video.frames, video.short) == (one.frames, "")
    wanted = tuple(sorted({0, one.frames // 2, one.frames - 1}))
    (found,) = decode(video, [plan(video, wanted)])
    shown = [pixels[::-1, ::-1] if kind == "turned" else pixels for pixels in found.pixels]
    assert [number(pixels) for pixels in shown] == [one.first + index for index in wanted]
    assert kind not in TIMES or list(found.seconds) == TIMES[kind]


@pytest.mark.parametrize("kind", REFUSED)
def test_no_video(kind: str, tmp_path: Path) -> None:
    suffix, made, says = REFUSED[kind]
    path = made(tmp_path / f"v{suffix}")
    with pytest.raises(VideoError, match=rf"v{suffix}: .*{says}"):
        probe(path)


def test_the_lies_are_told(tmp_path: Path) -> None:
    """Else the files above would be whole without a closer look."""
    for name in ("webm that promises too much", "avi that promises too much", "longer sound, of mkv"):
        folder = tmp_path / name
        folder.mkdir()
        file = timeline.scan(WHOLE[name].made(folder / f"v{WHOLE[name].suffix}"))
        said = file.header.stream_seconds or file.header.seconds
        assert shortfall.is_short(float(file.end), said), name


@pytest.mark.parametrize(("suffix", "share"), SHORT)
def test_cut_off(suffix: str, share: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = cut(tmp_path / f"v{suffix}", share)
    video = probe(path)
    says = "60 frames announced, [0-9]+ are there" if suffix in (".mp4", ".avi") else r"2\.4 s announced, \d\.\d s are"
    with pytest.raises(VideoError, match=rf"v{suffix}: {says}.*; fetch it again, or set decode.tolerate_short=true"):
        expect_whole(video)
    with pytest.raises(VideoError, match="announced"):
        verify.decodes(path)
    with pytest.raises(VideoError, match="announced"):
        DecodeInProcess().probe(path)
    assert DecodeInProcess(tolerate_short=True).probe(path) == video
    (frames,) = decode(video, [plan(video, (0,))])
    assert number(frames.pixels[0]) == 0
    monkeypatch.setattr(announced, "is_short", lambda found, announced: False)  # negative control
    expect_whole(probe(path))


def test_answers_say_what_is_missing(backbone: Qwen2VL, tmp_path: Path) -> None:
    path = cut(tmp_path / "v.mp4", 0.6)
    (row,) = answer(engine(backbone), [DENSE], [question(path, 0)]).values()
    assert (row.status, row.short) == ("failed", None)
    assert "60 frames announced" in str(row.error)
    tolerant = engine(backbone, source=DecodeInProcess(tolerate_short=True))
    (row,) = answer(tolerant, [DENSE], [question(path, 0)]).values()
    assert row.error is None
    assert str(row.short).startswith("60 frames announced")
    asked = [question(beside(path), number, duration_s=seconds) for number, seconds in enumerate((2.4, 3.0, 3.9, 60.0))]
    said = [row.short for row in answer(engine(backbone), [DENSE], asked).values()]
    assert said == [None, None, "3.9 s annotated, the file has 2.4 s", None]
    spans = (((0.0, 2.4),), ((2.0, 3.0),), ((1.0, 3.9), (0.0, 1.0)), ((50.0, 60.0),))  # to whole seconds: rounded
    asked = [question(beside(path), number, evidence_s=own) for number, own in enumerate(spans)]
    said = [row.short for row in answer(engine(backbone), [DENSE], asked).values()]
    ends = [f"{end} s in evidence spans, the file has 2.4 s" for end in (3.9, 60.0)]
    assert said == [None, None, *ends]


@pytest.mark.parametrize("kind", LISTS)
def test_ffmpeg_is_kept_from_lists_a_second_time(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = LISTS[kind](tmp_path / "v.mp4")
    monkeypatch.setattr(timeline, "LISTS", ())
    with pytest.raises(VideoError, match=UNREADABLE):
        probe(path)
    if kind == "concat":  # negative control
        monkeypatch.setattr(timeline, "CONTAINERS", timeline.CONTAINERS + ",concat")
        assert probe(path).frames == 20


def test_a_file_that_changes_while_it_is_read(tmp_path: Path) -> None:
    path = make(tmp_path / "v.mp4", frames=60)
    video = probe(path)
    frames = raw_frames(video, [plan(video, (0, 30, 59))])
    next(frames)
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))
    with pytest.raises(VideoError, match="the file changed while it was read"):
        list(frames)
    with pytest.raises(VideoError, match="the file changed while it was read"):  # between probing and decoding
        list(raw_frames(video, [plan(video, (0,))]))
    same = probe(path)
    assert len(list(raw_frames(same, [plan(same, (0, 30, 59))]))) == 3


@pytest.mark.parametrize("spoil", [gap_of_zeros, substituted])
def test_other_bytes_inside_give_no_wrong_frame(spoil: Callable[[Path, Path], Path], tmp_path: Path) -> None:
    """What does not decode is stood in for by an earlier frame, which is named as it is."""
    made = make(tmp_path / "whole.mp4", frames=120, keyframes=20, options={"x264-params": "scenecut=0"}, muxer=FAST)
    video = probe(spoil(made, tmp_path / "v.mp4"))
    assert (video.frames, video.short) == (120, "")
    (frames,) = decode(video, [plan(video, tuple(range(120)))])
    assert frames.indices != tuple(range(120))
    agree = [number(pixels) == index for pixels, index in zip(frames.pixels, frames.indices, strict=True)]
    assert all(agree[:40] + agree[-20:])  # beside the gap a decoder may show a damaged picture for a whole one
