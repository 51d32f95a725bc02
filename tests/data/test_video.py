"""Reading videos: every frame of the test clips carries its own number, so a wrong frame is seen."""

from __future__ import annotations

import gc
import logging
import sys
import tracemalloc
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalkit.data.readers import REGISTRY, pyav
from evalkit.data.readers.timeline import opened, scan
from evalkit.data.sampling import Sampling
from evalkit.data.video import decode, probe, resize, resize_nearest
from evalkit.errors import ConfigError, VideoError
from evalkit.types import FramePlan, Frames, Video
from tests.support.clips import (
    audio_only,
    cut_at_start,
    damaged,
    make,
    number,
    picture,
    rotated,
    truncated,
    with_cover,
)

CLOSED = {"x264-params": "scenecut=0"}
OPEN = {"x264-params": "open-gop=1:scenecut=0"}
TICKS = [3, 4, 5, 7, 8, 20, 21, 22, 23, 40, 41, 45, 46, 47, 60, 61, 62, 63, 64, 90]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips that all tests share."""
    root = tmp_path_factory.mktemp("clips")
    make(root / "sparse.mp4", frames=120, keyframes=120, options=CLOSED)
    make(root / "dense.mp4", frames=120, keyframes=8, options=CLOSED)
    make(root / "straight.mp4", frames=120, keyframes=8, b_frames=0, options=CLOSED)
    make(root / "straight.webm", frames=120, keyframes=8, codec="libvpx-vp9", options={"lag-in-frames": "0"})
    make(root / "open.mp4", frames=120, keyframes=30, options=OPEN)
    make(root / "plain.mkv", frames=120, keyframes=30, b_frames=0, options=CLOSED)
    make(root / "rate.mp4", frames=20, keyframes=8, ticks=TICKS)
    make(root / "vp9.webm", frames=60, keyframes=20, codec="libvpx-vp9")
    make(root / "av1.mp4", frames=24, keyframes=8, codec="libsvtav1", size=(64, 64))
    make(root / "odd.mkv", frames=20, size=(49, 67))
    make(root / "bt709.mp4", frames=12, options={"x264-params": "colorprim=bt709:transfer=bt709:colormatrix=bt709"})
    make(root / "full.mp4", frames=12, options={"x264-params": "fullrange=on"})
    make(
        root / "refresh.mkv", frames=60, keyframes=30, b_frames=0, options={"x264-params": "intra-refresh=1:scenecut=0"}
    )
    make(root / "broadcast.ts", frames=60, keyframes=6, b_frames=4, options=CLOSED)
    make(root / "old.flv", frames=60, keyframes=20, options=CLOSED)
    make(root / "one.mp4", frames=1)
    make(
        root / "broad.mp4", frames=60, keyframes=30, size=(288, 384), options=CLOSED
    )  # more than one thread decodes it
    make(root / "fields.mp4", frames=60, keyframes=30, options={"x264-params": "tff=1:scenecut=0"})
    cut_at_start(make(root / "uncut.mp4", frames=60, keyframes=30, options=CLOSED), root / "cut.mp4", 10 * 512)
    return root


ALL = [
    "sparse.mp4",
    "dense.mp4",
    "open.mp4",
    "plain.mkv",
    "rate.mp4",
    "vp9.webm",
    "av1.mp4",
    "odd.mkv",
    "broadcast.ts",
    "old.flv",
    "broad.mp4",
    "fields.mp4",
]
REFUSED = {
    "av1.mp4": "decord knows no AV1",
    "broadcast.ts": "expected an mp4, mov, mkv or webm, got mpegts",
    "old.flv": "got flv",
    "cut.mp4": r"expected 50 frames, decord counts \d+",
}
COLOURS = ["bt709.mp4", "full.mp4"]


@pytest.fixture(params=list(REGISTRY))
def reader(request: pytest.FixtureRequest) -> str:
    """Each reader, where its library works on this machine."""
    name = str(request.param)
    if name == "torchcodec":
        try:
            import torchcodec.decoders  # noqa: F401
        except (ImportError, OSError, RuntimeError) as error:
            pytest.skip(f"torchcodec needs FFmpeg's shared libraries: {error}")
    return name


def plan(video: Video, indices: object = None, size: tuple[int, int] | None = None) -> FramePlan:
    height, width = size or (video.height, video.width)
    chosen = range(video.frames) if indices is None else indices
    return FramePlan(indices=tuple(chosen), height=height, width=width)  # type: ignore[arg-type]


def numbers(frames: Frames) -> list[int]:
    return [number(pixels) for pixels in frames.pixels]


# ---- the bar codes themselves


def test_a_wrong_frame_would_be_seen() -> None:
    assert [number(picture(n, 48, 64)) for n in (0, 1, 119, 4095)] == [0, 1, 119, 4095]
    assert [number(resize(picture(n, 48, 64), 28, 56)) for n in (1, 2, 2047)] == [1, 2, 2047]


# ---- probe


@pytest.mark.parametrize(
    ("name", "frames", "duration", "size"),
    [
        ("sparse.mp4", 120, 4.8, (48, 64)),
        ("plain.mkv", 120, 4.8, (48, 64)),
        ("vp9.webm", 60, 2.4, (48, 64)),
        ("av1.mp4", 24, 0.96, (64, 64)),
        ("odd.mkv", 20, 0.8, (49, 67)),
        ("cut.mp4", 50, 2.0, (48, 64)),
        ("one.mp4", 1, 0.04, (48, 64)),
    ],
)
def test_probe(folder: Path, name: str, frames: int, duration: float, size: tuple[int, int]) -> None:
    video = probe(folder / name)
    assert (video.path, video.frames, (video.height, video.width)) == (folder / name, frames, size)
    assert video.duration_s == pytest.approx(duration)
    assert video.fps == pytest.approx(frames / duration)


def test_probe_of_a_varying_rate_is_its_average(folder: Path) -> None:
    video = probe(folder / "rate.mp4")
    assert video.frames == 20
    assert 87 / 25 < video.duration_s < 120 / 25
    assert video.fps == pytest.approx(20 / video.duration_s)


# ---- which frames


@pytest.mark.parametrize("name", ALL)
def test_every_frame_in_its_place(folder: Path, name: str) -> None:
    video = probe(folder / name)
    (frames,) = decode(video, [plan(video)])
    assert numbers(frames) == list(frames.indices) == list(range(video.frames))
    ticks = TICKS if name == "rate.mp4" else range(video.frames)
    assert frames.seconds == pytest.approx([(tick - ticks[0]) / 25 for tick in ticks], abs=0.002)
    assert frames.seconds[0] == 0.0
    assert frames.pixels.dtype == np.uint8


@pytest.mark.parametrize("name", ALL + COLOURS)
def test_all_readers_give_the_same_frames_bit_for_bit(folder: Path, name: str, reader: str) -> None:
    if reader == "decord" and name in REFUSED:
        pytest.skip("decord is refused, see below")
    video = probe(folder / name)
    some = plan(video, [i for i in range(video.frames) if i % 7 in (1, 2) or i == video.frames - 1])
    (expected,) = decode(video, [plan(video)])
    (frames,) = decode(video, [some], reader)
    assert numbers(frames) == list(frames.indices) == list(some.indices)
    assert np.array_equal(frames.pixels, expected.pixels[list(some.indices)])
    assert frames.seconds == tuple(expected.seconds[i] for i in some.indices)


SEEKABLE = ["sparse.mp4", "dense.mp4", "open.mp4", "plain.mkv", "broadcast.ts"]


@settings(max_examples=40, deadline=None)
@given(
    name=st.sampled_from([*SEEKABLE, "vp9.webm", "broad.mp4", "fields.mp4"]),
    picked=st.sets(st.integers(0, 59), min_size=1, max_size=12),
)
def test_seeking_equals_reading_from_the_beginning(folder: Path, name: str, picked: set[int]) -> None:
    file = scan(folder / name)
    wanted = sorted(picked)
    with closing(pyav.read(file, wanted)) as shots:
        sought = dict(shots)
    assert sorted(sought) == wanted
    with closing(pyav.nearest(file, wanted)) as shots:
        for index, stand_in, rgb in shots:
            assert index == stand_in == number(rgb)
            assert np.array_equal(rgb, sought[index])


@pytest.mark.parametrize(
    ("wanted", "seeks"),
    [([0, 1, 7], 0), ([9], 1), ([9, 10, 11], 1), ([3, 50, 51, 119], 2), ([7, 8], 0), (range(120), 0)],
)
def test_seeks_only_past_a_key_frame(
    folder: Path, monkeypatch: pytest.MonkeyPatch, wanted: list[int], seeks: int
) -> None:
    original, seen = pyav.Cursor._packets_from, []
    monkeypatch.setattr(pyav.Cursor, "_packets_from", lambda self, key: seen.append(key) or original(self, key))
    for name in ("dense.mp4", "straight.mp4", "straight.webm"):
        assert [index for index, _ in pyav.read(scan(folder / name), list(wanted))] == list(wanted)
        assert len(seen) == seeks
        seen.clear()


@pytest.mark.parametrize(
    ("name", "spared"), [("sparse.mp4", True), ("broad.mp4", True), ("plain.mkv", False), ("fields.mp4", False)]
)
def test_frames_that_no_other_refers_to_are_not_decoded(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, spared: bool
) -> None:
    """Where they are not wanted, and unless a picture may be two packets; the frames' equality is tested above."""
    original, seen = pyav.Cursor._decode, []

    def decoded(cursor: pyav.Cursor, packet: Any) -> list[Any]:
        frames = original(cursor, packet)
        seen.extend(frame.pts for frame in frames)
        return frames

    monkeypatch.setattr(pyav.Cursor, "_decode", decoded)
    file = scan(folder / name)
    assert len(list(pyav.read(file, range(29)))) == 29
    assert {*file.ticks[:29]} <= {*seen}
    seen.clear()
    assert [index for index, _ in pyav.read(file, [28])] == [28]
    assert file.ticks[28] in seen
    assert (len(seen) <= 20) == spared
    with opened(file.path) as (container, stream), closing(pyav.Cursor(container, stream, file, frozenset())) as none:
        lost = [none.advance(tick) for tick in file.ticks[:29]]
    assert (len({frame.pts for frame in lost}) < 29) == spared  # the negative control: a cursor that wants no frame


