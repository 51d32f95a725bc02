"""Frame sampling and resolution presets."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from evalkit.data.sampling import (
    PRESETS,
    Sampling,
    dynamic_fps1,
    qwen_vl_utils_pool,
    rounded_linspace,
    smart_resize,
)
from evalkit.data.video import probe
from evalkit.errors import ConfigError, VideoError
from evalkit.types import Video
from tests.support import clips, one_process

CONF = Path(__file__).parents[2] / "conf" / "sampling"


def video(frames: int, fps: float = 25.0, height: int = 360, width: int = 640) -> Video:
    return Video(path=Path("v.mp4"), duration_s=frames / fps, fps=fps, frames=frames, height=height, width=width)


def sampling(preset: str, **settings: object) -> Sampling:
    defaults: dict[str, object] = {"frames": 32, "fps": 2.0, "min_pixels": 3136, "max_pixels": 602112}
    return Sampling(preset=preset, **(defaults | settings))  # type: ignore[arg-type]


def composed(name: str) -> Sampling:
    return Sampling(**OmegaConf.to_container(OmegaConf.load(CONF / f"{name}.yaml")))  # type: ignore[arg-type]


# ---- what holds for every preset


@settings(max_examples=150, deadline=None)
@given(
    preset=st.sampled_from(PRESETS),
    frames=st.integers(1, 40_000),
    fps=st.sampled_from([1.0, 12.5, 23.976, 25.0, 30000 / 1001, 60.0]),
    rate=st.sampled_from([0.5, 1.0, 2.0, 4.0, 8.0]),
    cap=st.integers(2, 2048),
    cell=st.sampled_from([1, 2, 4]),
    share=st.floats(0.01, 1.0),
)
def test_any_preset_picks_unique_ascending_whole_cells(
    preset: str, frames: int, fps: float, rate: float, cap: int, cell: int, share: float
) -> None:
    clip, sampler = video(frames, fps), sampling(preset, frames=cap, fps=rate)
    count = sampler.count(clip, cell)
    assert 1 <= count <= min(cap, frames)
    assert count % cell == 0 or count == min(frames, cap) < cell
    for n in (count, max(1, round(count * share))):
        indices = sampler.indices(clip, n)
        assert len(indices) == n
        assert all(type(index) is int for index in indices)
        assert list(indices) == sorted(set(indices))
        assert indices[0] >= 0
        assert indices[-1] < frames


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize(("frames", "count"), [(1, 1), (2, 2), (3, 2), (5, 4)])
def test_short_videos(preset: str, frames: int, count: int) -> None:
    sampler = sampling(preset, fps=25.0)
    assert sampler.count(video(frames), 2) == count
    assert sampler.count(video(frames), 1) in (frames, frames // 2 * 2)
    assert sampler.indices(video(frames), frames) == tuple(range(frames))


@pytest.mark.parametrize("n", [0, -1, 11])
def test_more_frames_than_there_are(n: int) -> None:
    with pytest.raises(ValueError, match=f"1 to 10 frames, got n = {n}"):
        sampling("fps").indices(video(10), n)


# ---- lmms_eval


def test_lmms_eval_is_an_integer_linspace() -> None:
    sampler = sampling("lmms_eval", fps=None)
    assert sampler.count(video(1000), 2) == 32
    for n in (1, 7, 32):
        assert sampler.indices(video(1000), n) == tuple(np.linspace(0, 999, n, dtype=int).tolist())
    assert sampler.indices(video(1000), 32)[-1] == 999


def test_lmms_eval_on_what_qwen_vl_utils_hands_on() -> None:
    sampler = composed("lmms_eval")
    assert sampler.count(video(250), 2) == 20  # 10 seconds at 2 frames a second, below the cap
    assert sampler.count(video(25_000), 2) == 32
    pool = qwen_vl_utils_pool(1000, 25.0, 2.0)
    assert len(pool) == 80
    assert sampler.indices(video(1000), 32) == tuple(pool[i] for i in np.linspace(0, 79, 32, dtype=int))
    assert sampler.indices(video(1000), 32) != sampling("lmms_eval", fps=None).indices(video(1000), 32)


@pytest.mark.parametrize("frames", [2, 3, 5, 49, 250, 999, 9_001, 19_200, 90_001])
@pytest.mark.parametrize("fps", [25.0, 30000 / 1001])
def test_qwen_vl_utils_agrees(frames: int, fps: float) -> None:
    utils = pytest.importorskip("qwen_vl_utils.vision_process", reason="qwen-vl-utils is not installed")
    torch = pytest.importorskip("torch")
    n = utils.smart_nframes({}, total_frames=frames, video_fps=fps)
    pool = torch.linspace(0, frames - 1, n).round().long().tolist()  # the line that its three readers share
    assert qwen_vl_utils_pool(frames, fps, 2.0) == pool
    total = utils.MODEL_SEQ_LEN * 28 * 28 * 0.9
    for least in (3136, 300_000):
        most = max(min(utils.VIDEO_MAX_TOKEN_NUM * 28 * 28, total / n * 2), int(least * 1.05))
        expected = utils.smart_resize(1080, 1920, factor=28, min_pixels=least, max_pixels=min(602112, most))
        assert sampling("lmms_eval", min_pixels=least).size(video(frames, fps, 1080, 1920), 28) == expected


# ---- lmms_eval_qwen2_5_vl, lmms_eval_qwen3_vl


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[tuple[Path, list[Any]]]]:
    """By class of lmms-eval: clips, and what the class shows its model of each.

    The first clip is eight minutes of 1280 × 720, but of 40 frames alone, so that it is quickly made.
    """
    folder = tmp_path_factory.mktemp("clips")
    long = clips.make(folder / "long.mp4", frames=40, size=(720, 1280), rate=1, ticks=[12 * i for i in range(40)])
    both = [long, clips.make(folder / "usual.mp4", frames=60, size=(360, 640))]
    short = clips.make(folder / "short.mp4", frames=5, size=(96, 128))
    asked = {"qwen2_5_vl": [*both, short], "qwen3_vl": both}  # the other class fails on the short one
    words = [f"{name}={file}" for name, files in asked.items() for file in files]
    command = ["-m", "tests.support.lmms_chat_class", *words]
    told, stderr = one_process.run({"classes": command}, Path(__file__).parents[2], os.environ)
    assert "classes" in told, stderr
    lines = [json.loads(line) for line in told["classes"].out.splitlines() if line.startswith("[")]
    assert len(lines) == len(words)
    return {name: [(file, lines.pop(0)) for file in files] for name, files in asked.items()}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "side", "expected", "plain"),
    [("qwen2_5_vl", 28, (560, 1008), (336, 644)), ("qwen3_vl", 32, (640, 1152), (384, 736))],
)
def test_a_model_sees_what_lmms_evals_own_class_shows_it(
    name: str,
    side: int,
    expected: tuple[int, int],
    plain: tuple[int, int],
    theirs: dict[str, list[tuple[Path, list[Any]]]],
) -> None:
    """Frames, sizes and tokens of the class that `--model NAME` names, run up to its processor."""
    files, lines = zip(*theirs[name], strict=True)
    assert [line[0] for line in lines] == [f"lmms_eval.models.chat.{name}"] * len(files)
    assert lines[0][-1] == 11_520
    sampler, simple = composed(f"lmms_eval_{name}"), composed("lmms_eval")
    eight_minutes = video(14_400, 30.0, 720, 1280)
    assert sampler.size(eight_minutes, side) == expected
    assert simple.size(eight_minutes, side) == plain  # negative control: Qwen2-VL's preset, 4,416 tokens
    for file, (_, indices, numbers, height, width, tokens) in zip(files, lines, strict=True):
        clip = probe(file)
        count = sampler.count(clip, 2)
        assert list(sampler.indices(clip, count)) == indices == numbers
        assert sampler.size(clip, side) == (height, width)
        assert count // 2 * (height // side) * (width // side) == tokens


@pytest.mark.parametrize("frames", [2, 3, 33, 250, 9_001, 90_001])
@pytest.mark.parametrize("cap", [2, 32, 768, 2048])
def test_qwen_vl_utils_agrees_on_a_number_of_frames(frames: int, cap: int) -> None:
    """`nframes` of qwen-vl-utils, then the processor, for sizes up to those where it resizes a second time."""
    utils = pytest.importorskip("qwen_vl_utils.vision_process", reason="qwen-vl-utils is not installed")
    torch = pytest.importorskip("torch")
    sampler = sampling("lmms_eval_qwen2_5_vl", frames=cap, fps=None, min_pixels=200704, max_pixels=1605632)
    n = utils.smart_nframes({"nframes": min(cap, frames) // 2 * 2}, total_frames=frames, video_fps=25.0)
    assert sampler.count(video(frames), 2) == n
    expected = torch.linspace(0, frames - 1, n).round().long().tolist()
    assert list(sampler.indices(video(frames), n)) == expected
    total = utils.MODEL_SEQ_LEN * 28 * 28 * 0.9
    most = max(min(utils.VIDEO_MAX_TOKEN_NUM * 28 * 28, total / n * 2), int(200704 * 1.05))
    for height, width in ((720, 1280), (1080, 1920), (96, 128), (500, 30)):
        first = utils.smart_resize(height, width, factor=28, min_pixels=200704, max_pixels=min(1605632, most))
        second = utils.smart_resize(*first, factor=28, min_pixels=200704, max_pixels=1605632)
        assert sampler.size(video(frames, 25.0, height, width), 28) == second
        assert first == second or n > 857


def test_qwen2_5_vl_at_a_rate() -> None:
    """lmms-eval's `fps` for that class: all frames at the rate, of which `frames` is ours to cap."""
    sampler = sampling("lmms_eval_qwen2_5_vl", frames=768, fps=2.0)
    count = sampler.count(video(1000), 2)
    assert count == 80
    assert list(sampler.indices(video(1000), count)) == qwen_vl_utils_pool(1000, 25.0, 2.0)
    assert sampling("lmms_eval_qwen2_5_vl", frames=32, fps=2.0).count(video(1000), 2) == 32


