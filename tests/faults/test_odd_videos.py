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
from tests.support import clips
from tests.support.clips import make, number
from tests.support.loop import DENSE, answer, engine, question

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from evalkit.model.families.qwen2_vl import Qwen2VL
    from evalkit.types import Video

FAST = {"movflags": "faststart"}  # the index in front, as downloads have it
HOURS = [600 * n for n in range(36)]


def plan(video: Video, indices: tuple[int, ...]) -> FramePlan:
    return FramePlan(indices=indices, height=video.height, width=video.width)


def linked(path: Path) -> Path:
    place = path.with_name("elsewhere")
    place.mkdir()
    path.symlink_to(make(place / "v.mp4", frames=20))
    return path


def edited(path: Path) -> Path:
    """Its first ten frames have times below 0, and are hidden."""
    return clips.cut_at_start(make(path.with_name("uncut.mp4"), frames=60, keyframes=30), path, 10 * 512)


def turned(path: Path) -> Path:
    return clips.rotated(make(path.with_name("upright.mp4"), frames=20), path, 180)


FRAGMENTED = {"movflags": "frag_keyframe+empty_moov"}
WHOLE: dict[str, tuple[str, Callable[[Path], Path], int]] = {  # name -> suffix, how it is made, frames
    "hevc": (".mp4", lambda path: make(path, frames=20, codec="libx265"), 20),
    "10 bits": (".mkv", lambda path: make(path, frames=20, codec="libx265", pixels="yuv420p10le"), 20),
    "4:4:4": (".mp4", lambda path: make(path, frames=20, pixels="yuv444p"), 20),
    "turned": (".mp4", turned, 20),
    "fragments": (".mp4", lambda path: make(path, frames=60, keyframes=20, muxer=FRAGMENTED), 60),
    "4K": (".mp4", lambda path: make(path, frames=2, rate=1, size=(2160, 3840), options={"preset": "ultrafast"}), 2),
    "six hours": (".mp4", lambda path: make(path, frames=36, rate=1, ticks=HOURS), 36),
    "edit list, negative times": (".mp4", edited, 50),
    "a link out of its folder": (".mp4", linked, 20),
    "longer sound": (".mp4", lambda path: clips.with_long_sound(path, 25, 4), 25),
    "longer sound, of mkv": (".mkv", lambda path: clips.with_long_sound(path, 25, 4), 25),
    "mp4 that promises too much": (".mp4", lambda path: clips.lying_mp4(straight(path), path, 10), 60),
    "webm that promises too much": (
        ".webm",
        lambda path: clips.lying_matroska(make(whole(path), frames=60, codec="libvpx-vp9"), path, 10),
        60,
    ),
    "avi that promises too much": (".avi", lambda path: clips.lying_avi(straight(path), path, 600), 60),
    "no duration at all": (".mkv", lambda path: make(path, frames=20, muxer={"live": "1"}), 20),
}


def whole(path: Path) -> Path:
    return path.with_name("whole" + path.suffix)


def straight(path: Path) -> Path:
    """Frames in the order in which they are shown, as AVI must have them; no edit list is needed."""
    return make(whole(path), frames=60, b_frames=0, muxer=FAST if path.suffix == ".mp4" else None)


@pytest.mark.parametrize("kind", WHOLE)
def test_odd_but_whole(kind: str, tmp_path: Path) -> None:
    suffix, made, frames = WHOLE[kind]
    video = probe(made(tmp_path / f"v{suffix}"))
    assert (video.frames, video.short) == (frames, "")
    wanted = tuple(sorted({0, frames // 2, frames - 1}))
    (found,) = decode(video, [plan(video, wanted)])
    first = 10 if kind.startswith("edit") else 0
    shown = [pixels[::-1, ::-1] if kind == "turned" else pixels for pixels in found.pixels]
    assert [number(pixels) for pixels in shown] == [first + index for index in wanted]
    if kind == "six hours":
        assert found.seconds == (0.0, 10_800.0, 21_000.0)


def test_the_lies_are_told(tmp_path: Path) -> None:
    """Else the files above would be whole without a closer look."""
    for name in ("webm that promises too much", "avi that promises too much", "longer sound, of mkv"):
        suffix, made, _ = WHOLE[name]
        folder = tmp_path / name
        folder.mkdir()
        file = timeline.scan(made(folder / f"v{suffix}"))
        said = file.header.stream_seconds or file.header.seconds
        assert shortfall.is_short(float(file.end), said), name


SHORT = [(".mp4", 0.5), (".mp4", 0.3), (".mkv", 0.6), (".webm", 0.6), (".avi", 0.6), (".flv", 0.6)]


def cut(path: Path, share: float) -> Path:
    made = make(whole(path), frames=60, codec="libvpx-vp9") if path.suffix == ".webm" else straight(path)
    data = made.read_bytes()
    start = max(data.find(b"mdat"), data.find(b"movi"), 0)  # of the pictures, where the head is long
    path.write_bytes(data[: start + int((len(data) - start) * share)])
    return path


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
    asked = [question(whole(path), number, duration_s=seconds) for number, seconds in enumerate((2.4, 3.0, 3.9, 60.0))]
    said = [row.short for row in answer(engine(backbone), [DENSE], asked).values()]
    assert said == [None, None, "3.9 s annotated, the file has 2.4 s", None]


def lists_and_devices(folder: Path) -> Iterator[tuple[str, Path, str]]:
    make(folder / "real.ts", frames=20)
    playlist = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nreal.ts\n#EXT-X-ENDLIST\n"
    texts = {"hls.mp4": playlist, "hls.m3u8": playlist, "concat.mp4": "ffconcat version 1.0\nfile real.ts\n"}
    for name, text in texts.items():
        (folder / name).write_text(text)
        yield name, folder / name, "got a list of other files, which are not opened"
    os.mkfifo(folder / "pipe.mp4")
    (folder / "device.mp4").symlink_to("/dev/zero")
    for name in ("pipe.mp4", "device.mp4"):
        yield name, folder / name, "got something that is no file"


def test_no_list_pipe_or_device_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, path, says in lists_and_devices(tmp_path):
        with pytest.raises(VideoError, match=says):
            probe(path)
        if path.is_file():
            monkeypatch.setattr(timeline, "LISTS", ())  # FFmpeg is kept from it a second time
            with pytest.raises(VideoError, match="expected a video that FFmpeg can read"):
                probe(path)
            monkeypatch.undo()
        assert name
    monkeypatch.setattr(timeline, "LISTS", ())
    monkeypatch.setattr(timeline, "CONTAINERS", timeline.CONTAINERS + ",concat")  # negative control
    assert probe(tmp_path / "concat.mp4").frames == 20


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


def test_a_gap_of_zeros_gives_no_wrong_frame(tmp_path: Path) -> None:
    """What does not decode is stood in for by an earlier frame, which is named as it is."""
    made = make(tmp_path / "whole.mp4", frames=120, keyframes=20, options={"x264-params": "scenecut=0"}, muxer=FAST)
    video = probe(clips.zeroed(made, tmp_path / "v.mp4", 0.6, 0.7))
    assert (video.frames, video.short) == (120, "")
    (frames,) = decode(video, [plan(video, tuple(range(120)))])
    assert frames.indices != tuple(range(120))
    agree = [number(pixels) == index for pixels, index in zip(frames.pixels, frames.indices, strict=True)]
    assert all(agree[:40] + agree[-20:])  # beside the gap a decoder may show a damaged picture for a whole one