def test_one_pass_for_all_plans(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original, seen = pyav.upright_rgb, []
    monkeypatch.setattr(pyav, "upright_rgb", lambda frame: seen.append(frame.pts) or original(frame))
    video = probe(folder / "dense.mp4")
    seen.clear()
    plans = [
        plan(video, [1, 5, 9], (28, 28)),
        plan(video, [5, 9, 30]),
        plan(video, [1, 5, 9], (28, 28)),
        plan(video, [5]),
    ]
    first, second, third, fourth = decode(video, plans)
    assert len(seen) == 4  # frames 1, 5, 9, 30
    assert third is first
    assert [numbers(frames) for frames in (first, second, fourth)] == [[1, 5, 9], [5, 9, 30], [5]]
    assert [frames.pixels.shape for frames in (first, second)] == [(3, 28, 28, 3), (3, 48, 64, 3)]
    assert np.array_equal(first.pixels[1], resize(second.pixels[0], 28, 28))
    assert np.array_equal(second.pixels[0], fourth.pixels[0])
    assert decode(video, []) == []


def test_frames_hidden_by_an_edit_list_are_not_counted(folder: Path, reader: str) -> None:
    video = probe(folder / "cut.mp4")
    if reader == "decord":
        pytest.skip("decord is refused, see below")
    (frames,) = decode(video, [plan(video, [0, 1, 30, 49])], reader)
    assert numbers(frames) == [10, 11, 40, 59]
    assert frames.seconds == pytest.approx([0.0, 0.04, 1.2, 1.96])


def test_a_picture_refreshed_bit_by_bit(folder: Path, reader: str) -> None:
    """Behind such a key frame the first frames do not decode: they are read from further back."""
    if reader == "decord":
        pytest.skip("decord gives wrong frames there and no sign of it")
    video = probe(folder / "refresh.mkv")
    with closing(pyav.read(scan(video.path), [31])) as shots:
        assert list(shots) == []  # else this clip tests nothing
    (frames,) = decode(video, [plan(video, [2, 31, 45])], reader)
    assert numbers(frames) == [2, 31, 45]


@pytest.mark.parametrize(("degrees", "turns"), [(90, 3), (180, 2), (270, 1)])
def test_a_video_shot_on_its_side_comes_upright(
    folder: Path, tmp_path: Path, degrees: int, turns: int, reader: str
) -> None:
    turned = probe(rotated(folder / "dense.mp4", tmp_path / "turned.mp4", degrees))
    assert (turned.height, turned.width) == ((48, 64) if degrees == 180 else (64, 48))
    if reader == "decord" and degrees != 180:
        with pytest.raises(VideoError, match="expected 3 colour channels, got 4"):
            decode(turned, [plan(turned, [3])], reader)
        return
    (frames,) = decode(turned, [plan(turned, [3, 70])], reader)
    upright = probe(folder / "dense.mp4")
    (expected,) = decode(upright, [plan(upright, [3, 70])])
    assert np.array_equal(frames.pixels, np.rot90(expected.pixels, turns, axes=(1, 2)))
    assert not np.array_equal(frames.pixels[0], np.rot90(expected.pixels[0], turns + 2))


@pytest.mark.parametrize("name", COLOURS)
def test_a_reader_blind_to_matrix_and_range_would_be_seen(folder: Path, name: str) -> None:
    """What the stream says of its colours changes them, so the comparison of readers above can fail."""
    video = probe(folder / name)
    (frames,) = decode(video, [plan(video, [0])])
    plain = probe(folder / "dense.mp4")
    (limited,) = decode(plain, [plan(plain, [0])])
    assert not np.array_equal(frames.pixels, limited.pixels)


# ---- size and memory


@pytest.mark.parametrize("size", [(28, 28), (56, 84), (112, 112), (48, 28)])
def test_resizing_is_torchvisions(size: tuple[int, int]) -> None:
    torch = pytest.importorskip("torch")
    transforms = pytest.importorskip("torchvision.transforms.v2.functional")
    if "AVX" not in torch.backends.cpu.get_cpu_capability():
        pytest.skip("torchvision goes through floats on this processor")
    rgb = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    bicubic = transforms.InterpolationMode.BICUBIC
    expected = transforms.resize(torch.from_numpy(rgb).permute(2, 0, 1), list(size), bicubic, antialias=True)
    assert np.array_equal(resize(rgb, *size), expected.permute(1, 2, 0).numpy())
    rough = transforms.resize(torch.from_numpy(rgb).permute(2, 0, 1), list(size), bicubic, antialias=False)
    assert not np.array_equal(resize(rgb, *size), rough.permute(1, 2, 0).numpy())


def test_resizing_to_the_same_size_changes_nothing() -> None:
    rgb = picture(77, 28, 56)
    assert resize(rgb, 28, 56) is rgb


def centres(part: int, whole: int) -> list[int]:
    """Which of `whole` pixels lies under the centre of each of `part`, in steps summed up as Pillow sums them."""
    step, at, found = whole / part, whole / part * 0.5, []
    for _ in range(part):
        found.append(int(at))
        at += step
    return found


@pytest.mark.parametrize("size", [(28, 28), (47, 63), (96, 128), (31, 200), (1, 1)])
def test_nearest_takes_the_pixel_at_each_centre(size: tuple[int, int]) -> None:
    rgb = np.random.default_rng(1).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    found = resize_nearest(rgb, *size)
    assert found.flags.writeable
    assert np.array_equal(found, rgb[centres(size[0], 48)][:, centres(size[1], 64)])
    if size != (96, 128):  # negative control: the pixel at each corner
        corners = [np.arange(part) * whole // part for part, whole in zip(size, (48, 64), strict=True)]
        assert not np.array_equal(found, rgb[corners[0]][:, corners[1]])


def test_frames_shrink_by_nearest_neighbour_first(folder: Path, reader: str) -> None:
    video = probe(folder / "dense.mp4")
    (full,) = decode(video, [plan(video, [3, 50])])
    small = plan(video, [3, 50], (28, 28))
    (frames,) = decode(video, [replace(small, nearest=(33, 44))], reader)
    assert np.array_equal(frames.pixels, [resize(resize_nearest(rgb, 33, 44), 28, 28) for rgb in full.pixels])
    direct, only = decode(video, [small, replace(small, nearest=(28, 28))], reader)
    assert not np.array_equal(frames.pixels, direct.pixels)
    assert np.array_equal(only.pixels, [resize_nearest(rgb, 28, 28) for rgb in full.pixels])


def test_a_fixed_rate_goes_by_the_timestamps_of_a_varying_one(folder: Path, reader: str) -> None:
    """TICKS are 25ths of a second from 3 on; at 5 frames a second the frame on screen every 5 ticks is taken."""
    video = probe(folder / "rate.mp4")
    assert video.seconds == tuple(scan(video.path).seconds(i) for i in range(20))
    assert video.seconds == pytest.approx([(tick - 3) / 25 for tick in TICKS], abs=0.002)
    sampling = Sampling(preset="fps", fps=5.0, frames=768, min_pixels=784, max_pixels=784)
    indices = sampling.indices(video, sampling.count(video, 1))
    steps = range(0, round(25 * video.duration_s), 5)
    shown = sorted({max(i for i, tick in enumerate(TICKS) if tick - 3 <= step) for step in steps})
    assert list(indices) == shown == [0, 4, 8, 10, 13, 17, 18]
    (frames,) = decode(video, [plan(video, indices)], reader)
    assert numbers(frames) == list(indices)
    assert sampling.indices(replace(video, seconds=None), 7) != indices  # at the average rate


def test_memory_is_that_of_the_output(tmp_path: Path, reader: str) -> None:
    video = probe(make(tmp_path / "large.mp4", frames=40, size=(360, 640)))
    full = 360 * 640 * 3
    decode(video, [plan(video, [0], (28, 56))], reader)  # imports
    tracemalloc.start()
    try:
        (frames,) = decode(video, [plan(video, None, (28, 56))], reader)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        (whole,) = decode(video, [plan(video)], reader)
        _, all_frames = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert numbers(frames) == numbers(whole) == list(range(40))
    assert peak < 5 * full
    assert all_frames > 40 * full  # the measure sees frames


# ---- bad files


def test_a_cut_off_file_gives_what_it_has(tmp_path: Path, reader: str) -> None:
    whole = make(tmp_path / "whole.mp4", frames=120, keyframes=40, muxer={"movflags": "faststart"})
    video = probe(truncated(whole, tmp_path / "cut.mp4", 0.7))
    assert 40 < video.frames < 110  # the header still says 120
    if reader == "decord":
        with pytest.raises(VideoError, match="set reader=pyav"):
            decode(video, [plan(video)], reader)
        return
    (frames,) = decode(video, [plan(video)], reader)
    assert frames.pixels.shape == (video.frames, 48, 64, 3)
    assert frames.indices == tuple(range(video.frames))  # what is cut off was not counted
    assert numbers(frames)[:-4] == list(range(video.frames - 4))


def test_damage_is_bridged_and_said(tmp_path: Path, reader: str, caplog: pytest.LogCaptureFixture) -> None:
    whole = make(tmp_path / "whole.mp4", frames=120, keyframes=20, options=CLOSED, muxer={"movflags": "faststart"})
    video = probe(damaged(whole, tmp_path / "hole.mp4", 0.6, 0.7))
    with caplog.at_level(logging.WARNING):
        (frames,) = decode(video, [plan(video)], reader)
    assert frames.pixels.shape == (120, 48, 64, 3)
    assert "of 120 wanted frames do not decode" in caplog.text
    assert str(video.path) in caplog.text
    assert list(frames.indices) == sorted(frames.indices) != list(range(120))
    assert list(frames.seconds) == [index / 25 for index in frames.indices]
    assert numbers(frames)[:40] == list(range(40))


def test_a_damaged_beginning_is_bridged_from_behind(tmp_path: Path) -> None:
    whole = make(tmp_path / "whole.mp4", frames=120, keyframes=20, options=CLOSED, muxer={"movflags": "faststart"})
    video = probe(damaged(whole, tmp_path / "hole.mp4", 0, 0.1))
    (frames,) = decode(video, [plan(video, [0, 60, 100])])
    assert frames.indices[0] > 0
    assert numbers(frames) == list(frames.indices) == [frames.indices[0], 60, 100]


def test_mostly_damaged(tmp_path: Path) -> None:
    whole = make(tmp_path / "whole.mp4", frames=120, keyframes=120, options=CLOSED, muxer={"movflags": "faststart"})
    video = probe(damaged(whole, tmp_path / "hole.mp4", 0.4, 0.99))
    with pytest.raises(VideoError, match=r"hole\.mp4: expected at least half of 120 wanted frames to decode, got \d+;"):
        decode(video, [plan(video)])


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("missing", "expected a video file, got: .*No such file"),
        ("empty", "expected a video file, got 0 bytes"),
        ("folder", "got something that is no file"),
        ("text", "expected a video that FFmpeg can read, got"),
        ("audio", "expected a file with a video stream, got: audio"),
        ("cover", r"expected a file with a video stream, got: audio, video \(a cover picture\)"),
        ("avi", r"expected a presentation time for every frame, the container \(avi\) has none"),
        ("headless", "expected a video that FFmpeg can read, got"),
        ("noise", "of which none does"),
    ],
)
def test_probe_says_what_is_wrong(tmp_path: Path, kind: str, message: str) -> None:
    path = tmp_path / f"{kind}.mp4"
    match kind:
        case "empty":
            path.touch()
        case "folder":
            path.mkdir()
        case "text":
            path.write_text("Not a video at all. " * 50)
        case "audio":
            path = audio_only(tmp_path / "audio.m4a")
        case "cover":
            with_cover(path)
        case "avi":
            path = make(tmp_path / "avi.avi", frames=10)
        case "headless":
            truncated(make(tmp_path / "whole.mp4", frames=60), path, 0.5)
        case "noise":
            whole = make(tmp_path / "whole.mp4", frames=60, muxer={"movflags": "faststart"})
            damaged(whole, path, 0, 1)
    with pytest.raises(VideoError, match=message) as caught:
        probe(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("name", ["x" * 300 + ".mp4", "a\0b.mp4", "http:/host/v.mp4"])
def test_names_that_are_no_files(tmp_path: Path, name: str) -> None:
    with pytest.raises(VideoError, match="expected a video file"):
        probe(tmp_path / name)


def test_unusual_names_are_read(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reader: str) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("concat:видео 影片 %03d.mp4", "-i.mp4"):
        Path(name).write_bytes((folder / "dense.mp4").read_bytes())
        video = probe(Path(name))
        assert numbers(decode(video, [plan(video, [60])], reader)[0]) == [60]


def test_a_file_that_changed_since_it_was_probed(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "v.mp4"
    path.write_bytes((folder / "dense.mp4").read_bytes())
    video = probe(path)
    path.write_bytes((folder / "rate.mp4").read_bytes())
    with pytest.raises(VideoError, match="expected 120 frames, found 20; the file changed"):
        decode(video, [plan(video, [3])])


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts open files in /proc")
def test_no_file_stays_open(folder: Path, tmp_path: Path, reader: str) -> None:
    whole = make(tmp_path / "whole.mp4", frames=60, keyframes=60, muxer={"movflags": "faststart"})
    hole = probe(damaged(whole, tmp_path / "hole.mp4", 0.4, 0.99))
    good = probe(folder / "dense.mp4")

    def read() -> None:
        decode(good, [plan(good, [3, 80])], reader)
        with pytest.raises(VideoError):
            decode(hole, [plan(hole)], reader)
        with pytest.raises(VideoError):
            probe(truncated(whole, tmp_path / "cut.mp4", 0.01))

    read()
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        read()
    assert len(list(Path("/proc/self/fd").iterdir())) <= before


# ---- bad requests


@pytest.mark.parametrize(
    ("indices", "message"),
    [
        ([], "expected a plan with frames, got 0"),
        ([-1, 3], r"expected frame numbers in \[0, 120\), got -1 to 3"),
        ([3, 120], r"expected frame numbers in \[0, 120\), got 3 to 120"),
        ([3, 3], r"expected unique ascending frame numbers, got \(3, 3\)"),
        ([4, 3], r"expected unique ascending frame numbers, got \(4, 3\)"),
    ],
)
def test_wrong_plans(folder: Path, indices: list[int], message: str) -> None:
    video = probe(folder / "dense.mp4")
    with pytest.raises(ValueError, match=message):
        decode(video, [plan(video), plan(video, indices)])


def test_unknown_reader(folder: Path) -> None:
    video = probe(folder / "dense.mp4")
    with pytest.raises(ConfigError, match=r"expected one of pyav, torchcodec, decord \(evalkit\); got 'opencv'"):
        decode(video, [plan(video, [0])], "opencv")


@pytest.mark.parametrize(("name", "module"), [("torchcodec", "torchcodec.decoders"), ("decord", "decord")])
def test_a_reader_whose_library_does_not_load(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, module: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    video = probe(folder / "dense.mp4")
    with pytest.raises(ConfigError, match=f"reader={name}: .*set reader=pyav"):
        decode(video, [plan(video, [0])], name)


@pytest.mark.parametrize("name", REFUSED)
def test_decord_is_refused_what_it_misreads(folder: Path, name: str) -> None:
    video = probe(folder / name)
    with pytest.raises(
        VideoError, match=f"not readable with reader=decord: .*{REFUSED[name]}.*set reader=pyav"
    ) as caught:
        decode(video, [plan(video, [0])], "decord")
    assert str(video.path) in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("closes", [True, False])
def test_decoders_are_let_go_at_once(closes: bool, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not when the garbage collector comes by: frames of many videos would add up. Without the closing they stay."""
    if not closes:
        monkeypatch.setattr(pyav.Cursor, "close", lambda _: None)
    gc.collect()
    gc.disable()
    try:
        file = scan(folder / "dense.mp4")
        assert len(list(pyav.read(file, [1, 2]))) == len(list(pyav.nearest(file, [1, 2]))) == 2
        next(pyav.read(file, [0, 1]))
        assert any(type(one) is pyav.Cursor for one in gc.get_objects()) is not closes
    finally:
        gc.enable()