def test_halves_that_meet_are_told_apart() -> None:
    total, n = 40_000, 39_999
    torch = pytest.importorskip("torch")
    assert len(set(torch.linspace(0, total - 1, n).round().tolist())) < n
    assert len(set(rounded_linspace(total, n))) == n


# ---- retake


def extracted(clip: Video) -> list[int]:
    """Which frame of the video each 25-fps JPEG shows: the last whose time, rounded to 1 / 25 s, is not later."""
    step = Fraction(25) / Fraction(clip.fps)
    slots = [int(index * step + Fraction(1, 2)) for index in range(clip.frames)]
    return [max(index for index, slot in enumerate(slots) if slot <= jpeg) for jpeg in range(round(clip.frames * step))]


@pytest.mark.parametrize("frames", [26, 251, 1000])
def test_retake_at_25_fps_is_the_released_formula(frames: int) -> None:
    sampler = composed("retake")
    n = int(np.floor(min(frames, 2048, frames / 25 * 4)) / 2) * 2
    assert sampler.count(video(frames), 2) == n
    expected = np.linspace(0, frames - 1, n).astype(np.int32).tolist()
    assert list(sampler.indices(video(frames), n)) == expected
    assert extracted(video(frames)) == list(range(frames))


@pytest.mark.parametrize("fps", [12.5, 30.0, 50.0])
def test_retake_at_other_rates_is_within_a_frame_of_the_jpegs(fps: float) -> None:
    clip, sampler = video(600, fps), composed("retake")
    jpegs = extracted(clip)
    n = int(min(len(jpegs), 2048, len(jpegs) / 25 * 4)) // 2 * 2
    assert sampler.count(clip, 2) == n
    shown = np.array([jpegs[i] for i in np.linspace(0, len(jpegs) - 1, n).astype(int)])
    within = max(1, round(fps / 25))  # one frame of the coarser list
    assert np.abs(shown - sampler.indices(clip, n)).max() <= within
    assert np.abs(shown - np.arange(n)).max() > within  # the bound can fail


def test_retake_caps_and_stays_even() -> None:
    sampler = composed("retake")
    assert sampler.count(video(3600 * 30, 30.0), 2) == 2048
    assert sampler.count(video(33), 1) == 4  # 5.28 frames


# ---- videochat_flash


@pytest.fixture(scope="module")
def cases(small_golden: Path) -> list[dict[str, object]]:
    path = small_golden / "xcomp" / "frames" / "dynamic_fps1_indices.json"  # all 48 cases there are
    loaded: list[dict[str, object]] = json.loads(path.read_text())
    assert len(loaded) == 48
    return loaded


def test_dynamic_fps1_equals_the_released_sampler(cases: list[dict[str, object]]) -> None:
    others = 0
    for case in cases:
        total, rate, fps = int(case["vlen"]), float(case["input_fps"]), float(case["EXTRA_PARAM_FPS"])  # type: ignore[call-overload, arg-type]
        ours = dynamic_fps1(total, rate, fps, case["min"], case["max"])  # type: ignore[arg-type]
        assert ours == case["idx"], case
        others += dynamic_fps1(total, rate, fps + 1, case["min"], case["max"]) != case["idx"]  # type: ignore[arg-type]
    assert others == 10  # where neither bound decides, another rate gives other frames


def test_videochat_flash_samples_those_frames(cases: list[dict[str, object]]) -> None:
    whole = 0
    for case in cases:
        clip = video(int(case["vlen"]), float(case["input_fps"]))  # type: ignore[call-overload, arg-type]
        rate = float(case["EXTRA_PARAM_FPS"])  # type: ignore[arg-type]
        sampler = sampling("videochat_flash", fps=rate, min_frames=case["min"], frames=case["max"])
        indices = sampler.indices(clip, sampler.count(clip, 2))
        if case["n"] <= clip.frames:  # type: ignore[operator]
            assert list(indices) == case["idx"], case
            whole += 1
        else:  # 7 frames, of which the released sampler takes one twice
            assert indices == (0, 1, 2, 3, 4, 5)
    assert whole == 42


# ---- fps


def test_fps_takes_a_frame_every_so_often() -> None:
    sampler = sampling("fps", fps=2.0, frames=768)
    assert sampler.count(video(250), 2) == 20
    assert sampler.indices(video(250), 20) == tuple(int(k * 12.5) for k in range(20))
    assert sampler.count(video(256), 2) == 20  # 21 steps; the odd one is left out
    assert sampler.indices(video(256), 20) == sampler.indices(video(250), 20)
    ntsc = 30000 / 1001
    assert sampler.indices(video(300, ntsc), 20) == tuple(int(k * ntsc / 2 + 1e-6) for k in range(20))
    assert sampling("fps", fps=ntsc, frames=2000).count(video(1000, ntsc), 2) == 1000
    assert sampling("fps", fps=ntsc / 2, frames=2000).indices(video(1000, ntsc), 500) == tuple(range(0, 1000, 2))


def test_fps_goes_by_the_files_timestamps() -> None:
    """Two seconds of stills at 2 frames a second, then a second at 8: average rates would show other frames."""
    seconds = (0.0, 0.5, 1.0, 1.5, *(2 + k / 8 for k in range(8)))
    uneven = replace(video(12, 4.0), seconds=seconds)  # 3 seconds
    sampler = sampling("fps", fps=2.0, frames=768)
    assert sampler.count(uneven, 2) == 6
    assert sampler.indices(uneven, 6) == (0, 1, 2, 3, 4, 8)
    assert [seconds[i] for i in sampler.indices(uneven, 6)] == [0.0, 0.5, 1.0, 1.5, 2.0, 2.5]
    assert sampler.indices(replace(uneven, seconds=None), 6) == (0, 2, 4, 6, 8, 10)
    # 4 a second: until 2 s the same frame is on screen twice, and taken once
    assert sampling("fps", fps=4.0).indices(uneven, 8) == (0, 1, 2, 3, 4, 6, 8, 10)
    late = replace(video(3, 1.0), seconds=(0.0, 0.26, 2.0))
    assert sampling("fps", fps=1.0).indices(late, 3) == (0, 1, 2)  # the one on screen at 1 s began at 0.26
    assert sampling("fps", fps=0.5).indices(late, sampling("fps", fps=0.5).count(late, 1)) == (0, 2)


def test_timestamps_of_an_even_rate_change_nothing() -> None:
    for rate in (25.0, 30000 / 1001):
        even = replace(video(300, rate), seconds=tuple(i / rate for i in range(300)))
        for fps in (0.5, 2.0, 7.0, rate):
            sampler = sampling("fps", fps=fps, frames=768)
            count = sampler.count(even, 2)
            assert count == sampler.count(video(300, rate), 2)
            assert sampler.indices(even, count) == sampler.indices(video(300, rate), count)


def test_fps_caps_and_spreads_evenly() -> None:
    sampler = sampling("fps", fps=1.0, frames=10)
    assert sampler.count(video(2500), 2) == 10
    assert sampler.indices(video(2500), 10) == tuple(range(0, 2500, 250))


def test_fps_above_the_videos_own_takes_every_frame_once() -> None:
    sampler = sampling("fps", fps=100.0, frames=768)
    assert sampler.indices(video(50), sampler.count(video(50), 2)) == tuple(range(50))


def test_min_frames() -> None:
    assert sampling("fps", fps=0.1, min_frames=8).count(video(100), 2) == 8
    assert sampling("fps", fps=0.1).count(video(100), 2) == 2
    assert sampling("retake", fps=0.1, min_frames=8).count(video(100), 2) == 8


# ---- size


@pytest.mark.parametrize(
    ("size", "expected"),
    [((128, 128), (112, 112)), ((360, 640), (84, 140)), ((20, 20), (56, 56)), ((112, 112), (112, 112))],
)
def test_the_built_in_preset_has_sixteen_tokens_a_frame(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert composed("builtin").size(video(100, 25.0, *size), 28) == expected


@pytest.mark.parametrize(
    ("size", "expected"),
    [((720, 1280), (252, 448)), ((1280, 720), (448, 252)), ((360, 400), (364, 392)), ((1080, 1920), (252, 448))],
)
def test_retake_shrinks_the_long_side_to_448(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert composed("retake").size(video(100, 25.0, *size), 28) == expected


@pytest.mark.parametrize(
    ("size", "expected"), [((720, 1280), (251, 448)), ((481, 853), (252, 448)), ((448, 400), None), ((20, 30), None)]
)
def test_retake_shrinks_to_the_long_side_by_nearest_neighbour(
    size: tuple[int, int], expected: tuple[int, int] | None
) -> None:
    clip = video(100, 25.0, *size)
    assert composed("retake").nearest_size(clip) == expected
    assert sampling("retake", long_side=448).nearest_size(clip) is None
    assert composed("retake").size(clip, 28) == sampling("retake", long_side=448, max_pixels=12845056).size(clip, 28)


@settings(max_examples=200, deadline=None)
@given(
    height=st.integers(14, 2200),
    width=st.integers(14, 2200),
    least=st.sampled_from([1, 3136, 100352]),
    more=st.integers(0, 10**6),
)
def test_smart_resize_is_qwens(height: int, width: int, least: int, more: int) -> None:
    from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize as qwens

    assert smart_resize(height, width, 28, least, least + more) == qwens(height, width, 28, least, least + more)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_thread_of_a_video_is_refused(preset: str) -> None:
    with pytest.raises(VideoError, match=r"v\.mp4: expected sides of at most 200 to 1, got 2×402"):
        sampling(preset).size(video(10, 25.0, 2, 402), 28)
    assert sampling(preset).size(video(10, 25.0, 2, 400), 28)


# ---- settings


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            {"preset": "uniform"},
            f"expected one of {', '.join(PRESETS)}, got 'uniform'",
        ),
        ({"frames": 0}, "frames: expected an integer above 0, got 0"),
        ({"frames": "many"}, "frames: expected an integer above 0, got 'many'"),
        ({"frames": 8, "min_frames": 9}, "expected ≥ min_frames 9, got 8"),
        ({"min_pixels": 10, "max_pixels": 9}, "expected ≥ min_pixels 10, got 9"),
        ({"fps": None}, "preset fps needs a number above 0, got None"),
        ({"fps": -1.0}, "needs a number above 0, got -1.0"),
        ({"fps": float("nan")}, "needs a number above 0, got nan"),
        ({"long_side": 0}, "long_side: expected an integer above 0, got 0"),
        ({"resize": "bilinear"}, "resize: expected one of bicubic, nearest, got 'bilinear'"),
        (
            {"resize": "nearest"},
            "resize: nearest is how frames shrink to long_side: expected long_side in pixels, got null",
        ),
    ],
)
def test_wrong_settings(wrong: dict[str, object], message: str) -> None:
    preset = str(wrong.pop("preset", "fps"))
    with pytest.raises(ConfigError, match=message):
        sampling(preset, **wrong)


def test_every_config_file_builds_and_names_its_sources() -> None:
    files = sorted(CONF.glob("*.yaml"))
    assert {file.stem for file in files} == {*PRESETS, "builtin", "lmms_eval_llava", "lmms_eval_llava_video"}
    for file in files:
        composed(file.stem)
        numbers = [
            line for line in file.read_text().splitlines() if line[:1].isalpha() and not line.startswith("preset:")
        ]
        assert all("# source:" in line for line in numbers), file


def test_importing_the_presets_needs_no_torch() -> None:
    code = "import sys, evalkit.data.sampling, evalkit.data.video; print({'torch', 'av', 'decord'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], cwd=CONF.parents[1], check=True, capture_output=True, text=True)
    assert run.stdout == "set()\n"
